#include "tests/bench/parallel_form.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/mma.cuh"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

using Bf16 = __nv_bfloat16;

constexpr int kWarp = 32;
constexpr int kThreads = 256;
constexpr int kTile = kParallelTile;
constexpr int kKeys = 256;               // K
constexpr int kValues = 512;             // V
constexpr int kFragment = 16;            // rows and columns of an mma operand
constexpr int kSlice = 64;               // channels that the diagonal is prepared in
constexpr int kSlicePitch = kSlice + 1;  // threads of a warp read rows without bank conflicts
constexpr int kKeyPitch = kKeys + 8;     // ldmatrix without bank conflicts
constexpr int kValuePitch = kValues + 8;
constexpr int kScorePitch = kTile + 8;
constexpr int kPairs = kTile * kTile / kThreads;  // scores of a thread on the diagonal
constexpr int kWarpKeys = kTile / 2;              // columns of a warp's scores
constexpr int kWarpValues = kValues / 2;          // columns of a warp's output

struct Buffers {
  Bf16* query;    // [tokens, H, K]: scale * q_i exp(G_i - G_a), a the start of i's tile
  Bf16* key;      // [tokens, H, K]: k_j exp(G_b - G_j), b the end of j's tile
  Bf16* scores;   // [tiles, H, 64, 64]: of the diagonal, zero above it
  double* total;  // [tiles + 1, H, K]: G at the start of each tile
};

Buffers LayOut(const ParallelFormArgs& a) {
  const int64_t keys = int64_t{a.tokens} * a.heads * a.key_dim;
  const int64_t scores = int64_t{a.tokens} * a.heads * kTile;
  Buffers buffers;
  buffers.query = static_cast<Bf16*>(a.workspace);
  buffers.key = buffers.query + keys;
  buffers.scores = buffers.key + keys;
  buffers.total = reinterpret_cast<double*>(buffers.scores + scores);
  return buffers;
}

// ---- prepare ----

struct PrepareShared {
  float query[kTile][kSlicePitch];
  float key[kTile][kSlicePitch];
  float sum[kTile][kSlicePitch];  // of log gates from the tile's start up to and with the row
};

// The running sums of a slice of channels, a thread a channel, and the tile's totals.
__device__ void SumGates(const ParallelFormArgs& a, int64_t row, int channel0,
                         PrepareShared& shared, double* total) {
  const int c = threadIdx.x;
  if (c < kSlice) {
    float sum = 0;
    for (int i = 0; i < kTile; ++i) {
      sum += a.log_decay[(row + int64_t{i} * a.heads) * kKeys + channel0 + c];
      shared.sum[i][c] = sum;
    }
    total[channel0 + c] = sum;
  }
}

// Grid: (tiles, heads). `row` is that of [tokens, H].
__global__ __launch_bounds__(kThreads) void PrepareKernel(ParallelFormArgs a, Buffers b) {
  extern __shared__ __align__(16) unsigned char dynamic[];
  PrepareShared& shared = *reinterpret_cast<PrepareShared*>(dynamic);
  const int64_t row = int64_t{blockIdx.x} * kTile * a.heads + blockIdx.y;
  const int64_t block = int64_t{blockIdx.x} * a.heads + blockIdx.y;
  float score[kPairs] = {};
  for (int channel0 = 0; channel0 < kKeys; channel0 += kSlice) {
    SumGates(a, row, channel0, shared, b.total + (block + a.heads) * kKeys);
    for (int i = threadIdx.x; i < kTile * kSlice; i += kThreads) {
      const int64_t at = (row + int64_t{i / kSlice} * a.heads) * kKeys + channel0 + i % kSlice;
      shared.query[i / kSlice][i % kSlice] = ToFloat(static_cast<const Bf16*>(a.q)[at]) * a.scale;
      shared.key[i / kSlice][i % kSlice] = ToFloat(static_cast<const Bf16*>(a.k)[at]);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < kTile * kSlice; i += kThreads) {
      const int64_t at = (row + int64_t{i / kSlice} * a.heads) * kKeys + channel0 + i % kSlice;
      const float sum = shared.sum[i / kSlice][i % kSlice];
      const float rest = shared.sum[kTile - 1][i % kSlice] - sum;
      b.query[at] = FromFloat<Bf16>(shared.query[i / kSlice][i % kSlice] * expf(sum));
      b.key[at] = FromFloat<Bf16>(shared.key[i / kSlice][i % kSlice] * expf(rest));
    }
    for (int n = 0; n < kPairs; ++n) {
      const int i = (threadIdx.x + n * kThreads) / kTile;
      const int j = (threadIdx.x + n * kThreads) % kTile;
      if (j > i) continue;
      for (int c = 0; c < kSlice; ++c) {
        const float decay = expf(shared.sum[i][c] - shared.sum[j][c]);
        score[n] += shared.query[i][c] * shared.key[j][c] * decay;
      }
    }
    __syncthreads();
  }
  for (int n = 0; n < kPairs; ++n) {
    b.scores[block * kTile * kTile + threadIdx.x + n * kThreads] = FromFloat<Bf16>(score[n]);
  }
}

