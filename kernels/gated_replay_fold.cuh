// Folding a ring and the token that ends it into a state's matrix, batch by batch: a part of the
// replay step (gated_replay.cu).
#pragma once

#include <cstdint>

#include "kernels/gated_replay.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {

// Rows of the state that a thread has 16 bytes of each, and which they are.
struct BatchRows {
  uint4 raw[kReplayRows];
  int32_t channels[kReplayRows];  // of K; behind the last one if there is none
};

// The same, ring and token folded in.
template <StateType kType>
struct FoldedRows {
  Unpacked<kType> rows[kReplayRows];
};

struct RowFactors {
  float v[kReplayRows];
};

// Of rows that are missing the last one's.
template <StateType kType>
__device__ RowFactors FactorsOf(const ReplayWork<kType>& w, const float* of_channels,
                                const BatchRows& batch) {
  RowFactors factors;
#pragma unroll
  for (int r = 0; r < kReplayRows; ++r) {
    factors.v[r] = of_channels[min(batch.channels[r], w.shape().key_dim - 1)];
  }
  return factors;
}

// x[r] += keys[r] * values; `values` are the thread's columns of a row laid out as ring_values.
template <StateType kType>
__device__ void AddOuter(const ReplayWork<kType>& w, const RowFactors& keys, const float* values,
                         FoldedRows<kType>& folded) {
#pragma unroll
  for (int n = 0; n < kPackedNumbers<kType>; n += 4) {
    const float4 v = LoadQuad(values + 4 * w.lane + n * w.p.lanes);
#pragma unroll
    for (int r = 0; r < kReplayRows; ++r) {
      float* const x = folded.rows[r].v + n;
      x[0] = fmaf(keys.v[r], v.x, x[0]);
      x[1] = fmaf(keys.v[r], v.y, x[1]);
      x[2] = fmaf(keys.v[r], v.z, x[2]);
      x[3] = fmaf(keys.v[r], v.w, x[3]);
    }
  }
}

template <StateType kType>
__device__ void DecayColumns(const ReplayWork<kType>& w, FoldedRows<kType>& folded) {
#pragma unroll
  for (int n = 0; n < kPackedNumbers<kType>; n += 4) {
    const float4 decay = LoadQuad(w.at(w.p.at.value_decay) + 4 * w.lane + n * w.p.lanes);
#pragma unroll
    for (int r = 0; r < kReplayRows; ++r) {
      float* const x = folded.rows[r].v + n;
      x[0] *= decay.x;
      x[1] *= decay.y;
      x[2] *= decay.z;
      x[3] *= decay.w;
    }
  }
}

// diag(exp(G)) (S_0 + sum_j k^_j^T v^_j) diag(exp(B)) + k^T v
template <StateType kType>
__device__ FoldedRows<kType> Fold(const ReplayWork<kType>& w, const BatchRows& batch) {
  const ReplayLayout& at = w.p.at;
  const GatedShape& s = w.shape();
  FoldedRows<kType> folded;
  const RowFactors row_decay = FactorsOf(w, w.at(at.row_decay), batch);
#pragma unroll
  for (int r = 0; r < kReplayRows; ++r) {
    folded.rows[r] = UnpackNumbers<kType>(batch.raw[r]);
#pragma unroll
    for (int n = 0; n < kPackedNumbers<kType>; ++n) folded.rows[r].v[n] *= row_decay.v[r];
  }
  const RowFactors decay = FactorsOf(w, w.at(at.decay), batch);
  const float* keys = w.at(at.ring_keys);
  const float* values = w.at(at.ring_values);
#pragma unroll 1
  for (int32_t j = 0; j < w.held; ++j, keys += s.key_dim, values += s.value_dim) {
    // Decayed before the product: what was grown back in both factors might overflow.
    RowFactors key = FactorsOf(w, keys, batch);
#pragma unroll
    for (int r = 0; r < kReplayRows; ++r) key.v[r] *= decay.v[r];
    AddOuter(w, key, values, folded);
  }
  if (s.value_gate) DecayColumns(w, folded);
  AddOuter(w, FactorsOf(w, w.at(at.key), batch), w.at(at.value), folded);
  return folded;
}

// One over the scale of each of the rows of int8, and the scales kept. All threads of the block
// come, also those that have no part of the matrix.
template <StateType kType>
__device__ RowFactors ScaleRows(const ReplayWork<kType>& w, const BatchRows& batch,
                                const FoldedRows<kType>& folded) {
  auto* const largest = reinterpret_cast<uint32_t*>(w.at(w.p.at.largest));
  // Lanes of the warp that have the same rows.
  const unsigned team = __match_any_sync(kAllLanes, w.group);
  const bool leads = __ffs(static_cast<int>(team)) - 1 == static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < kReplayRows; ++r) {
    // Of numbers that are not negative the larger one has the larger bits, and what is none the
    // largest.
    uint32_t bits = 0;
#pragma unroll
    for (int n = 0; n < kPackedNumbers<kType>; ++n) {
      bits = max(bits, __float_as_uint(fabsf(folded.rows[r].v[n])));
    }
    bits = __reduce_max_sync(team, bits);
    if (leads && batch.channels[r] < w.shape().key_dim)
      atomicMax(largest + batch.channels[r], bits);
  }
  __syncthreads();
  RowFactors inverses;
#pragma unroll
  for (int r = 0; r < kReplayRows; ++r) {
    if (batch.channels[r] >= w.shape().key_dim) continue;
    const float scale = ScaleOfRow(__uint_as_float(largest[batch.channels[r]]));
    inverses.v[r] = InverseOfScale(scale);
    if (w.lane == 0) w.state.scales[batch.channels[r]] = scale;
  }
  return inverses;
}

// Folds a batch and stores it. All threads of the block come.
template <StateType kType>
__device__ void FoldBatch(const ReplayWork<kType>& w, const BatchRows& batch) {
  const FoldedRows<kType> folded = Fold(w, batch);
  RowFactors inverses;
  if (kType == StateType::kInt8) inverses = ScaleRows(w, batch, folded);
  auto* const matrix = reinterpret_cast<uint4*>(w.state.matrix) + w.lane;
#pragma unroll
  for (int r = 0; r < kReplayRows; ++r) {
    if (batch.channels[r] >= w.shape().key_dim) continue;
    const float inverse = kType == StateType::kInt8 ? inverses.v[r] : 1.0F;
    matrix[batch.channels[r] * w.p.lanes] = PackNumbers<kType>(folded.rows[r], inverse);
  }
}

}  // namespace sluice
