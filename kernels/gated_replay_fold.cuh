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

// Decays the keys of the ring, before the product with values: what was grown back in both factors
// might overflow.
template <StateType kType>
__device__ void DecayKeys(const ReplayWork<kType>& w) {
  const int32_t key_dim = w.shape().key_dim;
  for (int32_t c = threadIdx.x; c < key_dim; c += kReplayThreads) {
    const float decay = w.at(w.p.at.decay)[c];
    float* key = w.at(w.p.at.ring_keys) + c;
#pragma unroll 4
    for (int32_t j = 0; j < w.held; ++j, key += key_dim) *key *= decay;
  }
}

// A token: its key in a thread's rows and its values in its columns.
template <StateType kType>
struct FoldedToken {
  RowFactors key;
  Unpacked<kType> values;
};

// `values` are laid out as a row of ring_values.
template <StateType kType>
__device__ FoldedToken<kType> LoadToken(const ReplayWork<kType>& w, const BatchRows& batch,
                                        const float* keys, const float* values) {
  FoldedToken<kType> token;
  token.key = FactorsOf(w, keys, batch);
#pragma unroll
  for (int n = 0; n < kPackedNumbers<kType>; n += 4) {
    const float4 v = LoadQuad(values + 4 * w.lane + n * w.p.lanes);
    token.values.v[n] = v.x;
    token.values.v[n + 1] = v.y;
    token.values.v[n + 2] = v.z;
    token.values.v[n + 3] = v.w;
  }
  return token;
}

template <StateType kType>
__device__ void AddToken(const FoldedToken<kType>& token, FoldedRows<kType>& folded) {
#pragma unroll
  for (int n = 0; n < kPackedNumbers<kType>; ++n) {
#pragma unroll
    for (int r = 0; r < kReplayRows; ++r) {
      folded.rows[r].v[n] = fmaf(token.key.v[r], token.values.v[n], folded.rows[r].v[n]);
    }
  }
}

// Adds the tokens of the ring. Where there are registers for it, each is read while the one before
// it is added.
template <StateType kType>
__device__ void AddRing(const ReplayWork<kType>& w, const BatchRows& batch,
                        FoldedRows<kType>& folded) {
  const GatedShape& s = w.shape();
  const auto load = [&](int32_t j) {
    return LoadToken(w, batch, w.at(w.p.at.ring_keys) + j * s.key_dim,
                     w.at(w.p.at.ring_values) + j * s.value_dim);
  };
  if (w.held == 0) return;
  if (kType == StateType::kInt8) {
#pragma unroll 1
    for (int32_t j = 0; j < w.held; ++j) AddToken(load(j), folded);
    return;
  }
  FoldedToken<kType> token = load(0);
#pragma unroll 2
  for (int32_t j = 1; j < w.held; ++j) {
    const FoldedToken<kType> next = load(j);
    AddToken(token, folded);
    token = next;
  }
  AddToken(token, folded);
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
  FoldedRows<kType> folded;
  const RowFactors row_decay = FactorsOf(w, w.at(at.row_decay), batch);
#pragma unroll
  for (int r = 0; r < kReplayRows; ++r) {
    folded.rows[r] = UnpackNumbers<kType>(batch.raw[r]);
#pragma unroll
    for (int n = 0; n < kPackedNumbers<kType>; ++n) folded.rows[r].v[n] *= row_decay.v[r];
  }
  AddRing(w, batch, folded);
  if (w.shape().value_gate) DecayColumns(w, folded);
  AddToken(LoadToken(w, batch, w.at(at.key), w.at(at.value)), folded);
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