// From the tiles' totals to what lies before each. Grid: one thread a channel of a head.
__global__ void SumTilesKernel(ParallelFormArgs a, Buffers b) {
  const int64_t channels = int64_t{a.heads} * kKeys;
  const int64_t channel = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (channel >= channels) return;
  double sum = 0;
  b.total[channel] = 0;
  for (int64_t tile = 1; tile <= a.tokens / kTile; ++tile) {
    sum += b.total[tile * channels + channel];
    b.total[tile * channels + channel] = sum;
  }
}

// ---- attend ----

struct AttendShared {
  Bf16 query[kTile][kKeyPitch];
  Bf16 key[kTile][kKeyPitch];
  Bf16 value[kTile][kValuePitch];
  Bf16 score[kTile][kScorePitch];
  float decay[kKeys];  // from the end of the key tile to the start of the query tile
};

// Starts copying a tile of rows that are `stride` apart.
template <int kCols, int kPitch>
__device__ void CopyTile(const Bf16* from, int64_t stride, Bf16 (&to)[kTile][kPitch]) {
  constexpr int kPacks = kCols / kPack;
  for (int i = threadIdx.x; i < kTile * kPacks; i += kThreads) {
    const int column = i % kPacks * kPack;
    CopyAsync(&to[i / kPacks][column], from + i / kPacks * stride + column, true);
  }
}

__device__ void DecayKeys(AttendShared& shared) {
  constexpr int kPacks = kKeys / kPack;
  for (int i = threadIdx.x; i < kTile * kPacks; i += kThreads) {
    const int column = i % kPacks * kPack;
    Pack keys = LoadPack(&shared.key[i / kPacks][column]);
    const Pack decay = LoadPack(&shared.decay[column]);
    for (int n = 0; n < kPack; ++n) keys.v[n] *= decay.v[n];
    StorePack(&shared.key[i / kPacks][column], keys);
  }
}

// A warp's 16 x 32 scores.
__device__ void Score(AttendShared& shared, int row0, int column0, int lane) {
  float sum[kWarpKeys / 8][4] = {};
#pragma unroll 4
  for (int c = 0; c < kKeys; c += kFragment) {
    const uint4 query = LoadAFromRows(&shared.query[row0][c], kKeyPitch, lane);
#pragma unroll
    for (int n = 0; n < kWarpKeys / kFragment; ++n) {
      const uint4 key = LoadBFromRows(&shared.key[column0 + n * kFragment][c], kKeyPitch, lane);
      Mma(sum[2 * n], query, key.x, key.y);
      Mma(sum[2 * n + 1], query, key.z, key.w);
    }
  }
#pragma unroll
  for (int n = 0; n < kWarpKeys / 8; ++n) {
    Bf16* const at = &shared.score[row0 + lane / 4][column0 + n * 8 + lane % 4 * 2];
    *reinterpret_cast<uint32_t*>(at) = PackWord(sum[n][0], sum[n][1]);
    *reinterpret_cast<uint32_t*>(at + 8 * kScorePitch) = PackWord(sum[n][2], sum[n][3]);
  }
}

// A warp's 16 x 256 outputs.
__device__ void StoreOutput(const ParallelFormArgs& a, int tile, int head, int warp, int lane,
                            const float (&sum)[kWarpValues / 8][4]) {
  const int64_t stride = int64_t{a.heads} * kValues;
  const int64_t row = int64_t{tile} * kTile + warp / 2 * kFragment + lane / 4;
  Bf16* const out = static_cast<Bf16*>(a.out) + row * stride + int64_t{head} * kValues +
                    warp % 2 * kWarpValues + lane % 4 * 2;
#pragma unroll
  for (int n = 0; n < kWarpValues / 8; ++n) {
    *reinterpret_cast<uint32_t*>(out + n * 8) = PackWord(sum[n][0], sum[n][1]);
    *reinterpret_cast<uint32_t*>(out + n * 8 + 8 * stride) = PackWord(sum[n][2], sum[n][3]);
  }
}

