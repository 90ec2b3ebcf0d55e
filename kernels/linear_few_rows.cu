#include <algorithm>
#include <type_traits>

#include "kernels/check.h"
#include "kernels/fetch_rows.cuh"
#include "kernels/float8.cuh"
#include "kernels/launch.cuh"
#include "kernels/linear_cuda.h"
#include "kernels/mma.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"
#include "kernels/ring.cuh"

namespace sluice {
namespace {

constexpr int kWarps = 8;  // that multiply; with tensor cores one more fetches
constexpr int kThreads = kWarps * kWarp;
constexpr int kFeedingThreads = kThreads + kWarp;
constexpr int kTile = 16;               // outputs of one
constexpr int kStep = 4 * kPack;        // of K: two products, of which a lane has a pack
constexpr int kPart = 128;              // of K: a warp's share of a chunk
constexpr int kChunk = kWarps * kPart;  // of K
constexpr int kMostStages = 3;          // chunks of a tile on their way: 99 KB, two blocks of 9.0
constexpr int kLeastStages = 2;         // where a block may not have as much
constexpr int kHeld = 2;                // chunks of x that a lane holds its parts of
constexpr int kPitch = kChunk + kStep;  // neighbouring rows of a tile lie in other banks
constexpr int kSumPitch = kTile + 4;    // likewise
constexpr int kPlainDim = 128;          // of K: no more is over before a ring has begun

// Weights are bfloat16, or float8 in half as many bytes, of which as many are on their way.
template <typename Weight>
using Chunk = Weight[kTile][kPitch];
template <typename Weight>
constexpr int kStagesOfBFloat16 = static_cast<int>(sizeof(__nv_bfloat16) / sizeof(Weight));

struct Sums {
  float of[kWarps][kLinearFewRows][kSumPitch];
};

template <typename Weight, int kStages>
struct Shared {
  StageRing<Chunk<Weight>, kStages> weights;
  Sums sums[2];  // of neighbouring tiles
  Barrier summed[2];
};

// A block owns neighbouring outputs of one product, one of `parts` parts, and takes them tile by
// tile, a tile's weights chunk by chunk of K.
template <typename Weight>
struct Work {
  const __nv_bfloat16* x;
  const Weight* weight;
  int32_t begin;  // of the outputs
  int32_t end;
  int32_t chunks;

  __device__ Work(const LinearArgs& args, uint32_t part, uint32_t parts)
      : x(static_cast<const __nv_bfloat16*>(args.x) + blockIdx.y * args.x_step),
        weight(static_cast<const Weight*>(args.weight) + blockIdx.y * args.weight_step),
        begin(static_cast<int32_t>(int64_t{args.out_dim} * part / parts)),
        end(static_cast<int32_t>(int64_t{args.out_dim} * (part + 1) / parts)),
        chunks((args.in_dim + kChunk - 1) / kChunk) {}
};

// The fetching warp: all of the block's weights in the order in which they are used, a stage each
// as soon as it is free.
template <typename Weight, int kStages>
__device__ void Feed(const LinearArgs& args, const Work<Weight>& work,
                     Shared<Weight, kStages>& shared) {
  constexpr int32_t kBytes = sizeof(Weight);
  auto place = Filling(shared.weights);
  for (int32_t output = work.begin; output < work.end; output += kTile) {
    for (int32_t k = 0; k < args.in_dim; k += kChunk) {
      place.empty().Wait(place.parity);
      // What is not there of outputs and of K stays what it was.
      FetchRows({.to = place.stage(),
                 .to_pitch = kPitch * kBytes,
                 .from = work.weight + int64_t{output} * args.in_dim + k,
                 .from_pitch = int64_t{args.in_dim} * kBytes,
                 .bytes = min(kChunk, args.in_dim - k) * kBytes,
                 .rows = min(kTile, work.end - output)},
                place.full());
      place.Advance();
    }
  }
  EndFetches();
}

// A lane's numbers of the warp's part of a chunk of x: with g = lane / 4 and t = lane % 4 packs t
// and t + 4 of row g, zeros where there are none. A product takes its operands' columns
// of K in the order in which the packs hold them.
struct Inputs {
  uint4 packs[kPart / kStep];

