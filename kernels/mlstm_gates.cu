#include "kernels/mlstm_gates.h"

#include <cmath>

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/gate_math.cuh"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kDecodeThreads = 128;
constexpr int kWarps = 16;                // tiles of a round
constexpr int kThreads = kWarps * kWarp;  // of a block that walks a segment
constexpr int kLaneTokens = kChunk / kWarp;
static_assert(kLaneTokens == 2, "a warp scans a tile, two tokens a lane");

// A run of tokens: the sum of its log forget gates, and its m if it started from minus infinity.
// One token's are its f and i.
struct Run {
  float sum;
  float max;

  // m after the run, of m before it.
  __device__ float After(float m) const { return fmaxf(sum + m, max); }
};

// Leaves every run that it is joined to as it is.
__device__ Run NoTokens() { return {.sum = 0.0F, .max = -INFINITY}; }

__device__ Run Joined(const Run& first, const Run& second) {
  return {.sum = first.sum + second.sum, .max = second.After(first.max)};
}

__device__ Run Before(const Run& run, int lanes) {
  return {.sum = __shfl_up_sync(kAllLanes, run.sum, lanes),
          .max = __shfl_up_sync(kAllLanes, run.max, lanes)};
}

// Where one head's numbers of a batch lie, and what is added to them.
template <typename T>
struct Head {
  const T* input;
  const T* forget;
  float input_bias;
  float forget_bias;

  __device__ Head(const MlstmGatesArgs& args, int32_t head)
      : input(static_cast<const T*>(args.input) + head),
        forget(static_cast<const T*>(args.forget) + head),
        input_bias(args.input_bias == nullptr ? 0.0F : args.input_bias[head]),
        forget_bias(args.forget_bias == nullptr ? 0.0F : args.forget_bias[head]) {}

  // A token's gates before the cap.
  __device__ float2 Load(const MlstmGatesArgs& args, int64_t row) const {
    return make_float2(ToFloat(input[row * args.input_stride]) + input_bias,
                       ToFloat(forget[row * args.forget_stride]) + forget_bias);
  }
};

__device__ Run TokenRun(float2 gates, float soft_cap) {
  return {.sum = -Log1pExp(-SoftCapped(gates.y, soft_cap)), .max = SoftCapped(gates.x, soft_cap)};
}

// `before` and `m` are m before and after the token. Rounding must not make a decay a growth.
__device__ void StoreGates(const MlstmGatesArgs& args, int64_t row, int32_t head, const Run& token,
                           float before, float m) {
  const int64_t at = row * args.heads + head;
  args.log_decay[at] = fminf(token.sum + before - m, 0.0F);
  args.input_scale[at] = expf(token.max - m);
  args.log_floor[at] = -m;
}

// Grid: decode_rows * heads threads, one a row and head.
template <typename T>
__global__ __launch_bounds__(kDecodeThreads) void DecodeKernel(
    const __grid_constant__ MlstmGatesArgs args) {
  EnterStream();
  const int64_t thread = int64_t{blockIdx.x} * kDecodeThreads + threadIdx.x;
  const int64_t row = thread / args.heads;
  if (row >= args.decode_rows) return;
  const auto head = static_cast<int32_t>(thread % args.heads);
  float* const max = args.max + args.slots[row] * args.slot_stride + head;
  const Run token = TokenRun(Head<T>(args, head).Load(args, row), args.soft_cap);
  const float before = *max;
  const float m = token.After(before);
  StoreGates(args, row, head, token, before, m);
  *max = m;
}

// Two neighbouring tokens, the first of which is token `t` of the segment; either may lie outside.
template <typename T>
struct LanePair {
  float2 gates[kLaneTokens];
  bool is_inside[kLaneTokens];

  __device__ LanePair(const MlstmGatesArgs& args, const Head<T>& head, const Segment& segment,
                      int32_t t) {
#pragma unroll
    for (int i = 0; i < kLaneTokens; ++i) {
      is_inside[i] = t + i >= 0 && t + i < segment.length;
      gates[i] = make_float2(0.0F, 0.0F);
      if (is_inside[i]) gates[i] = head.Load(args, int64_t{segment.row} + t + i);
    }
  }
};