// Grid: (tiles of queries, heads), the longest first. A warp has 16 rows and half the columns of
// the output, in registers.
__global__ __launch_bounds__(kThreads) void AttendKernel(ParallelFormArgs a, Buffers b) {
  extern __shared__ __align__(16) unsigned char dynamic[];
  AttendShared& shared = *reinterpret_cast<AttendShared*>(dynamic);
  const int tile = gridDim.x - 1 - blockIdx.x;
  const int head = blockIdx.y;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int row0 = warp / 2 * kFragment;
  const int64_t key_stride = int64_t{a.heads} * kKeys;
  const int64_t value_stride = int64_t{a.heads} * kValues;
  const Bf16* const keys = b.key + int64_t{head} * kKeys;
  const Bf16* const values = static_cast<const Bf16*>(a.v) + int64_t{head} * kValues;
  CopyTile<kKeys>(b.query + int64_t{head} * kKeys + int64_t{tile} * kTile * key_stride, key_stride,
                  shared.query);
  float sum[kWarpValues / 8][4] = {};
  for (int other = 0; other <= tile; ++other) {
    const bool diagonal = other == tile;
    const int64_t first = int64_t{other} * kTile;
    const Bf16* const scores = b.scores + (int64_t{tile} * a.heads + head) * kTile * kTile;
    if (diagonal) {
      CopyTile<kTile>(scores, kTile, shared.score);
    } else {
      CopyTile<kKeys>(keys + first * key_stride, key_stride, shared.key);
    }
    CopyAsyncCommit();
    CopyTile<kValues>(values + first * value_stride, value_stride, shared.value);
    CopyAsyncCommit();
    if (!diagonal) {
      const int64_t channel = int64_t{head} * kKeys + threadIdx.x;
      shared.decay[threadIdx.x] = expf(static_cast<float>(
          b.total[tile * key_stride + channel] - b.total[(other + 1) * key_stride + channel]));
      CopyAsyncWait<1>();
      __syncthreads();
      DecayKeys(shared);
      __syncthreads();
      Score(shared, row0, warp % 2 * kWarpKeys, lane);
    }
    CopyAsyncWait<0>();
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kTile; j += kFragment) {
      const uint4 score = LoadAFromRows(&shared.score[row0][j], kScorePitch, lane);
#pragma unroll
      for (int n = 0; n < kWarpValues / kFragment; ++n) {
        const Bf16* const value = &shared.value[j][warp % 2 * kWarpValues + n * kFragment];
        const uint4 column = LoadBFromColumns(value, kValuePitch, lane);
        Mma(sum[2 * n], score, column.x, column.y);
        Mma(sum[2 * n + 1], score, column.z, column.w);
      }
    }
    __syncthreads();
  }
  StoreOutput(a, tile, head, warp, lane, sum);
}

template <typename Kernel>
void AllowShared(Kernel kernel, size_t bytes) {
  SLUICE_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(bytes)));
}

}  // namespace

void ParallelFormCuda(const ParallelFormArgs& args) {
  SLUICE_CHECK(args.tokens > 0 && args.tokens % kTile == 0);
  SLUICE_CHECK(args.key_dim == kKeys && args.value_dim == kValues);
  static_assert(kThreads == kKeys, "a thread fetches one channel's decay");
  const Buffers buffers = LayOut(args);
  const dim3 grid(args.tokens / kTile, args.heads);
  AllowShared(PrepareKernel, sizeof(PrepareShared));
  PrepareKernel<<<grid, kThreads, sizeof(PrepareShared)>>>(args, buffers);
  SLUICE_CUDA_CHECK(cudaGetLastError());
  SumTilesKernel<<<args.heads * kKeys / kThreads, kThreads>>>(args, buffers);
  SLUICE_CUDA_CHECK(cudaGetLastError());
  AllowShared(AttendKernel, sizeof(AttendShared));
  AttendKernel<<<grid, kThreads, sizeof(AttendShared)>>>(args, buffers);
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

void WaitForParallelForm() { SLUICE_CUDA_CHECK(cudaDeviceSynchronize()); }

}  // namespace sluice