  // `k` is that of the lane's first pack.
  __device__ void Load(const LinearArgs& args, const __nv_bfloat16* x, int32_t k) {
    const int32_t row = threadIdx.x % kWarp / 4;
    const __nv_bfloat16* const from = x + row * args.x_stride + k;
#pragma unroll
    for (int step = 0; step < kPart / kStep; ++step) {
      packs[step] = make_uint4(0, 0, 0, 0);
      if (row < args.rows && k + step * kStep < args.in_dim) {
        packs[step] = *reinterpret_cast<const uint4*>(from + step * kStep);
      }
    }
  }
};

// The lane's first column of a chunk.
__device__ int OwnColumn() {
  return static_cast<int>(threadIdx.x) / kWarp * kPart + static_cast<int>(threadIdx.x) % 4 * kPack;
}

// Eight neighbours at `from`, 16-byte aligned.
__device__ uint4 LoadEight(const __nv_bfloat16* from) {
  return *reinterpret_cast<const uint4*>(from);
}

// Adds the products of the warp's part of a chunk, of which `length` columns of K are there.
template <typename Weight>
__device__ void AddPart(const Inputs& x, const Chunk<Weight>& weights, int32_t length,
                        float (&sums)[4]) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int step = 0; step < kPart / kStep; ++step) {
    const int k = OwnColumn() + step * kStep;
    uint4 low = make_uint4(0, 0, 0, 0);  // What lies behind K may be no number.
    uint4 high = low;
    if (k < length) {
      low = LoadEight(&weights[lane / 4][k]);
      high = LoadEight(&weights[lane / 4 + 8][k]);
    }
    const uint4 packs = x.packs[step];
    Mma(sums, make_uint4(low.x, high.x, low.y, high.y), packs.x, packs.y);
    Mma(sums, make_uint4(low.z, high.z, low.w, high.w), packs.z, packs.w);
  }
}

// Keeps a warp's sums of a tile, and tells.
__device__ void KeepSums(const float (&sums)[4], Sums& kept, Barrier& summed) {
  const int lane = threadIdx.x % kWarp;
  auto& own = kept.of[threadIdx.x / kWarp];
  const int row = lane % 4 * 2;
  own[row][lane / 4] = sums[0];
  own[row + 1][lane / 4] = sums[1];
  own[row][lane / 4 + 8] = sums[2];
  own[row + 1][lane / 4 + 8] = sums[3];
  summed.Arrive();
}

// Adds up what the warps have of a tile, each for its part of K, and stores it: a thread one
// result.
template <typename Weight, typename Y>
struct Results {
  Y* at = nullptr;  // null if the thread has none
  float before = 0.0F;
  float scale = 1.0F;  // of the weights, exact whenever it is applied

  Results() = default;
  __device__ Results(const LinearArgs& args, const Work<Weight>& work, int32_t first) {
    const int32_t row = threadIdx.x / kTile;
    const int32_t output = first + static_cast<int32_t>(threadIdx.x) % kTile;
    if (row >= args.rows || output >= work.end) return;
    at = static_cast<Y*>(args.y) + blockIdx.y * args.y_step + row * args.y_stride + output;
    if (args.accumulate) before = ToFloat(*at);
    if constexpr (std::is_same_v<Weight, Float8>) scale = args.weight_scale[output];
  }

  __device__ void Store(const Sums& kept) const {
    if (at == nullptr) return;
    float sum = 0.0F;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      sum += kept.of[warp][threadIdx.x / kTile][threadIdx.x % kTile];
    }
    if constexpr (std::is_same_v<Weight, Float8>) sum *= scale;
    *at = FromFloat<Y>(before + sum);
  }
};

// The multiplying warps. Weights are the first operand of the tensor cores, 16 outputs, rows of x
// the second, so that a row's bits do not depend on the number of rows. x stays in registers if it
// fits there, else its parts are loaded anew for each tile, kHeld chunks ahead. A tile is stored
// when the next one has been multiplied, so that a warp seldom waits for another: by then most have
// told.
template <typename Y, typename Weight, int kStages>
__device__ void Multiply(const LinearArgs& args, const Work<Weight>& work,
                         Shared<Weight, kStages>& shared) {
  Inputs inputs[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) inputs[i].Load(args, work.x, OwnColumn() + i * kChunk);
  auto place = Draining(shared.weights);
  Results<Weight, Y> before;
  int tile = 0;
  const auto store = [&] {
    shared.summed[tile % 2].Wait(tile / 2 % 2);
    before.Store(shared.sums[tile % 2]);
  };
  for (int32_t output = work.begin; output < work.end; output += kTile) {
    const Results<Weight, Y> results(args, work, output);
    float sums[4] = {};
    for (int32_t first = 0; first < work.chunks; first += kHeld) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        const int32_t chunk = first + i;
        if (chunk >= work.chunks) break;
        place.full().Wait(place.parity);
        AddPart<Weight>(inputs[i], place.stage(), args.in_dim - chunk * kChunk, sums);
        place.empty().Arrive();
        place.Advance();
        if (work.chunks <= kHeld) continue;
        const bool ends = chunk + kHeld >= work.chunks;
        if (ends && output + kTile >= work.end) continue;
        inputs[i].Load(args, work.x, OwnColumn() + (ends ? i : chunk + kHeld) * kChunk);
      }
    }
    if (output > work.begin) {
      store();
      ++tile;
    }
    before = results;
    KeepSums(sums, shared.sums[tile % 2], shared.summed[tile % 2]);
  }
  if (work.begin < work.end) store();
}

