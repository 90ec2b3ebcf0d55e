#include "kernels/token_shift.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/segment.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 128;
constexpr int kTileRows = 16;  // of one walk through time
constexpr int32_t kMaxSlices = 128;

// What a thread does of each of its tokens: 8 neighbouring channels of all results.
template <typename T>
struct Results {
  T* delta;  // of the sequence's first token; or null
  T* mixed;
  int64_t mix_step;
  Pack mu[kMaxTokenMixes];

  __device__ void Store(const TokenShiftArgs& args, int64_t t, const Pack& before,
                        const Pack& now) const {
    Pack delta_pack;
#pragma unroll
    for (int c = 0; c < kPack; ++c) delta_pack.v[c] = before.v[c] - now.v[c];
    if (delta != nullptr) StorePack(delta + t * args.dim, delta_pack);
#pragma unroll
    for (int i = 0; i < kMaxTokenMixes; ++i) {
      if (i >= args.mixes) break;
      Pack mix;
#pragma unroll
      for (int c = 0; c < kPack; ++c) mix.v[c] = fmaf(delta_pack.v[c], mu[i].v[c], now.v[c]);
      StorePack(mixed + i * mix_step + t * args.dim, mix);
    }
  }
};

template <typename T>
__device__ Results<T> ResultsAt(const TokenShiftArgs& args, int32_t row, int32_t channel) {
  const int64_t at = int64_t{row} * args.dim + channel;
  Results<T> results = {};
  if (args.delta != nullptr) results.delta = static_cast<T*>(args.delta) + at;
  if (args.mixes > 0) results.mixed = static_cast<T*>(args.mixed) + at;
  results.mix_step = int64_t{args.rows} * args.dim;
#pragma unroll
  for (int i = 0; i < kMaxTokenMixes; ++i) {
    if (i < args.mixes) results.mu[i] = LoadPack(args.mu + i * args.dim + channel);
  }
  return results;
}

// Grid: (slices of sequences, packs of channels / kThreads). A thread owns 8 neighbouring channels
// of one sequence and walks its slice's tiles of kTileRows rows. The thread that reads the slot,
// that of the first tile, alone writes it. Bound by memory.
template <typename T>
__global__ __launch_bounds__(kThreads) void TokenShiftKernel(
    const __grid_constant__ TokenShiftArgs args, int32_t slices) {
  EnterStream();
  const int32_t channel = (blockIdx.y * kThreads + threadIdx.x) * kPack;
  if (channel >= args.dim) return;
  const SequenceSlice slice = SliceOfBlock(args, blockIdx.x, slices);
  const Segment& segment = slice.segment;
  const int32_t tiles = (segment.length + kTileRows - 1) / kTileRows;
  if (slice.first_tile >= tiles) return;
  const T* const x = static_cast<const T*>(args.x) + segment.row * args.x_stride + channel;
  const Results<T> results = ResultsAt<T>(args, segment.row, channel);
  float* const last = args.last + segment.slot * args.slot_stride + channel;
  for (int32_t tile = slice.first_tile; tile < tiles; tile += slice.tile_step) {
    const int32_t begin = tile * kTileRows;
    const int32_t end = min(begin + kTileRows, segment.length);
    Pack before = tile == 0 ? LoadPack(last) : LoadPack(x + (begin - 1) * args.x_stride);
#pragma unroll 4
    for (int32_t t = begin; t < end; ++t) {
      const Pack now = LoadPack(x + t * args.x_stride);
      results.Store(args, t, before, now);
      before = now;
    }
    if (tile == 0) StorePack(last, LoadPack(x + (segment.length - 1) * args.x_stride));
  }
}

}  // namespace

void TokenShiftCuda(const TokenShiftArgs& args, cudaStream_t stream) {
  CheckTokenShift(args);
  SLUICE_CHECK(args.x_stride % kPack == 0 && args.slot_stride % 4 == 0);
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.delta) && IsAligned16(args.last));
  SLUICE_CHECK(IsAligned16(args.mu) && IsAligned16(args.mixed));
  if (args.decode_rows + args.segment_count == 0) return;
  const SequenceBlocks blocks = BlocksOfSequences(args, kTileRows, kMaxSlices);
  const dim3 grid(blocks.count, (args.dim / kPack + kThreads - 1) / kThreads);
  DispatchDType(args.dtype, [&](auto zero) {
    LaunchKernel({grid, kThreads}, stream, TokenShiftKernel<decltype(zero)>, args, blocks.slices);
  });
}

}  // namespace sluice
