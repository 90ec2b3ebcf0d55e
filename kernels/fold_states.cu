// Whole matrices of states at a time: rings folded, matrices unpacked into float32 and packed
// again.
#include "kernels/fold_states.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/head_state.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/packed_state.cuh"
#include "kernels/reduce.cuh"
#include "kernels/unpacked_states.cuh"

namespace sluice {
namespace {

constexpr int kWarps = 8;  // of a block, each of which owns a row of a matrix
constexpr int kThreads = kWarps * kWarp;
static_assert(kGatedDimMultiple % kWarps == 0, "a block's rows are of one head");
constexpr int kQuads = (kMaxGatedValueDim / 4 + kWarp - 1) / kWarp;  // of a lane: 5

// A row of V columns: a lane owns quads lane, lane + 32 and so on.
struct MatrixRow {
  float4 quads[kQuads];
};

struct RowPlace {
  int32_t head;
  int32_t channel;
  int64_t index;  // head * K + channel
};

__device__ RowPlace PlaceOfWarp(const GatedShape& s) {
  const int32_t index = blockIdx.x * kWarps + threadIdx.x / kWarp;
  return {index / s.key_dim, index % s.key_dim, index};
}

// Calls visit(i, column) for the quads of the lane.
template <typename Visit>
__device__ void VisitQuads(const GatedShape& s, const Visit& visit) {
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    const int32_t column = 4 * (threadIdx.x % kWarp + i * kWarp);
    if (column < s.value_dim) visit(i, column);
  }
}

__device__ float4 LoadStored(const GatedShape& s, const HeadState& state, int64_t at) {
  if (s.state.type == StateType::kFloat32) return LoadQuad(state.matrix + at);
  if (s.state.type == StateType::kInt8) {
    return UnpackInt8(reinterpret_cast<const uint32_t*>(state.matrix)[at / 4]);
  }
  const uint2 raw = reinterpret_cast<const uint2*>(state.matrix)[at / 4];
  const float2 a = UnpackFloat16(raw.x);
  const float2 b = UnpackFloat16(raw.y);
  return make_float4(a.x, a.y, b.x, b.y);
}

__device__ void Store(const GatedShape& s, const HeadState& state, int64_t at, float4 x,
                      float inverse) {
  if (s.state.type == StateType::kFloat32) {
    *reinterpret_cast<float4*>(state.matrix + at) = x;
  } else if (s.state.type == StateType::kInt8) {
    reinterpret_cast<uint32_t*>(state.matrix)[at / 4] = PackInt8(x, inverse);
  } else {
    reinterpret_cast<uint2*>(state.matrix)[at / 4] =
        make_uint2(PackFloat16(x.x, x.y), PackFloat16(x.z, x.w));
  }
}

// exp(G) exp(B) (S_0 + sum_j k^_j^T v_j), one row of it.
__device__ MatrixRow LoadFolded(const GatedShape& s, const HeadState& state, int32_t channel) {
  const bool has_ring = s.state.ring > 0;
  const int32_t held = has_ring ? HeldIn(state.count) : 0;
  const float decay = has_ring ? expf(state.log_decay[channel]) : 1.0F;
  const float scale = s.state.type == StateType::kInt8 ? state.scales[channel] : 1.0F;
  MatrixRow row;
  VisitQuads(s, [&](int i, int32_t column) {
    const float4 x = LoadStored(s, state, int64_t{channel} * s.value_dim + column);
    row.quads[i] = Add(make_float4(0.0F, 0.0F, 0.0F, 0.0F), decay * scale, x);
  });
  for (int32_t j = 0; j < held; ++j) {
    const float key = decay * state.keys[int64_t{j} * s.key_dim + channel];
    VisitQuads(s, [&](int i, int32_t column) {
      row.quads[i] =
          Add(row.quads[i], key, LoadQuad(state.values + int64_t{j} * s.value_dim + column));
    });
  }
  if (!has_ring || !s.value_gate) return row;
  VisitQuads(s, [&](int i, int32_t column) {
    const float4 b = LoadQuad(state.value_log_decay + column);
    float4& x = row.quads[i];
    x = make_float4(x.x * expf(b.x), x.y * expf(b.y), x.z * expf(b.z), x.w * expf(b.w));
  });
  return row;
}

// Every lane of the warp has read what it needs of the row before any writes.
__device__ void StoreRounded(const GatedShape& s, const HeadState& state, int32_t channel,
                             const MatrixRow& row) {
  float inverse = 1.0F;
  if (s.state.type == StateType::kInt8) {
    uint32_t largest = 0;
    VisitQuads(s, [&](int i, int32_t) {
      const float4 x = row.quads[i];
      largest = max(largest, max(max(MagnitudeBits(x.x), MagnitudeBits(x.y)),
                                 max(MagnitudeBits(x.z), MagnitudeBits(x.w))));
    });
    const float scale = ScaleOfRow(__uint_as_float(__reduce_max_sync(kAllLanes, largest)));
    if (threadIdx.x % kWarp == 0) state.scales[channel] = scale;
    inverse = InverseOfScale(scale);
  }
  VisitQuads(s, [&](int i, int32_t column) {
    Store(s, state, int64_t{channel} * s.value_dim + column, row.quads[i], inverse);
  });
}

__device__ void EmptyRing(const GatedShape& s, const HeadState& state) {
  if (threadIdx.x == 0) *state.count = 0.0F;
  for (int32_t c = threadIdx.x; c < s.key_dim; c += kThreads) state.log_decay[c] = 0.0F;
  if (!s.value_gate) return;
  for (int32_t v = threadIdx.x; v < s.value_dim; v += kThreads) state.value_log_decay[v] = 0.0F;
}

// Grid: (rows of all heads / kWarps, slots). A warp owns a row; the ring is emptied by the kernel
// behind this one, when all rows have been folded.
__global__ __launch_bounds__(kThreads) void FoldKernel(
    const __grid_constant__ FoldStatesArgs args) {
  EnterStream();
  const GatedShape& s = args.shape;
  const RowPlace place = PlaceOfWarp(s);
  const HeadState state =
      ViewHead(s, args.states + args.slots[blockIdx.y] * args.slot_stride, place.head);
  if (HeldIn(state.count) == 0) return;
  StoreRounded(s, state, place.channel, LoadFolded(s, state, place.channel));
}

// Grid: (heads, slots).
__global__ __launch_bounds__(kThreads) void EmptyKernel(
    const __grid_constant__ FoldStatesArgs args) {
  EnterStream();
  float* const slot = args.states + args.slots[blockIdx.y] * args.slot_stride;
  EmptyRing(args.shape, ViewHead(args.shape, slot, blockIdx.x));
}

struct UnpackParams {
  GatedShape shape;
  const Segment* segments;
  float* states;
  int64_t slot_stride;
  float* unpacked;  // [segments, StateSize]
  Segment* table;
};

// Grid: (rows of all heads / kWarps, segments). A warp owns a row. Bytes: the matrix read, float32
// written; the ring comes from the L2 cache, once for each row.
__global__ __launch_bounds__(kThreads) void UnpackKernel(const __grid_constant__ UnpackParams p) {
  EnterStream();
  const GatedShape& s = p.shape;
  Segment segment = p.segments[blockIdx.y];
  const RowPlace place = PlaceOfWarp(s);
  const HeadState state = ViewHead(s, p.states + segment.slot * p.slot_stride, place.head);
  const MatrixRow row = LoadFolded(s, state, place.channel);
  float* const to = p.unpacked + blockIdx.y * s.StateSize() + place.index * s.value_dim;
  VisitQuads(
      s, [&](int i, int32_t column) { *reinterpret_cast<float4*>(to + column) = row.quads[i]; });
  if (blockIdx.x > 0 || threadIdx.x > 0) return;
  segment.slot = static_cast<int32_t>(blockIdx.y);
  p.table[blockIdx.y] = segment;
}

// The same grid. Bytes: float32 read, the matrix written.
__global__ __launch_bounds__(kThreads) void PackKernel(const __grid_constant__ UnpackParams p) {
  EnterStream();
  const GatedShape& s = p.shape;
  const RowPlace place = PlaceOfWarp(s);
  const HeadState state =
      ViewHead(s, p.states + p.segments[blockIdx.y].slot * p.slot_stride, place.head);
  const float* const from = p.unpacked + blockIdx.y * s.StateSize() + place.index * s.value_dim;
  MatrixRow row;
  VisitQuads(s, [&](int i, int32_t column) { row.quads[i] = LoadQuad(from + column); });
  StoreRounded(s, state, place.channel, row);
  // One block of a head.
  if (s.state.ring > 0 && blockIdx.x * kWarps % s.key_dim == 0) EmptyRing(s, state);
}

dim3 GridOfRows(const GatedShape& s, int32_t states) {
  SLUICE_CHECK(states <= 65535);
  return dim3(s.kv_heads * s.key_dim / kWarps, states);
}

UnpackParams ParamsOf(const GatedChunkArgs& packed, const UnpackedChunk& unpacked) {
  const GatedOperands& op = packed.operands;
  SLUICE_CHECK(op.slot_stride % 4 == 0 && IsAligned16(op.states));
  return {packed.shape,  packed.segments, op.states, op.slot_stride, unpacked.args.operands.states,
          unpacked.table};
}

}  // namespace

void FoldStatesCuda(const FoldStatesArgs& args, cudaStream_t stream) {
  CheckFoldStates(args);
  SLUICE_CHECK(args.slot_stride % 4 == 0 && IsAligned16(args.states));
  if (args.shape.state.ring == 0 || args.count == 0) return;
  LaunchKernel({GridOfRows(args.shape, args.count), kThreads}, stream, FoldKernel, args);
  LaunchKernel({dim3(args.shape.kv_heads, args.count), kThreads}, stream, EmptyKernel, args);
}

void UnpackStatesCuda(const GatedChunkArgs& packed, const UnpackedChunk& unpacked,
                      cudaStream_t stream) {
  LaunchKernel({GridOfRows(packed.shape, packed.segment_count), kThreads}, stream, UnpackKernel,
               ParamsOf(packed, unpacked));
}

void PackStatesCuda(const UnpackedChunk& unpacked, const GatedChunkArgs& packed,
                    cudaStream_t stream) {
  LaunchKernel({GridOfRows(packed.shape, packed.segment_count), kThreads}, stream, PackKernel,
               ParamsOf(packed, unpacked));
}

}  // namespace sluice
