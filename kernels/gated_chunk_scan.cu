// The chunkwise form for gated values, in both number formats: one token after another, the state
// float32 in registers. A token's arithmetic does not depend on where its segment began.
#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/cuda_ops.h"
#include "kernels/gated_chunk.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kTileV = 8;                        // columns of a block
constexpr int kLanesV = kTileV / 4;              // threads side by side, 4 columns each
constexpr int kRowGroups = kThreads / kLanesV;   // rows of the state that a block walks at once
constexpr int kOwn = kMaxGatedDim / kRowGroups;  // rows of a thread
constexpr int kTokens = 8;                       // tokens in shared memory at a time
static_assert(kGatedDimMultiple % kTileV == 0, "V is whole tiles");
static_assert(kTokens * kTileV <= kThreads, "a thread an output");

struct ScanShared {
  float4 value[kTokens][kLanesV];
  float4 value_decay[kTokens][kLanesV];
  float4 partial[kTokens][kWarps][kLanesV];
  float factors[1];  // to the end, [3 * kTokens + 1][K]: of each token, then the bonus
};

constexpr int ScanBytes(int key_dim) {
  return static_cast<int>(sizeof(ScanShared)) +
         (3 * kTokens + 1) * key_dim * static_cast<int>(sizeof(float));
}
static_assert(ScanBytes(kMaxGatedDim) <= 99 << 10, "any K fits on any GPU");

// Where the factors of the tokens in shared memory stand.
struct Factors {
  float* query;  // [kTokens, K]
  float* key;
  float* decay;
  float* bonus;  // [K]
};

// What a block works on.
struct Block {
  int kv_head;
  int value0;  // the first column
};

// Puts what multiplies keys' channels at tokens [row, row + count) into shared memory.
template <typename T>
__device__ void LoadFactors(const GatedChunkArgs& args, const Block& block, int head, int64_t row,
                            int count, const Factors& factors) {
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  const T* const q =
      static_cast<const T*>(op.q) + row * op.q_stride + int64_t{head / s.shared_keys} * s.key_dim;
  const T* const k = static_cast<const T*>(op.k) + row * op.k_stride +
                     int64_t{block.kv_head / s.shared_keys} * s.key_dim;
  const GateView gate = ViewGate(s, op, row, block.kv_head);
  for (int t = 0; t < count; ++t) {
    const int64_t scale_at = (row + t) * s.kv_heads + block.kv_head;
    const float scale = op.input_scale == nullptr ? 1.0F : op.input_scale[scale_at];
    for (int c = threadIdx.x; c < s.key_dim; c += kThreads) {
      const int64_t gate_at = t * gate.row_stride + c * gate.channel_stride;
      const int at = t * s.key_dim + c;
      factors.query[at] = ToFloat(q[t * op.q_stride + c]) * s.scale;
      factors.key[at] = ToFloat(k[t * op.k_stride + c]) * scale;
      factors.decay[at] = gate.first == nullptr ? 1.0F : expf(gate.first[gate_at]);
    }
  }
}

// The same of the values' columns.
template <typename T>
__device__ void LoadValues(const GatedChunkArgs& args, const Block& block, int64_t row, int count,
                           ScanShared& shared) {
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  const int t = threadIdx.x / kLanesV;
  if (t >= count) return;
  const int lane = threadIdx.x % kLanesV;
  const int64_t column = int64_t{block.kv_head} * s.value_dim + block.value0 + lane * 4;
  const int64_t gate_row = (row + t) * s.kv_heads * s.value_dim;
  const float4 g = LoadQuad(op.value_log_decay + gate_row + column);
  shared.value[t][lane] = LoadQuad(static_cast<const T*>(op.v) + (row + t) * op.v_stride + column);
  shared.value_decay[t][lane] = make_float4(expf(g.x), expf(g.y), expf(g.z), expf(g.w));
}

// Takes the state over token t, and returns what the thread's rows add to its output.
__device__ float4 TakeToken(const GatedShape& s, const ScanShared& shared, const Factors& factors,
                            int t, float4 (&state)[kOwn]) {
  const bool exclusive = s.read == ReadKind::kExclusive;
  const float4 v = shared.value[t][threadIdx.x % kLanesV];
  const float4 b = shared.value_decay[t][threadIdx.x % kLanesV];
  float4 sum = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int c = i * kRowGroups + threadIdx.x / kLanesV;
    if (c >= s.key_dim) break;
    const float a = factors.decay[t * s.key_dim + c];
    const float k = factors.key[t * s.key_dim + c];
    const float q = factors.query[t * s.key_dim + c];
    const float own = exclusive ? k * factors.bonus[c] : 0.0F;
    const auto take = [&](float& x, float value, float decay, float& out) {
      const float now = fmaf(a, x * decay, k * value);
      out = fmaf(q, exclusive ? fmaf(own, value, x) : now, out);
      x = now;
    };
    take(state[i].x, v.x, b.x, sum.x);
    take(state[i].y, v.y, b.y, sum.y);
    take(state[i].z, v.z, b.z, sum.z);
    take(state[i].w, v.w, b.w, sum.w);
  }
  return sum;
}

