// Folding a ring and the token that ends it into a state's matrix, as its stages come: a part of
// the replay step (gated_replay.cu).
#pragma once

#include <cstdint>

#include "kernels/gated_replay.cuh"
#include "kernels/packed_state.cuh"

namespace sluice {

// Rows of a stage, one below another, of which a thread has 16 bytes each: 16 or 32 numbers.
template <StateType kType>
constexpr int kRows = kType == StateType::kInt8 ? 2 : 4;

template <StateType kType>
struct StageRows {
  uint4 raw[kRows<kType>];
};

// A number for each of a thread's rows.
template <StateType kType>
struct OfRows {
  float v[kRows<kType>];
};
template <StateType kType>
__device__ OfRows<kType> LoadOfRows(const float* from) {
  if constexpr (kRows<kType> == 2) {
    const float2 x = LoadPair(from);
    return {{x.x, x.y}};
  } else {
    const float4 x = LoadQuad(from);
    return {{x.x, x.y, x.z, x.w}};
  }
}

// A thread's columns are quads of neighbours. Threads side by side begin with different ones where
// they read four bytes a column, so that these lie in different banks.
template <StateType kType>
constexpr int kQuads = kPackedNumbers<kType> / 4;

template <StateType kType>
__device__ inline int FirstQuad(int32_t lane) {
  return lane * kQuads<kType> / 8 % kQuads<kType>;
}

// Turns the quads, so that quad `first` comes first. Backwards: from there to where they were.
template <StateType kType>
__device__ uint4 TurnQuads(uint4 raw, int first) {
  if (kQuads<kType> == 2 && first != 0) return make_uint4(raw.z, raw.w, raw.x, raw.y);
  if (kQuads<kType> == 4) {
    if ((first & 1) != 0) raw = make_uint4(raw.y, raw.z, raw.w, raw.x);
    if ((first & 2) != 0) raw = make_uint4(raw.z, raw.w, raw.x, raw.y);
  }
  return raw;
}
template <StateType kType>
__device__ uint4 TurnQuadsBack(uint4 raw, int first) {
  return TurnQuads<kType>(raw, (kQuads<kType> - first) % kQuads<kType>);
}

// Rows of the thread, ring and token folded in, their quads turned.
template <StateType kType>
struct FoldedRows {
  Unpacked<kType> rows[kRows<kType>];
};

// x[r] += keys[r] * value, of a quad of columns.
template <StateType kType>
__device__ void AddOuter(const OfRows<kType>& keys, float4 value, int quad,
                         FoldedRows<kType>& folded) {
#pragma unroll
  for (int r = 0; r < kRows<kType>; ++r) {
    float* const x = folded.rows[r].v + 4 * quad;
    x[0] = fmaf(keys.v[r], value.x, x[0]);
    x[1] = fmaf(keys.v[r], value.y, x[1]);
    x[2] = fmaf(keys.v[r], value.z, x[2]);
    x[3] = fmaf(keys.v[r], value.w, x[3]);
  }
}

// The matrix's own rows, decayed.
template <StateType kType>
__device__ FoldedRows<kType> DecayRows(const StageRows<kType>& rows, const OfRows<kType>& decays,
                                       int first_quad) {
  FoldedRows<kType> folded;
#pragma unroll
  for (int r = 0; r < kRows<kType>; ++r) {
    folded.rows[r] = UnpackNumbers<kType>(TurnQuads<kType>(rows.raw[r], first_quad));
#pragma unroll
    for (int n = 0; n < kPackedNumbers<kType>; ++n) folded.rows[r].v[n] *= decays.v[r];
  }
  return folded;
}

// Multiplies by the decays of a quad of columns.
template <StateType kType>
__device__ void DecayColumns(float4 decay, int quad, FoldedRows<kType>& folded) {
#pragma unroll
  for (int r = 0; r < kRows<kType>; ++r) {
    float* const x = folded.rows[r].v + 4 * quad;
    x[0] *= decay.x;
    x[1] *= decay.y;
    x[2] *= decay.z;
    x[3] *= decay.w;
  }
}

template <StateType kType, int kHeads>
__device__ FoldedRows<kType> Fold(const ReplayWork<kHeads>& w, int32_t row,
                                  const StageRows<kType>& rows) {
  const ReplayLayout& at = w.p.at;
  const GatedShape& s = w.shape();
  const int first_quad = FirstQuad<kType>(w.lane);
  const int32_t column = w.lane * kPackedNumbers<kType>;
  const auto column_of = [&](int quad) {
    return column + 4 * ((first_quad + quad) % kQuads<kType>);
  };
  FoldedRows<kType> folded =
      DecayRows<kType>(rows, LoadOfRows<kType>(w.memory + at.row_decay + row), first_quad);
  const OfRows<kType> decays = LoadOfRows<kType>(w.memory + at.decay + row);
  const float* keys = w.keys() + row;
  const float* values = w.values();
#pragma unroll 2
  for (int32_t j = 0; j < w.item().held; ++j, keys += s.key_dim, values += s.value_dim) {
    // Decayed before the product: what was grown back in both factors might overflow.
    OfRows<kType> key = LoadOfRows<kType>(keys);
#pragma unroll
    for (int r = 0; r < kRows<kType>; ++r) key.v[r] *= decays.v[r];
#pragma unroll
    for (int q = 0; q < kQuads<kType>; ++q) {
      AddOuter<kType>(key, LoadQuad(values + column_of(q)), q, folded);
    }
  }
  const OfRows<kType> key = LoadOfRows<kType>(w.memory + at.key + row);
#pragma unroll
  for (int q = 0; q < kQuads<kType>; ++q) {
    if (s.value_gate) {
      DecayColumns(LoadQuad(w.memory + at.value_decay + column_of(q)), q, folded);
    }
    AddOuter<kType>(key, LoadQuad(w.memory + at.value + column_of(q)), q, folded);
  }
  return folded;
}

// One over the scale of each of the thread's rows of an int8 stage, and the scales kept. All
// threads that compute come, those with rows to fold or not (`active`).
template <StateType kType, int kHeads>
__device__ OfRows<kType> ScaleRows(const ReplayWork<kHeads>& w, int32_t row, bool active,
                                   const FoldedRows<kType>& folded) {
  auto* const largest = reinterpret_cast<uint32_t*>(w.memory + w.p.at.largest);
  for (int32_t i = threadIdx.x; i < w.p.groups * kRows<kType>; i += kReplayReaders) largest[i] = 0;
  MeetReaders();
  uint32_t* const of_rows = largest + w.group * kRows<kType>;
  const unsigned team = __match_any_sync(kAllLanes, w.group);
  const bool leads = __ffs(static_cast<int>(team)) - 1 == static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < kRows<kType>; ++r) {
    // Of numbers that are not negative the larger one has the larger bits, and what is none the
    // largest.
    uint32_t bits = 0;
#pragma unroll
    for (int n = 0; n < kPackedNumbers<kType>; ++n) {
      bits = max(bits, __float_as_uint(fabsf(folded.rows[r].v[n])));
    }
    bits = __reduce_max_sync(team, bits);
    if (active && leads) atomicMax(of_rows + r, bits);
  }
  MeetReaders();
  OfRows<kType> inverses = {};
  if (active) {
#pragma unroll
    for (int r = 0; r < kRows<kType>; ++r) {
      const float scale = ScaleOfRow(__uint_as_float(of_rows[r]));
      inverses.v[r] = InverseOfScale(scale);
      if (w.lane == 0) w.state().scales[row + r] = scale;
    }
  }
  MeetReaders();  // Before the next stage's maxima.
  return inverses;
}

