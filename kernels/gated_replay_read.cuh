// What queries read of the stages of a state's matrix: a part of the replay step (gated_replay.cu).
//
// Of float32 it is sums of products, of which a thread has 16 bytes of some rows. Rounded states
// are multiplied by tensor cores, of which the queries are the rows of A: each cut into limbs, as
// many as hold what a float32 does, which are rows of their own. With w the weights of a slice of a
// head's channels, 2^e above all of them:
//   float16  w = 2^e (h_0 + 2^-11 h_1 + 2^-22 h_2), each of float16; products and sums in float32
//   int8     w = 2^(e - 30) (d_0 + 2^8 d_1 + 2^16 d_2 + 2^24 d_3), int8; sums exact in int32
// Neither rounds a weight by more than 2^-30 of the largest, or of 2^-90 if all are smaller.
#pragma once

#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#include "kernels/gated_replay.cuh"
#include "kernels/mma.cuh"

namespace sluice {

// Where a thread's sums over slice `slice` of the block's are added up: those of head `h` of the
// pass, group of threads `group`.
template <int kHeads>
__device__ float* PartialAt(const ReplayWork<kHeads>& w, int32_t slice, int h, int32_t group) {
  const ReplayParams& p = w.p;
  const int32_t index = (slice * kHeads + h) * p.sum_groups + group;
  return w.memory + p.at.partial + index * w.shape().value_dim;
}

template <StateType kType, int kHeads>
class StateReader;

template <int kHeads>
class StateReader<StateType::kFloat32, kHeads> {
 public:
  __device__ void Begin(const ReplayWork<kHeads>& /*w*/) {}

  __device__ void Clear() {
#pragma unroll
    for (float4& sum : sums_) sum = make_float4(0, 0, 0, 0);
  }

  // Adds the rows of a stage, whose first one is row `first` of the state.
  __device__ void Add(const ReplayWork<kHeads>& w, const char* stage, int32_t first, int32_t rows) {
    if (w.group >= w.p.groups) return;
#pragma unroll 4
    for (int32_t r = w.group; r < rows; r += w.p.groups) {
      const auto x = LoadQuad(reinterpret_cast<const float*>(stage + r * w.p.pitch) + 4 * w.lane);
      const float* const weight = w.memory + w.p.at.weight + first + r;
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        sums_[h] = sluice::Add(sums_[h], weight[h * w.shape().key_dim], x);
      }
    }
  }

  // Puts the sums where those of slice `slice` are, or adds them there.
  __device__ void Store(const ReplayWork<kHeads>& w, int32_t slice, bool adds) const {
    if (w.group >= w.p.groups) return;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      auto* const to = reinterpret_cast<float4*>(PartialAt(w, slice, h, w.group) + 4 * w.lane);
      *to = adds ? sluice::Add(*to, 1.0F, sums_[h]) : sums_[h];
    }
  }

 private:
  float4 sums_[kHeads];
};

// The queries' rows of A, cut into limbs.
template <StateType kType>
struct Limbs;

template <>
struct Limbs<StateType::kFloat16> {
  using Number = __half;
  using Sum = float;
  static constexpr int kCount = 3;
  static constexpr int kStep = 16;  // of K: a product

  __device__ static float Unit(int limb) {
    return limb == 0 ? 1.0F : (limb == 1 ? 0x1p-11F : 0x1p-22F);
  }
  // Where a channel stands in A's row.
  __device__ static int32_t Place(int32_t c) { return c; }
  __device__ static float Scale(int e) { return ldexpf(1.0F, -e); }
  __device__ static void Cut(float scaled, Number (&limbs)[kCount]) {
#pragma unroll
    for (Number& limb : limbs) {
      limb = __float2half_rn(scaled);
      scaled = (scaled - __half2float(limb)) * 0x1p11F;
    }
  }
  // Two tiles of eight columns, from rows `pitch` bytes apart: B of both.
  __device__ static uint4 LoadColumns(const char* tile, int32_t pitch, int lane) {
    return LoadBFromColumns(reinterpret_cast<const __nv_bfloat16*>(tile), pitch / 2, lane);
  }
  __device__ static void Multiply(Sum (&c)[4], const uint4& a, uint32_t b0, uint32_t b1) {
    MmaFloat16(c, a, b0, b1);
  }
  // Stores a lane's two neighbouring columns of each tile, or adds them.
  __device__ static void StoreColumns(float* block, int pair, float2 left, float2 right,
                                      bool adds) {
    auto* const to_left = reinterpret_cast<float2*>(block + 2 * pair);
    auto* const to_right = reinterpret_cast<float2*>(block + 8 + 2 * pair);
    if (adds) {
      left = make_float2(to_left->x + left.x, to_left->y + left.y);
      right = make_float2(to_right->x + right.x, to_right->y + right.y);
    }
    *to_left = left;
    *to_right = right;
  }
};