// Adds a warp's sums over its rows, in a fixed order.
__device__ void StorePartial(float4 sum, float4 (*partial)[kLanesV]) {
#pragma unroll
  for (int offset = kLanesV; offset < kWarp; offset *= 2) {
    sum.x += __shfl_xor_sync(kAllLanes, sum.x, offset);
    sum.y += __shfl_xor_sync(kAllLanes, sum.y, offset);
    sum.z += __shfl_xor_sync(kAllLanes, sum.z, offset);
    sum.w += __shfl_xor_sync(kAllLanes, sum.w, offset);
  }
  const int lane = threadIdx.x % kWarp;
  if (lane < kLanesV) partial[threadIdx.x / kWarp][lane] = sum;
}

// Adds the warps' sums, and stores the block's columns of tokens [row, row + count).
template <typename T>
__device__ void StoreOutput(const GatedChunkArgs& args, const Block& block, int head, int64_t row,
                            int count, const ScanShared& shared) {
  const GatedShape& s = args.shape;
  const int t = threadIdx.x / kTileV;
  const int column = threadIdx.x % kTileV;
  if (t >= count) return;
  float total = 0.0F;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    total += reinterpret_cast<const float*>(shared.partial[t][w])[column];
  }
  const int64_t at = ((row + t) * s.heads + head) * s.value_dim + block.value0 + column;
  static_cast<T*>(args.operands.out)[at] = FromFloat<T>(total);
}

// Grid: (V / kTileV, kv heads, segments). A block owns 8 columns of one state, a thread 4 of them
// of every 64th row, in registers, and walks the segment's tokens, once for each query head of the
// group. Bound by the latency of one token after another; few columns a block make it short.
template <typename T>
__global__ __launch_bounds__(kThreads) void ScanKernel(
    const __grid_constant__ GatedChunkArgs args) {
  extern __shared__ __align__(16) unsigned char dynamic[];
  ScanShared& shared = *reinterpret_cast<ScanShared*>(dynamic);
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  const Segment segment = args.segments[blockIdx.z];
  const Block block = {static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x) * kTileV};
  Factors factors;
  factors.query = shared.factors;
  factors.key = factors.query + kTokens * s.key_dim;
  factors.decay = factors.key + kTokens * s.key_dim;
  factors.bonus = factors.decay + kTokens * s.key_dim;
  for (int c = threadIdx.x; c < s.key_dim; c += kThreads) {
    const int64_t channel = int64_t{block.kv_head} * s.key_dim + c;
    factors.bonus[c] = op.bonus == nullptr ? 0.0F : op.bonus[channel];
  }

  const int key0 = threadIdx.x / kLanesV;
  const int column = block.value0 + threadIdx.x % kLanesV * 4;
  float* const slot = op.states + segment.slot * op.slot_stride +
                      int64_t{block.kv_head} * s.key_dim * s.value_dim + column;
  const int group = s.heads / s.kv_heads;
  float4 state[kOwn];
  for (int h = 0; h < group; ++h) {
    const int head = block.kv_head * group + h;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int c = i * kRowGroups + key0;
      if (c < s.key_dim) state[i] = LoadQuad(slot + int64_t{c} * s.value_dim);
    }
    for (int first = 0; first < segment.length; first += kTokens) {
      const int count = min(kTokens, segment.length - first);
      const int64_t row = int64_t{segment.row} + first;
      LoadFactors<T>(args, block, head, row, count, factors);
      LoadValues<T>(args, block, row, count, shared);
      __syncthreads();
      for (int t = 0; t < count; ++t) {
        StorePartial(TakeToken(s, shared, factors, t, state), shared.partial[t]);
      }
      __syncthreads();  // Sums are there, and all are done with the factors.
      StoreOutput<T>(args, block, head, row, count, shared);
    }
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int c = i * kRowGroups + key0;
    if (c < s.key_dim) *reinterpret_cast<float4*>(slot + int64_t{c} * s.value_dim) = state[i];
  }
}

}  // namespace

void GatedChunkScan(const GatedChunkArgs& args, cudaStream_t stream) {
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  SLUICE_CHECK(op.slot_stride % 4 == 0 && IsAligned16(op.states));
  SLUICE_CHECK(IsAligned16(op.value_log_decay));
  const dim3 grid(s.value_dim / kTileV, s.kv_heads, args.segment_count);
  DispatchDType(s.dtype, [&](auto zero) {
    using T = decltype(zero);
    SLUICE_CUDA_CHECK(cudaFuncSetAttribute(
        ScanKernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, ScanBytes(kMaxGatedDim)));
    ScanKernel<T><<<grid, kThreads, ScanBytes(s.key_dim), stream>>>(args);
  });
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

}  // namespace sluice
