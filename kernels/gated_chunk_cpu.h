// What a thread of GatedChunkCpu is given: a task, and memory to work in.
#pragma once

#include <cstdint>

#include "kernels/gated_shape.h"

namespace sluice {

constexpr int64_t kBlockRows = 16;

// Some columns of one state head over one segment.
struct ChunkTask {
  int64_t key_dim;
  int64_t columns;    // multiple of 16
  int64_t value_dim;  // between rows of the slot's state
  int64_t group;      // query heads that read this state
  int64_t length;     // rows
  int64_t position;   // of the first
  float scale;
  const float* q;  // [length, group, K], rows q_stride apart
  int64_t q_stride;
  const float* k;  // [length, K]
  int64_t k_stride;
  const float* v;  // [length, columns]
  int64_t v_stride;
  GateView gate;
  const float* input_scale;  // [length], scale_stride apart; null for ones
  int64_t scale_stride;
  ReadKind read;
  const float* bonus;  // [K], or null
  float* slot_state;   // [K, columns]
  float* out;          // [length, group, columns], heads value_dim apart
  int64_t out_stride;
};

// What a thread works in.
struct ChunkScratch {
  float* state;   // [K, columns], contiguous
  float* decay;   // [16, K]: exp(gate)
  float* q;       // [16, K]: q decayed from the block's start
  float* k;       // [16, K]: k decayed to the block's end
  float* total;   // [K]: decay of the whole block
  float* scaled;  // [16, K]: k times the input's scale
  float* scores;  // [16, 16]: by key row, then query row; 0 where the key is later

  static int64_t Floats(const GatedShape& shape) {
    const int64_t key_dim = shape.key_dim;
    return key_dim * shape.value_dim + (4 * kBlockRows + 1) * key_dim + kBlockRows * kBlockRows;
  }
  ChunkScratch(float* data, int64_t key_dim, int64_t value_dim)
      : state(data),
        decay(state + key_dim * value_dim),
        q(decay + kBlockRows * key_dim),
        k(q + kBlockRows * key_dim),
        total(k + kBlockRows * key_dim),
        scaled(total + key_dim),
        scores(scaled + kBlockRows * key_dim) {}
};

}  // namespace sluice