// One tile has the even columns of a block, the other one the odd ones.
template <>
struct Limbs<StateType::kInt8> {
  using Number = int8_t;
  using Sum = int32_t;
  static constexpr int kCount = 4;
  static constexpr int kStep = 32;

  __device__ static float Unit(int limb) { return ldexpf(1.0F, 8 * limb - 30); }
  // A lane has of 16 channels two neighbours, and those eight behind them.
  __device__ static int32_t Place(int32_t c) {
    return c / 16 * 16 + c % 8 / 2 * 4 + c % 2 + c / 8 % 2 * 2;
  }
  __device__ static float Scale(int e) { return ldexpf(1.0F, 30 - e); }
  __device__ static void Cut(float scaled, Number (&limbs)[kCount]) {
    int32_t left = __float2int_rn(scaled);
#pragma unroll
    for (Number& limb : limbs) {
      limb = static_cast<int8_t>(left & 0xFF);
      left = (left - limb) >> 8;
    }
  }
  __device__ static uint4 LoadColumns(const char* tile, int32_t pitch, int lane) {
    const uint4 pairs =
        LoadTilesTransposed(reinterpret_cast<const __nv_bfloat16*>(tile + lane * pitch));
    return make_uint4(__byte_perm(pairs.x, pairs.y, 0x6420), __byte_perm(pairs.z, pairs.w, 0x6420),
                      __byte_perm(pairs.x, pairs.y, 0x7531), __byte_perm(pairs.z, pairs.w, 0x7531));
  }
  __device__ static void Multiply(Sum (&c)[4], const uint4& a, uint32_t b0, uint32_t b1) {
    MmaInt8(c, a, b0, b1);
  }
  __device__ static void StoreColumns(float* block, int pair, float2 even, float2 odd, bool adds) {
    auto* const to = reinterpret_cast<float4*>(block + 4 * pair);
    const float4 x = make_float4(even.x, odd.x, even.y, odd.y);
    *to = adds ? Add(*to, 1.0F, x) : x;
  }
};

// A warp has every eighth block of 16 columns.
template <StateType kType, int kHeads>
class StateReader {
 public:
  // Cuts the weights of the block's rows. They may be used behind the next MeetReaders. A slice has
  // an exponent of its own: it lies in one block, whatever the number of blocks.
  __device__ void Begin(const ReplayWork<kHeads>& w) {
    const int32_t slice_rows = w.shape().key_dim / w.p.slices;
    const ReplaySpan span = SpanOfBlock(w.p);
    int32_t slice = 0;
#pragma unroll 1
    for (int32_t first = span.begin; first < span.end; first += slice_rows, ++slice) {
#pragma unroll
      for (int h = 0; h < kHeads; ++h) CutSlice(w, slice, h, first, first + slice_rows);
    }
  }

  __device__ void Clear() {
#pragma unroll
    for (auto& block : sums_) {
#pragma unroll
      for (auto& tile : block) {
#pragma unroll
        for (Sum& sum : tile) sum = 0;
      }
    }
  }

