// The two warps of the replay step (gated_replay.cu) that bring what its other threads work on: one
// the matrices, the other one what heads have beside them.
#pragma once

#include <cstdint>

#include "kernels/fetch_rows.cuh"
#include "kernels/gated_replay.cuh"

namespace sluice {

struct RunOfBytes {
  void* to;
  const void* from;
  int32_t bytes;  // a multiple of 16
};

// A warp starts copying several runs; otherwise as FetchRows.
template <int kRuns>
__device__ void FetchRuns(const RunOfBytes (&runs)[kRuns], Barrier& full) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#if __CUDA_ARCH__ >= 900
  if (lane == 0) {
    int32_t bytes = 0;
#pragma unroll
    for (const RunOfBytes& run : runs) bytes += run.bytes;
    full.ArriveExpecting(bytes);
#pragma unroll
    for (const RunOfBytes& run : runs) {
      if (run.bytes > 0) BulkCopy(run.to, run.from, run.bytes, full);
    }
  }
  __syncwarp();  // No lane is a phase ahead.
#else
#pragma unroll
  for (const RunOfBytes& run : runs) {
    for (int32_t at = 16 * lane; at < run.bytes; at += 16 * kWarp) {
      CopyAsync(static_cast<char*>(run.to) + at, static_cast<const char*>(run.from) + at, true);
    }
  }
  full.ArriveWithCopies();
#endif
}

// A warp brings the block's rows of the states, once a pass over each, stage by stage.
template <int kHeads>
__device__ void FeedMatrix(const ReplayParams& p, ReplayShared<kHeads>& shared, float* memory) {
  const GatedShape& s = p.args.shape;
  const ReplaySpan span = SpanOfBlock(p);
  const int32_t row_bytes = p.lanes * 16;
  const int32_t passes = (s.heads / s.kv_heads + kHeads - 1) / kHeads;
  auto* const stages = reinterpret_cast<char*>(memory + p.at.stages);
  ReplayPlace place = {.parity = 1};  // The stages are empty.
  shared.began.Wait(0);
  VisitItems(p, [&](int32_t row, int32_t kv_head) {
    if (FillsUp(p.args, row)) return;
    const auto* const matrix =
        reinterpret_cast<const char*>(StateOf(p, p.args.slots[row], kv_head).matrix);
    for (int32_t pass = 0; pass < passes; ++pass) {
      for (int32_t first = span.begin; first < span.end; first += p.stage_rows) {
        const int32_t rows = min(p.stage_rows, span.end - first);
        shared.empty[place.stage].Wait(place.parity);
        // Rows that follow each other on both sides are one.
        const bool is_one = p.pitch == row_bytes;
        FetchRows({.to = stages + place.stage * p.stage_rows * p.pitch,
                   .to_pitch = p.pitch,
                   .from = matrix + int64_t{first} * row_bytes,
                   .from_pitch = row_bytes,
                   .bytes = is_one ? rows * row_bytes : row_bytes,
                   .rows = is_one ? 1 : rows},
                  shared.full[place.stage]);
        place.Advance(p.stages);
      }
    }
  });
  EndFetches();
}

__device__ inline ReplayItem LoadItem(const ReplayParams& p, int32_t row, int32_t kv_head) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const GateView gate = ViewGate(s, op, row, kv_head);
  const bool has_number = s.gate == GateKind::kScalar || s.gate == GateKind::kConstant;
  ReplayItem item = {.slot = p.args.slots[row],
                     .held = 0,
                     .log_decay = has_number ? *gate.first : 0.0F,
                     .input_scale = op.input_scale == nullptr
                                        ? 1.0F
                                        : op.input_scale[int64_t{row} * s.kv_heads + kv_head]};
  if (s.state.ring > 0 && item.slot != p.args.sink) {
    item.held = min(HeldIn(StateOf(p, item.slot, kv_head).count), s.state.Held());
  }
  return item;
}

// Copies what a head has beside its matrix to `to`.
__device__ inline void FetchHead(const ReplayParams& p, int32_t row, int32_t kv_head,
                                 const ReplayItem& item, float* to, Barrier& full) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const ReplayHeadLayout& at = p.copy_at;
  const HeadState state = StateOf(p, item.slot, kv_head);
  const ReplaySpan span = SpanOfBlock(p);
  const int32_t number = s.dtype == DType::kFloat32 ? 4 : 2;
  const int64_t head = int64_t{row} * s.kv_heads + kv_head;
  const int64_t shared_head = kv_head / s.shared_keys;
  const auto activations = [&](const void* from, int64_t first) {
    return static_cast<const char*>(from) + first * number;
  };
  const bool has_query = s.heads == s.kv_heads;
  const bool has_ring = s.state.ring > 0;
  const bool is_int8 = s.state.type == StateType::kInt8;
  const int32_t held = p.copies_ring ? item.held : 0;
  const int32_t keys = s.key_dim * 4;
  const int32_t values = s.value_dim * 4;
  const RunOfBytes runs[] = {
      {to + at.query, activations(op.q, row * op.q_stride + shared_head * s.key_dim),
       has_query ? s.key_dim * number : 0},
      {to + at.key, activations(op.k, row * op.k_stride + shared_head * s.key_dim),
       s.key_dim * number},
      {to + at.value, activations(op.v, row * op.v_stride + int64_t{kv_head} * s.value_dim),
       s.value_dim * number},
      {to + at.gate, op.log_decay + head * s.key_dim, s.gate == GateKind::kVector ? keys : 0},
      {to + at.value_gate, op.value_log_decay + head * s.value_dim, s.value_gate ? values : 0},
      {to + at.log_decay, state.log_decay, has_ring ? keys : 0},
      {to + at.value_log_decay, state.value_log_decay, has_ring && s.value_gate ? values : 0},
      {to + at.scales + span.begin, state.scales + span.begin,
       is_int8 ? (span.end - span.begin) * 4 : 0},
      {to + at.ring_keys, state.keys, held * keys},
      {to + at.ring_values, state.values, held * values}};
  FetchRuns(runs, full);
}

// Another brings what the heads have beside their matrices.
template <int kHeads>
__device__ void FeedHeads(const ReplayParams& p, ReplayShared<kHeads>& shared, float* memory) {
  int parity = 1;
  bool began = false;
  VisitItems(p, [&](int32_t row, int32_t kv_head) {
    const ReplayItem item = LoadItem(p, row, kv_head);
    shared.copy_empty.Wait(parity);
    parity ^= 1;
    if (item.slot != p.args.sink) {
      FetchHead(p, row, kv_head, item, memory + p.at.copy, shared.copy_full);
    } else {
      FetchRows({}, shared.copy_full);
    }
    if (threadIdx.x % kWarp == 0) {
      shared.item = item;
      shared.copy_full.Arrive();
      if (!began) shared.began.Arrive();
    }
    began = true;
  });
  EndFetches();
}

}  // namespace sluice
