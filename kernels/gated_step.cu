#include "kernels/gated_step.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/gated_replay_cuda.h"
#include "kernels/gated_step.cuh"
#include "kernels/gated_step_fused_cuda.h"
#include "kernels/gated_step_small_cuda.h"
#include "kernels/gated_step_tile.cuh"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

// Stores the block's columns of the heads.
template <typename T, int kHeads>
__device__ void StoreOutput(const GatedStepArgs& args, const Tile& tile, TileHeads heads,
                            float4 (&sum)[kHeads], TileSums<kHeads>& partial) {
  const GatedShape& s = args.shape;
  ShareSums(sum, partial);
  const int32_t value0 = blockIdx.x * kTileV;
  for (int i = threadIdx.x; i < heads.count * kTileV; i += kTileThreads) {
    const int h = i / kTileV;
    const int v = i % kTileV;
    if (value0 + v >= s.value_dim) continue;
    const float total = TotalOf(partial, h, v);
    const int64_t at =
        (int64_t{tile.slot_row} * s.heads + heads.first + h) * s.value_dim + value0 + v;
    static_cast<T*>(args.operands.out)[at] = FromFloat<T>(total);
  }
}

// Grid: (V / kTileV, kv heads, rows). kHeads query heads share a pass over the state; the first
// pass updates it, or the last one if all have to read what was before. Bound by memory: the state
// read once and written once.
template <typename T, int kHeads, int kInFlight, ReadKind kRead>
__global__ __launch_bounds__(kTileThreads) void GatedStepKernel(
    const __grid_constant__ GatedStepArgs args) {
  EnterStream();
  __shared__ Factors<kHeads> factors;
  __shared__ __align__(16) TileSums<kHeads> partial;
  constexpr bool kExclusive = kRead == ReadKind::kExclusive;

  const GatedShape& s = args.shape;
  const Tile tile = TileOfBlock(s);
  if (FillsUp(args, tile.slot_row)) {
    ZeroOutputs(args, tile.slot_row, tile.kv_head, blockIdx.x * kTileThreads + threadIdx.x,
                gridDim.x * kTileThreads);
    return;
  }
  const TileColumns columns = LoadColumns<T>(args, tile);
  const int32_t group = s.heads / s.kv_heads;
  for (int32_t first = 0; first < group; first += kHeads) {
    const TileHeads heads = {tile.kv_head * group + first, min(kHeads, group - first)};
    const bool updates = kExclusive ? first + kHeads >= group : first == 0;
    float4 sum[kHeads] = {};
    WalkTile<kHeads, kInFlight, kRead>(tile, columns, updates, factors, sum, [&] {
      __syncthreads();
      const GivenDecay log_decay = {ViewGate(s, args.operands, tile.slot_row, tile.kv_head)};
      LoadFactors<T, kHeads, kRead>(args, tile, heads, log_decay, factors);
      __syncthreads();
    });
    StoreOutput<T, kHeads>(args, tile, heads, sum, partial);
  }
}

// One query head a state head is what models have; groups share passes of eight.
template <typename T, ReadKind kRead>
void LaunchStep(const GatedStepArgs& args, cudaStream_t stream) {
  const GatedShape& s = args.shape;
  const dim3 grid(TilesOf(s), s.kv_heads, args.rows);
  if (s.heads == s.kv_heads) {
    LaunchKernel({grid, kTileThreads}, stream, GatedStepKernel<T, 1, 16, kRead>, args);
  } else {
    LaunchKernel({grid, kTileThreads}, stream, GatedStepKernel<T, 8, 8, kRead>, args);
  }
}

// The step over plain states alone.
void LaunchAlone(const GatedStepArgs& args, cudaStream_t stream) {
  if (SharesBlocks(args)) {
    SmallStepCuda(args, stream);
    return;
  }
  DispatchDType(args.shape.dtype, [&](auto zero) {
    if (args.shape.read == ReadKind::kExclusive) {
      LaunchStep<decltype(zero), ReadKind::kExclusive>(args, stream);
    } else {
      LaunchStep<decltype(zero), ReadKind::kInclusive>(args, stream);
    }
  });
}

}  // namespace

void GatedStepCuda(const GatedStepArgs& args, bool portable, cudaStream_t stream) {
  const GatedOperands& op = args.operands;
  CheckGatedStep(args);
  SLUICE_CHECK(args.rows <= 65535);
  SLUICE_CHECK(op.slot_stride % 4 == 0 && IsAligned16(op.states) && IsAligned16(op.v));
  SLUICE_CHECK(IsAligned16(op.value_log_decay));
  if (args.rows == 0) return;
  const bool is_plain = args.shape.state.IsPlain();
  const StepFusion fusion = is_plain ? PlainFusionOf(args, portable) : ReplayFusionOf(args);
  if (args.log_gate != nullptr && !fusion.log_gate) LogGateCuda(*args.log_gate, stream);
  if (!is_plain) {
    GatedReplayCuda(args, fusion, portable, stream);
  } else if (fusion.log_gate || fusion.norm) {
    FusedStepCuda(args, fusion, stream);
  } else {
    LaunchAlone(args, stream);
  }
  if (args.norm != nullptr && !fusion.norm) NormCuda(*args.norm, stream);
}

}  // namespace sluice