  __device__ void Add(const ReplayWork<kHeads>& w, const char* stage, int32_t first, int32_t rows) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int32_t blocks = w.shape().value_dim / kBlock;
#pragma unroll 1
    for (int32_t k = 0; k < rows; k += Format::kStep) {
      const uint4 a = LoadLimbs(w, first + k, lane);
      const char* const from = stage + k * w.p.pitch;
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        const int32_t block = warp + i * kReplayWarps;
        if (block >= blocks) break;
        const uint4 b = Format::LoadColumns(from + block * kBlockBytes, w.p.pitch, lane);
        Format::Multiply(sums_[i][0], a, b.x, b.y);
        Format::Multiply(sums_[i][1], a, b.z, b.w);
      }
    }
  }

  __device__ void Store(const ReplayWork<kHeads>& w, int32_t slice, bool adds) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int32_t blocks = w.shape().value_dim / kBlock;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const int32_t block = warp + i * kReplayWarps;
      if (block >= blocks) break;
      const float2 left = AddLimbs(sums_[i][0], lane);
      const float2 right = AddLimbs(sums_[i][1], lane);
      const int h = lane / 4;
      if (h >= kHeads) continue;
      const float unit = w.shared.units[slice][h];
      Format::StoreColumns(PartialAt(w, slice, h, 0) + block * kBlock, lane % 4,
                           make_float2(left.x * unit, left.y * unit),
                           make_float2(right.x * unit, right.y * unit), adds);
    }
  }

 private:
  using Format = Limbs<kType>;
  using Number = typename Format::Number;
  using Sum = typename Format::Sum;
  static constexpr int kLimbs = Format::kCount;
  static constexpr int kBlock = 16;  // columns
  static constexpr int kBlockBytes = kBlock * static_cast<int>(StateTypeBytes(kType));
  static constexpr int kBlocks = (kMaxGatedValueDim / kBlock + kReplayWarps - 1) / kReplayWarps;
  static_assert(kLimbs * kHeads <= 16, "rows of A");

  // The weights of head `h` in channels [first, end). Those of 2^127 and more are no numbers.
  __device__ static void CutSlice(const ReplayWork<kHeads>& w, int32_t slice, int h, int32_t first,
                                  int32_t end) {
    const int32_t key_dim = w.shape().key_dim;
    const float* const weights = w.memory + w.p.at.weight + h * key_dim;
    // Of numbers that are not negative the larger one has the larger bits.
    uint32_t largest = 0;
    for (int32_t c = first + threadIdx.x % kWarp; c < end; c += kWarp) {
      largest = max(largest, __float_as_uint(fabsf(weights[c])));
    }
    constexpr int kLeast = -90;  // 2^kLeast times the smallest of units is a normal number
    const auto biased = static_cast<int>(__reduce_max_sync(kAllLanes, largest) >> 23);
    const int e = max(biased - 126, kLeast);
    if (threadIdx.x == 0) w.shared.units[slice][h] = biased >= 254 ? NAN : ldexpf(1.0F, e);
    const float scale = Format::Scale(e);
    auto* const limbs = reinterpret_cast<Number*>(w.memory + w.p.at.limbs);
    // One slice is followed by zeros, so that whole products are there.
    const int32_t cut_end = w.p.slices == 1 ? w.p.limb_pitch : end;
    for (int32_t c = first + threadIdx.x; c < cut_end; c += kReplayReaders) {
      Number cut[kLimbs];
      Format::Cut(c < key_dim ? weights[c] * scale : 0.0F, cut);
#pragma unroll
      for (int limb = 0; limb < kLimbs; ++limb) {
        limbs[(limb * kHeads + h) * w.p.limb_pitch + Format::Place(c)] = cut[limb];
      }
    }
  }

  // The lane's part of A, from channel `first` on.
  __device__ static uint4 LoadLimbs(const ReplayWork<kHeads>& w, int32_t first, int lane) {
    constexpr int kRowsOfA = kLimbs * kHeads;
    constexpr int kInWord = 4 / static_cast<int>(sizeof(Number));
    const auto* const words = reinterpret_cast<const uint32_t*>(w.memory + w.p.at.limbs);
    const int32_t row = lane / 4;
    const int32_t pitch = w.p.limb_pitch / kInWord;
    const int32_t at = row * pitch + first / kInWord + lane % 4;
    uint4 a = make_uint4(0, 0, 0, 0);
    if (row < kRowsOfA) {
      a.x = words[at];
      a.z = words[at + 4];
    }
    if (kRowsOfA > 8 && row + 8 < kRowsOfA) {
      a.y = words[at + 8 * pitch];
      a.w = words[at + 8 * pitch + 4];
    }
    return a;
  }

  // Of the lanes of row h of A: the limbs of head h together, of the lane's two columns of a tile.
  __device__ static float2 AddLimbs(const Sum (&sums)[4], int lane) {
    float2 total = make_float2(0, 0);
#pragma unroll
    for (int limb = 0; limb < kLimbs; ++limb) {
      const int half = limb * kHeads / 8 * 2;
      const int from = lane + limb * kHeads % 8 * 4;
      const auto x = static_cast<float>(__shfl_sync(kAllLanes, sums[half], from));
      const auto y = static_cast<float>(__shfl_sync(kAllLanes, sums[half + 1], from));
      total.x = fmaf(x, Format::Unit(limb), total.x);
      total.y = fmaf(y, Format::Unit(limb), total.y);
    }
    return total;
  }

  Sum sums_[kBlocks][2][4];
};

}  // namespace sluice
