#include "kernels/token_shift.h"

#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/cuda_ops.h"
#include "kernels/pack.cuh"
#include "kernels/segment.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 128;
constexpr int kTileRows = 16;  // of one walk through time
constexpr int32_t kMaxSlices = 128;

// Grid: (slices of sequences, packs of channels / kThreads). A thread owns 8 neighbouring channels
// of one sequence and walks its slice's tiles of kTileRows rows. The thread that reads the slot,
// that of the first tile, alone writes it. Bound by memory.
template <typename T>
__global__ __launch_bounds__(kThreads) void TokenShiftKernel(
    const __grid_constant__ TokenShiftArgs args, int32_t slices) {
  const int32_t channel = (blockIdx.y * kThreads + threadIdx.x) * kPack;
  if (channel >= args.dim) return;
  const SequenceSlice slice = SliceOfBlock(args, blockIdx.x, slices);
  const Segment& segment = slice.segment;
  const int32_t tiles = (segment.length + kTileRows - 1) / kTileRows;
  const T* const x = static_cast<const T*>(args.x) + segment.row * args.x_stride + channel;
  T* const delta = static_cast<T*>(args.delta) + int64_t{segment.row} * args.dim + channel;
  float* const last = args.last + segment.slot * args.slot_stride + channel;
  for (int32_t tile = slice.first_tile; tile < tiles; tile += slice.tile_step) {
    const int32_t begin = tile * kTileRows;
    const int32_t end = min(begin + kTileRows, segment.length);
    Pack before = tile == 0 ? LoadPack(last) : LoadPack(x + (begin - 1) * args.x_stride);
#pragma unroll 4
    for (int32_t t = begin; t < end; ++t) {
      const Pack now = LoadPack(x + t * args.x_stride);
#pragma unroll
      for (int i = 0; i < kPack; ++i) before.v[i] -= now.v[i];
      StorePack(delta + int64_t{t} * args.dim, before);
      before = now;
    }
    if (tile == 0) StorePack(last, LoadPack(x + (segment.length - 1) * args.x_stride));
  }
}

}  // namespace

void TokenShiftCuda(const TokenShiftArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.dim > 0 && args.dim % kPack == 0);
  SLUICE_CHECK(args.decode_rows >= 0 && args.segment_count >= 0 && args.rows >= args.decode_rows);
  SLUICE_CHECK(args.x_stride >= args.dim && args.x_stride % kPack == 0);
  SLUICE_CHECK(args.slot_stride >= args.dim && args.slot_stride % 4 == 0 && args.x != args.delta);
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.delta) && IsAligned16(args.last));
  if (args.decode_rows + args.segment_count == 0) return;
  const SequenceBlocks blocks = BlocksOfSequences(args, kTileRows, kMaxSlices);
  const dim3 grid(blocks.count, (args.dim / kPack + kThreads - 1) / kThreads);
  DispatchDType(args.dtype, [&](auto zero) {
    TokenShiftKernel<decltype(zero)><<<grid, kThreads, 0, stream>>>(args, blocks.slices);
  });
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

}  // namespace sluice
