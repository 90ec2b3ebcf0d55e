// Folding a ring and the token that ends it into a state's matrix, batch by batch: a part of the
// replay step (gated_replay.cu).
#pragma once

#include <cstdint>

#include "kernels/gated_replay.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {

// Rows of the state of which a thread has 16 bytes each. `kWhole`: none is missing.
template <StateType kType, int kCount, bool kWhole>
struct BatchRows {
  Unpacked<kType> rows[kCount];
  int32_t channels[kCount];  // of K; K itself if the row is missing

  __device__ bool Has(int r, int32_t key_dim) const { return kWhole || channels[r] < key_dim; }
  // The number of its channel; of a row that is missing the last one's.
  __device__ float At(int r, const float* of_channels, int32_t key_dim) const {
    return of_channels[kWhole ? channels[r] : min(channels[r], key_dim - 1)];
  }
};

template <StateType kType>
constexpr int kFoldRows = ReplayFoldRows(kType);
template <StateType kType, bool kWhole>
using RowsToFold = BatchRows<kType, kFoldRows<kType>, kWhole>;

// Decays the keys of the ring, before the product with values: what was grown back in both factors
// might overflow. Those of a ring that is not copied are decayed as they are read.
template <StateType kType>
__device__ void DecayKeys(const ReplayWork<kType>& w) {
  if (!w.plan().copies_ring) return;
  const int32_t key_dim = w.shape().key_dim;
  for (int32_t c = threadIdx.x; c < key_dim; c += kReplayThreads) {
    const float decay = w.at(w.plan().at.decay)[c];
    float* key = w.at(w.plan().at.ring_keys) + c;
#pragma unroll 4
    for (int32_t j = 0; j < w.held; ++j, key += key_dim) *key *= decay;
  }
}

// rows += key^T value of a token: key_of(r) is that of row r, value_at(n) the quad of values of the
// rows' numbers from n on.
template <StateType kType, bool kWhole, typename KeyOf, typename ValueAt>
__device__ void AddToken(const KeyOf& key_of, const ValueAt& value_at,
                         RowsToFold<kType, kWhole>& batch) {
  float key[kFoldRows<kType>];
#pragma unroll
  for (int r = 0; r < kFoldRows<kType>; ++r) key[r] = key_of(r);
#pragma unroll
  for (int n = 0; n < kPackedNumbers<kType>; n += 4) {
    const float4 v = value_at(n);
#pragma unroll
    for (int r = 0; r < kFoldRows<kType>; ++r) {
      float* const x = batch.rows[r].v + n;
      x[0] = fmaf(key[r], v.x, x[0]);
      x[1] = fmaf(key[r], v.y, x[1]);
      x[2] = fmaf(key[r], v.z, x[2]);
      x[3] = fmaf(key[r], v.w, x[3]);
    }
  }
}

// Of a token in shared memory: [K], and a row laid out as ring_values.
template <StateType kType, bool kWhole>
__device__ void AddShared(const ReplayWork<kType>& w, const float* keys, const float* values,
                          RowsToFold<kType, kWhole>& batch) {
  const int32_t key_dim = w.shape().key_dim;
  AddToken<kType>([&](int r) { return batch.At(r, keys, key_dim); },
                  [&](int n) { return LoadQuad(values + 4 * w.lane + n * w.plan().lanes); }, batch);
}

// Of a ring that is not copied.
template <StateType kType, bool kWhole>
__device__ void AddKept(const ReplayWork<kType>& w, RowsToFold<kType, kWhole>& batch) {
  const int32_t key_dim = w.shape().key_dim;
  const float* const decay = w.at(w.plan().at.decay);
  const float* keys = w.state.keys;
  const float* values = w.state.values + w.lane * kPackedNumbers<kType>;
#pragma unroll 1
  for (int32_t j = 0; j < w.held; ++j, keys += key_dim, values += w.shape().value_dim) {
    AddToken<kType>([&](int r) { return batch.At(r, keys, key_dim) * batch.At(r, decay, key_dim); },
                    [&](int n) { return LoadQuad(values + n); }, batch);
  }
}

