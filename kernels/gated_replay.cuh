// What the threads of the replay step (gated_replay.cu) share.
#pragma once

#include <cstdint>

#include "kernels/cluster.cuh"
#include "kernels/gated_replay_plan.h"
#include "kernels/gated_step.h"
#include "kernels/gated_step_fusion.h"
#include "kernels/head_state.h"
#include "kernels/packed_state.cuh"

namespace sluice {

struct ReplayParams {
  GatedStepArgs args;
  StateParts parts;  // of the shape
  ReplayPlan plan;
  // The parts of the step that the launch does, whose pointers in `args` are the host's.
  StepFusion fusion;
  LogGateArgs log_gate;
  NormArgs norm;
};

// A state head of a row, and what a thread has of it.
template <StateType kType>
struct ReplayWork {
  const ReplayParams& params;
  float* memory;      // shared
  StepFusion fusion;  // that of params; a constant in kernels that do no part
  HeadState state;
  int32_t row;  // of the batch
  int32_t kv_head;
  int32_t rank;   // of the block in its cluster
  int32_t held;   // tokens in the ring
  int32_t lane;   // in [0, lanes)
  int32_t group;  // in [0, groups), or beyond: the thread has no part of the matrix

  __device__ const GatedShape& shape() const { return params.args.shape; }
  __device__ const GatedOperands& operands() const { return params.args.operands; }
  __device__ const ReplayPlan& plan() const { return params.plan; }
  __device__ bool exclusive() const { return shape().read == ReadKind::kExclusive; }
  __device__ bool has_ring() const { return shape().state.ring > 0; }
  __device__ float* at(int32_t place) const { return memory + place; }
};

// Query heads of one pass over the state.
struct HeadPass {
  int32_t head;   // the first
  int32_t count;  // 1..heads that share a pass
};

// Where a column of V lies in a row of ring_values: the quads of a thread's columns are apart, so
// that threads side by side read neighbours.
template <StateType kType>
__device__ int32_t PlaceOfColumn(int32_t lanes, int32_t column) {
  constexpr int32_t kNumbers = kPackedNumbers<kType>;
  const int32_t quad = column % kNumbers / 4;
  return 4 * (quad * lanes + column / kNumbers) + column % 4;
}

}  // namespace sluice