// What stands before this lane's two tokens in the warp's tile.
__device__ Run RunBeforeLane(const Run& lane_run) {
  const int lane = threadIdx.x % kWarp;
  Run scanned = lane_run;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const Run earlier = Before(scanned, offset);
    if (lane >= offset) scanned = Joined(earlier, scanned);
  }
  const Run before = Before(scanned, 1);
  return lane == 0 ? NoTokens() : before;
}

// Grid: (heads, segments). A round takes kWarps tiles, one a warp: each warp scans its own, then
// every thread carries m through the round's tiles one after the other, so that how many tiles
// stand in a round changes no bit. The next round's gates are loaded meanwhile. Bound by the
// latency of a round: 1,024 tokens.
template <typename T>
__global__ __launch_bounds__(kThreads) void SegmentKernel(
    const __grid_constant__ MlstmGatesArgs args) {
  EnterStream();
  __shared__ Run tile_runs[2][kWarps];  // of even and of odd rounds
  const auto head = static_cast<int32_t>(blockIdx.x);
  const Segment segment = args.segments[blockIdx.y];
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const Head<T> gates(args, head);
  float* const max = args.max + segment.slot * args.slot_stride + head;
  float carry = *max;

  // The grid's tiles start before the segment if that starts within one.
  const int32_t first = -(segment.position % kChunk);
  int32_t t = first + warp * kChunk + lane * kLaneTokens;
  LanePair<T> next(args, gates, segment, t);
  int parity = 0;
  for (int32_t round = first; round < segment.length; round += kWarps * kChunk) {
    const LanePair<T> pair = next;
    next = LanePair<T>(args, gates, segment, t + kWarps * kChunk);
    Run tokens[kLaneTokens];
#pragma unroll
    for (int i = 0; i < kLaneTokens; ++i) {
      tokens[i] = pair.is_inside[i] ? TokenRun(pair.gates[i], args.soft_cap) : NoTokens();
    }
    const Run to_first = Joined(RunBeforeLane(Joined(tokens[0], tokens[1])), tokens[0]);
    const Run to_second = Joined(to_first, tokens[1]);
    if (lane == kWarp - 1) tile_runs[parity][warp] = to_second;
    __syncthreads();

    float before = carry;  // m before the warp's tile
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      if (i == warp) before = carry;
      carry = tile_runs[parity][i].After(carry);
    }
    const float m0 = to_first.After(before);
    const float m1 = to_second.After(before);
    const float m_earlier = __shfl_up_sync(kAllLanes, m1, 1);
    const int64_t row = int64_t{segment.row} + t;
    if (pair.is_inside[0]) {
      StoreGates(args, row, head, tokens[0], lane == 0 ? before : m_earlier, m0);
    }
    if (pair.is_inside[1]) StoreGates(args, row + 1, head, tokens[1], m0, m1);
    t += kWarps * kChunk;
    parity ^= 1;
  }
  if (threadIdx.x == 0) *max = carry;
}

}  // namespace

void MlstmGatesCuda(const MlstmGatesArgs& args, cudaStream_t stream) {
  CheckMlstmGates(args);
  SLUICE_CHECK(args.segment_count <= 65535);
  const int64_t decode_threads = int64_t{args.decode_rows} * args.heads;
  const auto decode_blocks =
      static_cast<unsigned>((decode_threads + kDecodeThreads - 1) / kDecodeThreads);
  const dim3 grid(args.heads, args.segment_count);
  DispatchDType(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (decode_blocks > 0) {
      LaunchKernel({decode_blocks, kDecodeThreads}, stream, DecodeKernel<T>, args);
    }
    if (args.segment_count > 0) LaunchKernel({grid, kThreads}, stream, SegmentKernel<T>, args);
  });
}

}  // namespace sluice