// Part `part` of `parts` of a product's outputs, by all threads of a block.
template <typename Weight, typename Y, int kStages>
__device__ void MultiplyPart(const LinearArgs& args, uint32_t part, uint32_t parts,
                             Shared<Weight, kStages>& shared) {
  if (threadIdx.x == kThreads) {
    shared.weights.Init(kFetchArrivals, kThreads);
    for (Barrier& summed : shared.summed) summed.Init(kThreads);
#if __CUDA_ARCH__ >= 900
    FenceBarrierInit();
#endif
  }
  __syncthreads();
  const Work<Weight> work(args, part, parts);
  if (threadIdx.x >= kThreads) {
    Feed(args, work, shared);
    AwaitEarlierKernels();
    return;
  }
  AwaitEarlierKernels();
  Multiply<Y>(args, work, shared);
}

// Grid: (parts of the outputs, products of the batch), one block a multiprocessor; behind `parts`
// of a product with float8 weights, and beside them, those of another one with bfloat16 weights.
// Bound by memory: weights are read once, and asked for before what came before has ended.
template <typename Weight, typename Y, int kStages>
__global__ __launch_bounds__(kFeedingThreads,
                             2) void LinearFewRowsKernel(const __grid_constant__ LinearArgs args,
                                                         const __grid_constant__ LinearArgs beside,
                                                         uint32_t parts) {
  extern __shared__ __align__(16) unsigned char raw[];
  AllowNextKernel();
  if constexpr (std::is_same_v<Weight, Float8>) {
    if (blockIdx.x >= parts) {
      using Beside = Shared<__nv_bfloat16, kStages / kStagesOfBFloat16<Weight>>;
      MultiplyPart<__nv_bfloat16, Y>(beside, blockIdx.x - parts, gridDim.x - parts,
                                     *reinterpret_cast<Beside*>(raw));
      return;
    }
  }
  MultiplyPart<Weight, Y>(args, blockIdx.x, parts,
                          *reinterpret_cast<Shared<Weight, kStages>*>(raw));
}

// Without tensor cores. Grid: (outputs, `kThreads` / `team` a block; products of the batch). A team
// of threads, part of a warp, owns one output of all rows; what it adds up in which order is a
// matter of in_dim alone.
template <typename T, typename Y>
__global__ __launch_bounds__(kThreads) void LinearPlainRowsKernel(
    const __grid_constant__ LinearArgs args, int32_t team) {
  EnterStream();
  const auto output = static_cast<int32_t>((blockIdx.x * kThreads + threadIdx.x) / team);
  const int32_t member = static_cast<int32_t>(threadIdx.x) % team;
  const T* const x = static_cast<const T*>(args.x) + blockIdx.y * args.x_step;
  const T* const weight = static_cast<const T*>(args.weight) + blockIdx.y * args.weight_step +
                          int64_t{output} * args.in_dim;
  float sums[kLinearFewRows] = {};
#pragma unroll 4
  for (int32_t k = member * kPack; output < args.out_dim && k < args.in_dim; k += team * kPack) {
    const Pack w = LoadPack(weight + k);
#pragma unroll
    for (int r = 0; r < kLinearFewRows; ++r) {
      if (r >= args.rows) break;
      const Pack xr = LoadPack(x + r * args.x_stride + k);
#pragma unroll
      for (int c = 0; c < kPack; ++c) sums[r] = fmaf(xr.v[c], w.v[c], sums[r]);
    }
  }
  Y* const y = static_cast<Y*>(args.y) + blockIdx.y * args.y_step + output;
#pragma unroll
  for (int r = 0; r < kLinearFewRows; ++r) {
    if (r >= args.rows) return;
    for (int32_t offset = team / 2; offset > 0; offset /= 2) {
      sums[r] += __shfl_xor_sync(kAllLanes, sums[r], offset);
    }
    if (member != 0 || output >= args.out_dim) continue;
    Y* const at = y + r * args.y_stride;
    *at = FromFloat<Y>(args.accumulate ? ToFloat(*at) + sums[r] : sums[r]);
  }
}

