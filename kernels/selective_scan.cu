#include "kernels/selective_scan.h"

#include <cstdint>

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/selective_scan.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 128;
constexpr int kStates = 16;  // of a channel, loaded at once

// Eight numbers as a row of a register array, zeros if there are none.
template <typename T>
__device__ inline void LoadEight(const T* from, bool exists, float* to) {
  const Pack pack = exists ? LoadPack(from) : Pack{};
#pragma unroll
  for (int i = 0; i < kPack; ++i) to[i] = pack.v[i];
}

// Grid: (channels / kThreads, decode rows). A thread has all states of one channel. Bound by the
// states' traffic.
template <typename T>
__global__ __launch_bounds__(kThreads, 5) void ScanRowsKernel(
    const __grid_constant__ SelectiveScanArgs args) {
  EnterStream();
  const int32_t channel = blockIdx.x * kThreads + threadIdx.x;
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
  for (int32_t n = 0; n < size; n += kStates) {
    float a[kStates];
    float b[kStates];
    float c[kStates];
    float h[kStates];
#pragma unroll
    for (int j = 0; j < kStates; ++j) {
      h[j] = n + j < size ? state[int64_t{n + j} * args.channels] : 0.0F;
    }
#pragma unroll
    for (int j = 0; j < kStates; j += kPack) {
      LoadEight(a_log + n + j, n + j < size, a + j);
      LoadEight(b_row + n + j, n + j < size, b + j);
      LoadEight(c_row + n + j, n + j < size, c + j);
    }
    if (n == 0) step = terms.Step(dt, x);
#pragma unroll
    for (int j = 0; j < kStates; ++j) a[j] = LogDecay(a[j]);
    sum += StepStates<kStates>(a, step, b, c, h);
#pragma unroll
    for (int j = 0; j < kStates; ++j) {
      if (n + j < size) state[int64_t{n + j} * args.channels] = h[j];
    }
  }
  static_cast<T*>(args.out)[row * args.channels + channel] =
      FromFloat<T>(terms.Output(sum, x, gate));
}

void ScanRows(const SelectiveScanArgs& args, cudaStream_t stream) {
  const dim3 grid((args.channels + kThreads - 1) / kThreads, args.decode_rows);
  DispatchDType(args.dtype, [&](auto zero) {
    LaunchKernel({grid, kThreads}, stream, ScanRowsKernel<decltype(zero)>, args);
  });
}

void CheckSelectiveScan(const SelectiveScanArgs& args) {
  SLUICE_CHECK(args.channels > 0 && args.channels % 8 == 0);
  SLUICE_CHECK(args.state_size >= 8 && args.state_size % 8 == 0);
  SLUICE_CHECK(args.state_size <= kMaxScanState);
  SLUICE_CHECK(args.decode_rows >= 0 && args.decode_rows <= 65535);
  SLUICE_CHECK(args.segment_count >= 0 && args.segment_count <= 65535);
  SLUICE_CHECK(args.chunk_count >= args.segment_count);
  SLUICE_CHECK(args.chunk_count == 0 || (args.workspace != nullptr && IsAligned16(args.workspace)));
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
  if (args.decode_rows > 0) ScanRows(args, stream);
  if (args.segment_count > 0) SelectiveScanChunks(args, stream);
}

}  // namespace sluice
