#include "kernels/short_conv.h"

#include "kernels/activation.cuh"
#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/segment.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 128;
constexpr int kMaxWidth = 8;
constexpr int kTileRows = 32;  // of one walk through time
constexpr int kBatchRows = 8;  // loaded at once
constexpr int32_t kMaxSlices = 64;

// One sequence's channel pair: where its inputs of this batch and those before it lie.
template <typename T>
struct Inputs {
  const T* x;  // of the first token
  int64_t stride;
  float* window;  // the oldest input before that
  int32_t channels;
  int32_t width;

  // Input at time t of the sequence; zero before the window.
  __device__ float2 At(int32_t t) const {
    if (t >= 0) return LoadPair(x + t * stride);
    if (t < 1 - width) return make_float2(0.0F, 0.0F);
    return LoadPair(window + int64_t{width - 1 + t} * channels);
  }
};

// Only the thread that read the window writes it. Ascending order: entry j takes the input of
// `length` steps later, which is never one that was overwritten.
template <typename T>
__device__ void UpdateWindow(const Inputs<T>& inputs, int32_t length) {
  for (int32_t j = 0; j < inputs.width - 1; ++j) {
    StorePair(inputs.window + int64_t{j} * inputs.channels,
              inputs.At(length - inputs.width + 1 + j));
  }
}

// Grid: (slices of sequences, channel pairs / kThreads). A thread owns two neighbouring channels of
// one sequence and walks its slice's tiles of kTileRows rows; taps before the width are zero. Every
// output is one sum in the order bias, oldest, ..., newest. Bound by memory.
template <typename T, Activation kAct>
__global__ __launch_bounds__(kThreads) void ShortConvKernel(
    const __grid_constant__ ShortConvArgs args, int32_t slices) {
  EnterStream();
  const int32_t channel = 2 * (blockIdx.y * kThreads + threadIdx.x);
  if (channel >= args.channels) return;
  const SequenceSlice slice = SliceOfBlock(args, blockIdx.x, slices);
  const Segment& segment = slice.segment;
  const int32_t tiles = (segment.length + kTileRows - 1) / kTileRows;
  if (slice.first_tile >= tiles) return;
  const Inputs<T> inputs{static_cast<const T*>(args.x) + segment.row * args.x_stride + channel,
                         args.x_stride, args.windows + segment.slot * args.slot_stride + channel,
                         args.channels, args.width};
  T* const y = static_cast<T*>(args.y) + int64_t{segment.row} * args.channels + channel;

  float2 taps[kMaxWidth];
#pragma unroll
  for (int i = 0; i < kMaxWidth; ++i) {
    const int32_t j = i - (kMaxWidth - args.width);
    const float* const weight = args.weight + int64_t{channel} * args.width + j;
    taps[i] = j < 0 ? make_float2(0.0F, 0.0F) : make_float2(weight[0], weight[args.width]);
  }
  const float2 bias =
      args.bias == nullptr ? make_float2(0.0F, 0.0F) : LoadPair(args.bias + channel);

  for (int32_t tile = slice.first_tile; tile < tiles; tile += slice.tile_step) {
    const int32_t begin = tile * kTileRows;
    const int32_t end = min(begin + kTileRows, segment.length);
    float2 seen[kMaxWidth - 1 + kBatchRows];
#pragma unroll
    for (int i = 0; i < kMaxWidth - 1; ++i) seen[i] = inputs.At(begin - (kMaxWidth - 1) + i);
    for (int32_t t = begin; t < end; t += kBatchRows) {
#pragma unroll
      for (int i = 0; i < kBatchRows; ++i) {
        seen[kMaxWidth - 1 + i] = t + i < end ? inputs.At(t + i) : make_float2(0.0F, 0.0F);
      }
#pragma unroll
      for (int i = 0; i < kBatchRows; ++i) {
        float2 sum = bias;
#pragma unroll
        for (int j = 0; j < kMaxWidth; ++j) {
          sum.x = fmaf(taps[j].x, seen[i + j].x, sum.x);
          sum.y = fmaf(taps[j].y, seen[i + j].y, sum.y);
        }
        const float2 out = make_float2(Activated<kAct>(sum.x), Activated<kAct>(sum.y));
        if (t + i < end) StorePair(y + int64_t{t + i} * args.channels, out);
      }
#pragma unroll
      for (int i = 0; i < kMaxWidth - 1; ++i) seen[i] = seen[i + kBatchRows];
    }
    if (tile == 0) UpdateWindow(inputs, segment.length);
  }
}

}  // namespace

void ShortConvCuda(const ShortConvArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.channels > 0 && args.channels % 8 == 0);
  SLUICE_CHECK(args.width >= 2 && args.width <= kMaxWidth);
  SLUICE_CHECK(args.decode_rows >= 0 && args.segment_count >= 0 && args.rows >= args.decode_rows);
  SLUICE_CHECK(args.act == Activation::kSilu || args.act == Activation::kNone);
  SLUICE_CHECK(args.x_stride % 8 == 0 && args.slot_stride % 2 == 0 && args.x != args.y);
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.y) && IsAligned16(args.windows));
  if (args.decode_rows + args.segment_count == 0) return;
  const SequenceBlocks blocks = BlocksOfSequences(args, kTileRows, kMaxSlices);
  const dim3 grid(blocks.count, (args.channels / 2 + kThreads - 1) / kThreads);
  DispatchDType(args.dtype, [&](auto zero) {
    if (args.act == Activation::kSilu) {
      LaunchKernel({grid, kThreads}, stream, ShortConvKernel<decltype(zero), Activation::kSilu>,
                   args, blocks.slices);
    } else {
      LaunchKernel({grid, kThreads}, stream, ShortConvKernel<decltype(zero), Activation::kNone>,
                   args, blocks.slices);
    }
  });
}

}  // namespace sluice