// Folds a stage, whose first row of the state is `first`, and stores it. All threads that compute
// come.
template <StateType kType, int kHeads>
__device__ void FoldStage(const ReplayWork<kHeads>& w, const char* stage, int32_t first,
                          int32_t rows) {
  const ReplayParams& p = w.p;
  const int32_t at_once = p.groups * kRows<kType>;
  auto* const matrix = reinterpret_cast<uint4*>(w.state().matrix) + w.lane;
#pragma unroll 1
  for (int32_t base = w.group * kRows<kType>; base - w.group * kRows<kType> < rows;
       base += at_once) {
    const bool active = w.group < p.groups && base < rows;
    FoldedRows<kType> folded = {};
    if (active) {
      StageRows<kType> raw;
#pragma unroll
      for (int r = 0; r < kRows<kType>; ++r) {
        const char* const from = stage + (base + r) * p.pitch;
        raw.raw[r] = reinterpret_cast<const uint4*>(from)[w.lane];
      }
      folded = Fold<kType>(w, first + base, raw);
    }
    OfRows<kType> inverses = {};
    if (kType == StateType::kInt8) inverses = ScaleRows(w, first + base, active, folded);
    if (!active) continue;
#pragma unroll
    for (int r = 0; r < kRows<kType>; ++r) {
      matrix[int64_t{first + base + r} * p.lanes] = TurnQuadsBack<kType>(
          PackNumbers<kType>(folded.rows[r], inverses.v[r]), FirstQuad<kType>(w.lane));
    }
  }
}

}  // namespace sluice
