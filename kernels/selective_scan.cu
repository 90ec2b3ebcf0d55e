// Sequential in time: channels times states are lanes enough, and the op is bound by exponentials,
// of which a scan in chunks needs twice as many (once for the chunks' own states, once more for the
// outputs).
#include "kernels/selective_scan.h"

#include <cstdint>

#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/cuda_ops.h"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"
#include "kernels/selective_scan.cuh"

namespace sluice {
namespace {

constexpr int kDecodeThreads = 128;
constexpr int kDecodeStates = 16;  // of a channel, loaded at once

// Eight numbers as a row of a register array, zeros if there are none.
template <typename T>
__device__ inline void LoadEight(const T* from, bool exists, float* to) {
  const Pack pack = exists ? LoadPack(from) : Pack{};
#pragma unroll
  for (int i = 0; i < kPack; ++i) to[i] = pack.v[i];
}

// Grid: (channels / kDecodeThreads, decode rows). A thread has all states of one channel. Bound by
// the states' traffic.
template <typename T, int kStates>
__global__ __launch_bounds__(kDecodeThreads, 5) void ScanRowsKernel(
    const __grid_constant__ SelectiveScanArgs args) {
  const int32_t channel = blockIdx.x * kDecodeThreads + threadIdx.x;
  if (channel >= args.channels) return;
  const int64_t row = blockIdx.y;
  const int32_t size = args.state_size;
  float* state = args.states + args.slots[row] * args.slot_stride + channel;
  const float* a_log = args.a_log + int64_t{channel} * size;
  const T* const b_row = static_cast<const T*>(args.b) + row * args.b_stride;
  const T* const c_row = static_cast<const T*>(args.c) + row * args.c_stride;
  const float x = ToFloat(static_cast<const T*>(args.x)[row * args.x_stride + channel]);
  const float dt = ToFloat(static_cast<const T*>(args.dt)[row * args.dt_stride + channel]);
  const ChannelTerms terms = TermsOf(args, channel);
  const float gate =
      terms.has_gate ? ToFloat(static_cast<const T*>(args.gate)[row * args.gate_stride + channel])
                     : 0.0F;

  float2 step = make_float2(0.0F, 0.0F);
  float sum = 0.0F;
  for (int32_t n = 0; n < size; n += kDecodeStates) {
    float a[kDecodeStates];
    float b[kDecodeStates];
    float c[kDecodeStates];
    float h[kDecodeStates];
#pragma unroll
    for (int j = 0; j < kDecodeStates; ++j) {
      h[j] = n + j < size ? state[int64_t{n + j} * args.channels] : 0.0F;
    }
#pragma unroll
    for (int j = 0; j < kDecodeStates; j += kPack) {
      LoadEight(a_log + n + j, n + j < size, a + j);
      LoadEight(b_row + n + j, n + j < size, b + j);
      LoadEight(c_row + n + j, n + j < size, c + j);
    }
    if (n == 0) step = terms.Step(dt, x);
#pragma unroll
    for (int j = 0; j < kDecodeStates; ++j) a[j] = LogDecay(a[j]);
#pragma unroll
    for (int j = 0; j < kDecodeStates; j += kStates) {
      if (n + j < size) sum += StepStates<kStates>(a + j, step, b + j, c + j, h + j);
    }
#pragma unroll
    for (int j = 0; j < kDecodeStates; ++j) {
      if (n + j < size) state[int64_t{n + j} * args.channels] = h[j];
    }
  }
  static_cast<T*>(args.out)[row * args.channels + channel] =
      FromFloat<T>(terms.Output(sum, x, gate));
}

// Grid: (channels / 32, segments). The first kHelperWarps warps turn tile i into steps while the
// others, one for each kStates states, scan tile i - 1; then the helpers finish tile i - 2.
template <class S, typename T>
__global__ __launch_bounds__(kMaxThreads<S>, S::kBlocks) void ScanSegmentsKernel(
    const __grid_constant__ SelectiveScanArgs args) {
  __shared__ __align__(16) TileBuffers<S> buffers[2];
  const Segment segment = args.segments[blockIdx.y];
  const int32_t lane = threadIdx.x % kWarp;
  const int32_t warp = threadIdx.x / kWarp;
  const int32_t channel = blockIdx.x * kWarp + lane;
  const int32_t tiles = (segment.length + S::kTile - 1) / S::kTile;
  float* const states = args.states + segment.slot * args.slot_stride;
  const bool is_helper = warp < kHelperWarps;

  const auto helper = Helper<S, T>::Open(args, segment, channel);
  typename Helper<S, T>::Inputs inputs;
  T x[2][kOwnTokens<S>];  // of the tiles i - 1 and i - 2
  Scanner<S> scanner;
  scanner.group = warp - kHelperWarps;
  scanner.lane = lane;
  if (is_helper) {
    helper.Fetch(args, 0, &inputs);
  } else {
    scanner.Open(args, states, channel);
  }

  for (int32_t i = 0; i < tiles + 2; ++i) {
    if (is_helper) {
      T gate[kOwnTokens<S>];
      helper.FetchGate(args, i - 2, gate);
      helper.Stage(inputs, buffers[i % 2]);
      if (i >= 2) helper.Write(args, i - 2, buffers[i % 2], x[1], gate);
#pragma unroll
      for (int k = 0; k < kOwnTokens<S>; ++k) {
        x[1][k] = x[0][k];
        x[0][k] = inputs.x[k];
      }
      helper.Fetch(args, i + 1, &inputs);
    } else if (i > 0 && i <= tiles) {
      const int32_t tokens = min(S::kTile, segment.length - (i - 1) * S::kTile);
      scanner.Scan(buffers[(i - 1) % 2], tokens);
    }
    __syncthreads();
  }
  if (!is_helper) scanner.Close(args, states, channel);
}

template <class S>
void ScanSegments(const SelectiveScanArgs& args, cudaStream_t stream) {
  const int groups = (args.state_size + S::kStates - 1) / S::kStates;
  const dim3 grid((args.channels + kWarp - 1) / kWarp, args.segment_count);
  const int threads = (groups + kHelperWarps) * kWarp;
  DispatchDType(args.dtype, [&](auto zero) {
    ScanSegmentsKernel<S, decltype(zero)><<<grid, threads, 0, stream>>>(args);
  });
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

template <int kStates>
void ScanRows(const SelectiveScanArgs& args, cudaStream_t stream) {
  const dim3 grid((args.channels + kDecodeThreads - 1) / kDecodeThreads, args.decode_rows);
  DispatchDType(args.dtype, [&](auto zero) {
    ScanRowsKernel<decltype(zero), kStates><<<grid, kDecodeThreads, 0, stream>>>(args);
  });
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

void CheckSelectiveScan(const SelectiveScanArgs& args) {
  SLUICE_CHECK(args.channels > 0 && args.channels % 8 == 0);
  SLUICE_CHECK(args.state_size >= 8 && args.state_size % 8 == 0);
  SLUICE_CHECK(args.state_size <= kMaxScanState);
  SLUICE_CHECK(args.decode_rows >= 0 && args.decode_rows <= 65535);
  SLUICE_CHECK(args.segment_count >= 0 && args.segment_count <= 65535);
  SLUICE_CHECK(args.rows >= args.decode_rows);
  SLUICE_CHECK(args.x_stride >= args.channels && args.x_stride % 8 == 0);
  SLUICE_CHECK(args.dt_stride >= args.channels && args.dt_stride % 8 == 0);
  SLUICE_CHECK(args.b_stride >= args.state_size && args.b_stride % 8 == 0);
  SLUICE_CHECK(args.c_stride >= args.state_size && args.c_stride % 8 == 0);
  SLUICE_CHECK(args.gate == nullptr ||
               (args.gate_stride >= args.channels && args.gate_stride % 8 == 0));
  SLUICE_CHECK(args.slot_stride >= int64_t{args.state_size} * args.channels);
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.dt) && IsAligned16(args.gate));
  SLUICE_CHECK(IsAligned16(args.b) && IsAligned16(args.c) && IsAligned16(args.a_log));
  SLUICE_CHECK(IsAligned16(args.states) && IsAligned16(args.out));
}

}  // namespace

void SelectiveScanCuda(const SelectiveScanArgs& args, cudaStream_t stream) {
  CheckSelectiveScan(args);
  SLUICE_CHECK(args.dtype == DType::kFloat32 || args.dtype == DType::kBFloat16);
  // The sums of states that are added up follow the state's size alone.
  if (args.decode_rows > 0) {
    if (args.state_size <= MediumScan::kMaxState) {
      ScanRows<MediumScan::kStates>(args, stream);
    } else {
      ScanRows<LargeScan::kStates>(args, stream);
    }
  }
  if (args.segment_count == 0) return;
  if (args.state_size <= SmallScan::kMaxState) {
    ScanSegments<SmallScan>(args, stream);
  } else if (args.state_size <= MediumScan::kMaxState) {
    ScanSegments<MediumScan>(args, stream);
  } else {
    ScanSegments<LargeScan>(args, stream);
  }
}

}  // namespace sluice