// The smallest power of two, at most `most`, of which each has one of `parts` parts or more do.
int32_t TeamOf(int32_t parts, int32_t most) {
  int32_t team = 1;
  while (team < most && team < parts) team *= 2;
  return team;
}

template <typename T, typename Y>
void LaunchPlain(const LinearArgs& args, cudaStream_t stream) {
  const int32_t team = TeamOf(args.in_dim / kPack, kWarp);
  const int64_t threads = int64_t{args.out_dim} * team;
  const dim3 grid(static_cast<unsigned>((threads + kThreads - 1) / kThreads), args.batch);
  LaunchKernel({grid, kThreads}, stream, LinearPlainRowsKernel<T, Y>, args, team);
}

int32_t PartsOf(const LinearArgs& args) {
  const int32_t most = (args.out_dim + kTile / 2 - 1) / (kTile / 2);
  return std::clamp(MultiprocessorCount() / args.batch, 1, most);
}

template <typename Weight, typename Y>
void LaunchRing(const LinearArgs& args, const LinearArgs* beside, cudaStream_t stream) {
  const int32_t parts = PartsOf(args);
  const int32_t others = beside == nullptr ? 0 : PartsOf(*beside);
  const auto launch = [&](auto stages) {
    constexpr int kStages = decltype(stages)::value;
    constexpr int kBesideStages = kStages / kStagesOfBFloat16<Weight>;
    constexpr size_t kBytes =
        std::max(sizeof(Shared<Weight, kStages>), sizeof(Shared<__nv_bfloat16, kBesideStages>));
    const LaunchShape shape = {dim3(parts + others, args.batch), kFeedingThreads, kBytes};
    LaunchKernel(shape, stream, LinearFewRowsKernel<Weight, Y, kStages>, args,
                 beside == nullptr ? args : *beside, static_cast<uint32_t>(parts));
  };
  constexpr int kMost = kMostStages * kStagesOfBFloat16<Weight>;
  constexpr int kLeast = kLeastStages * kStagesOfBFloat16<Weight>;
  if (LargestSharedBytes() >= sizeof(Shared<Weight, kMost>)) {
    launch(std::integral_constant<int, kMost>());
  } else {
    launch(std::integral_constant<int, kLeast>());
  }
}

template <typename Y>
void LaunchTo(const LinearArgs& args, const LinearArgs* beside, cudaStream_t stream) {
  SLUICE_CHECK(beside == nullptr || args.weight_dtype == DType::kFloat8);
  if (args.weight_dtype == DType::kFloat8) {
    LaunchRing<Float8, Y>(args, beside, stream);
  } else if (args.in_dim <= kPlainDim) {
    LaunchPlain<__nv_bfloat16, Y>(args, stream);
  } else {
    LaunchRing<__nv_bfloat16, Y>(args, nullptr, stream);
  }
}

void Launch(const LinearArgs& args, const LinearArgs* beside, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 1 && args.rows <= kLinearFewRows && args.batch <= 65535);
  DispatchDType(args.y_dtype, [&](auto y) { LaunchTo<decltype(y)>(args, beside, stream); });
}

}  // namespace

void LinearFewRowsCuda(const LinearArgs& args, cudaStream_t stream) {
  if (args.x_dtype == DType::kBFloat16) {
    Launch(args, nullptr, stream);
    return;
  }
  SLUICE_CHECK(args.rows >= 1 && args.rows <= kLinearFewRows && args.batch <= 65535);
  LaunchPlain<float, float>(args, stream);
}

bool LinearFewRowsPairCuda(const LinearArgs& float8, const LinearArgs& beside,
                           cudaStream_t stream) {
  SLUICE_CHECK(float8.rows == beside.rows);
  const bool fits = float8.weight_dtype == DType::kFloat8 &&
                    beside.weight_dtype == DType::kBFloat16 && beside.in_dim > kPlainDim &&
                    beside.batch == 1 && beside.y_dtype == float8.y_dtype;
  if (fits) Launch(float8, &beside, stream);
  return fits;
}

}  // namespace sluice