template <StateType kType, bool kWhole>
__device__ void DecayColumns(const ReplayWork<kType>& w, RowsToFold<kType, kWhole>& batch) {
#pragma unroll
  for (int n = 0; n < kPackedNumbers<kType>; n += 4) {
    const float4 decay = LoadQuad(w.at(w.plan().at.value_decay) + 4 * w.lane + n * w.plan().lanes);
#pragma unroll
    for (int r = 0; r < kFoldRows<kType>; ++r) {
      float* const x = batch.rows[r].v + n;
      x[0] *= decay.x;
      x[1] *= decay.y;
      x[2] *= decay.z;
      x[3] *= decay.w;
    }
  }
}

// diag(exp(G)) (S_0 + sum_j k^_j^T v^_j) diag(exp(B)) + k^T v, of rows of S_0.
template <StateType kType, bool kWhole>
__device__ void Fold(const ReplayWork<kType>& w, RowsToFold<kType, kWhole>& batch) {
  const GatedShape& s = w.shape();
#pragma unroll
  for (int r = 0; r < kFoldRows<kType>; ++r) {
    const float decay = batch.At(r, w.at(w.plan().at.row_decay), s.key_dim);
#pragma unroll
    for (int n = 0; n < kPackedNumbers<kType>; ++n) batch.rows[r].v[n] *= decay;
  }
  if (w.plan().copies_ring) {
    const float* keys = w.at(w.plan().at.ring_keys);
    const float* values = w.at(w.plan().at.ring_values);
#pragma unroll 1
    for (int32_t j = 0; j < w.held; ++j, keys += s.key_dim, values += s.value_dim) {
      AddShared(w, keys, values, batch);
    }
  } else {
    AddKept(w, batch);
  }
  if (s.value_gate) DecayColumns(w, batch);
  AddShared(w, w.at(w.plan().at.key), w.at(w.plan().at.value), batch);
}

// One over the scales of a thread's rows.
template <StateType kType>
struct RowInverses {
  float v[kFoldRows<kType>];
};

// Of int8, and the scales kept. All threads of the block come, also those that have no part of the
// matrix.
template <StateType kType, bool kWhole>
__device__ RowInverses<kType> ScaleRows(const ReplayWork<kType>& w,
                                        const RowsToFold<kType, kWhole>& batch) {
  const int32_t key_dim = w.shape().key_dim;
  auto* const largest = reinterpret_cast<uint32_t*>(w.at(w.plan().at.largest));
  // Lanes of the warp that have the same rows.
  const unsigned team = __match_any_sync(kAllLanes, w.group);
  const bool leads = __ffs(static_cast<int>(team)) - 1 == static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < kFoldRows<kType>; ++r) {
    uint32_t bits = 0;
#pragma unroll
    for (int n = 0; n < kPackedNumbers<kType>; ++n) {
      bits = max(bits, MagnitudeBits(batch.rows[r].v[n]));
    }
    bits = __reduce_max_sync(team, bits);
    if (leads && batch.Has(r, key_dim)) atomicMax(largest + batch.channels[r], bits);
  }
  __syncthreads();
  RowInverses<kType> inverses;
#pragma unroll
  for (int r = 0; r < kFoldRows<kType>; ++r) {
    if (!batch.Has(r, key_dim)) continue;
    const float scale = ScaleOfRow(__uint_as_float(largest[batch.channels[r]]));
    inverses.v[r] = InverseOfScale(scale);
    if (w.lane == 0) w.state.scales[batch.channels[r]] = scale;
  }
  return inverses;
}

// Folds rows and stores them. All threads of the block come.
template <StateType kType, bool kWhole>
__device__ void FoldRows(const ReplayWork<kType>& w, RowsToFold<kType, kWhole>& batch) {
  Fold(w, batch);
  RowInverses<kType> inverses = {};
  if (kType == StateType::kInt8) inverses = ScaleRows(w, batch);
  auto* const matrix = reinterpret_cast<uint4*>(w.state.matrix) + w.lane;
#pragma unroll
  for (int r = 0; r < kFoldRows<kType>; ++r) {
    if (!batch.Has(r, w.shape().key_dim)) continue;
    matrix[batch.channels[r] * w.plan().lanes] = PackNumbers<kType>(batch.rows[r], inverses.v[r]);
  }
}

}  // namespace sluice
