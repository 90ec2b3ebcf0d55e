// The shape shared by the recurrent and the chunkwise form of gated linear attention.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sluice {

constexpr int32_t kMaxGatedHeads = 256;
constexpr int32_t kMaxGatedDim = 512;
constexpr int32_t kGatedDimMultiple = 16;

struct GatedShape {
  DType dtype;        // of q, k, v and out: float32, or bfloat16 on CUDA
  int32_t heads;      // H query heads, 1..256
  int32_t kv_heads;   // state heads, divides H; query head h reads state head h / (H / kv_heads)
  int32_t key_dim;    // K a head: multiple of 16, 16..512
  int32_t value_dim;  // V a head: multiple of 16, 16..512
  float scale;        // of q, usually K^-0.5

  // Floats of one layer's state.
  int64_t StateSize() const { return int64_t{kv_heads} * key_dim * value_dim; }
};

// The operands of a batch: q, k, v may be columns of one wide product, hence their strides.
struct GatedOperands {
  const void* q;     // [rows, H, K], rows q_stride apart
  const void* k;     // [rows, kv_heads, K], rows k_stride apart
  const void* v;     // [rows, kv_heads, V], rows v_stride apart
  int64_t q_stride;  // in elements, multiples of 8
  int64_t k_stride;
  int64_t v_stride;
  const float* log_decay;  // [rows, kv_heads, K], contiguous, natural log, each <= 0
  float* states;        // slot s's [kv_heads, K, V] at states + s * slot_stride, read and written
  int64_t slot_stride;  // in floats
  void* out;            // [rows, H, V], contiguous
};

// Each ends the process unless the limits stated above are kept; a device may have narrower ones.
void CheckGatedShape(const GatedShape& shape);
void CheckGatedOperands(const GatedShape& shape, const GatedOperands& operands);

}  // namespace sluice
