// The shape shared by the recurrent and the chunkwise form of gated linear attention, and what may
// gate it.
//
//   S_t = diag(a_t) S_{t-1} diag(b_t) + c_t k_t^T v_t
//   o_t = scale * q_t S_t                                    read inclusively
//   o_t = scale * q_t (S_{t-1} + diag(u) c_t k_t^T v_t)      read exclusively
//
// a_t = exp(log_decay), b_t = exp(value_log_decay), c_t = input_scale, u = bonus.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/state_format.h"

namespace sluice {

constexpr int32_t kMaxGatedHeads = 256;
constexpr int32_t kMaxGatedDim = 512;       // of K
constexpr int32_t kMaxGatedValueDim = 528;  // of V: 512, and a tile for a normaliser
constexpr int32_t kGatedDimMultiple = 16;

// What a state head's a_t is.
enum class GateKind : uint8_t {
  kNone,      // 1
  kConstant,  // one number a head
  kScalar,    // one number a token
  kVector,    // one number a token and channel of K
};

enum class ReadKind : uint8_t {
  kInclusive,  // the state after the token
  kExclusive,  // the state before the token, and the token's own term weighed by the bonus
};

struct GatedShape {
  DType dtype;        // of q, k, v and out: float32, or bfloat16 on CUDA
  int32_t heads;      // H query heads, 1..256
  int32_t kv_heads;   // state heads, divides H; query head h reads state head h / (H / kv_heads)
  int32_t key_dim;    // K a head: multiple of 16, 16..512
  int32_t value_dim;  // V a head: multiple of 16, 16..528
  float scale;        // of q, usually K^-0.5
  GateKind gate = GateKind::kVector;
  bool value_gate = false;  // whether there is a b_t, one number a token and column of V
  ReadKind read = ReadKind::kInclusive;
  // Neighbouring heads that read the same q and k: head h reads q[h / shared_keys], state head h
  // k[h / shared_keys]. Divides kv_heads; if it is not 1, heads == kv_heads.
  int32_t shared_keys = 1;
  StateFormat state = {};  // what S is stored as

  constexpr int32_t QueryHeads() const { return heads / shared_keys; }
  constexpr int32_t KeyHeads() const { return kv_heads / shared_keys; }
  // Floats of a row of log_decay; 0 if it has no rows.
  constexpr int64_t GateCols() const {
    if (gate == GateKind::kVector) return int64_t{kv_heads} * key_dim;
    return gate == GateKind::kScalar ? kv_heads : 0;
  }
  // Numbers of one layer's state.
  constexpr int64_t StateSize() const { return int64_t{kv_heads} * key_dim * value_dim; }
  constexpr StateParts Parts() const {
    return PartsOfState(state, kv_heads, key_dim, value_dim, value_gate);
  }
  // Units of 4 bytes that it takes in its format.
  constexpr int64_t StateFloats() const { return Parts().end; }
};

// The operands of a batch: q, k, v may be columns of one wide product, hence their strides. On CUDA
// what is not null is 16-byte aligned.
struct GatedOperands {
  const void* q;     // [rows, H / shared_keys, K], rows q_stride apart
  const void* k;     // [rows, kv_heads / shared_keys, K], rows k_stride apart
  const void* v;     // [rows, kv_heads, V], rows v_stride apart
  int64_t q_stride;  // in elements, multiples of 8
  int64_t k_stride;
  int64_t v_stride;
  // Natural log, each <= 0, -infinity allowed; contiguous. By the kind of gate: null, [kv_heads],
  // [rows, kv_heads], [rows, kv_heads, K].
  const float* log_decay;
  const float* value_log_decay = nullptr;  // [rows, kv_heads, V], the same; null if no value_gate
  const float* input_scale = nullptr;      // [rows, kv_heads], any finite number; null for ones
  const float* bonus = nullptr;  // [kv_heads, K], if read exclusively; null for no own term
  // Slot s's state, laid out as state_format.h says, at states + s * slot_stride: read and written.
  float* states;
  int64_t slot_stride;  // in units of 4 bytes
  void* out;            // [rows, H, V], contiguous; none of the others
};

// Where the log decays of one state head lie: row r's of channel c at
// first[r * row_stride + c * channel_stride]. No gate has no first.
struct GateView {
  const float* first;
  int64_t row_stride;
  int64_t channel_stride;  // 0 or 1
};

// From row `row` on.
constexpr GateView ViewGate(const GatedShape& shape, const GatedOperands& operands, int64_t row,
                            int64_t kv_head) {
  // One expression for the address, by which nvcc sees that it is in global memory.
  const int64_t channels = shape.gate == GateKind::kVector ? shape.key_dim : 1;
  const int64_t heads = shape.gate == GateKind::kConstant ? 0 : shape.kv_heads;
  const int64_t at = shape.gate == GateKind::kNone ? 0 : (row * heads + kv_head) * channels;
  return {operands.log_decay + at, heads * channels, shape.gate == GateKind::kVector ? 1 : 0};
}

// Bytes of a row of all operands and of the output.
constexpr int64_t GatedRowBytes(const GatedShape& s, bool has_input_scale) {
  const int64_t activations = (int64_t{s.QueryHeads()} + s.KeyHeads()) * s.key_dim +
                              (int64_t{s.heads} + s.kv_heads) * s.value_dim;
  const int64_t values = s.value_gate ? int64_t{s.kv_heads} * s.value_dim : 0;
  const int64_t scales = has_input_scale ? s.kv_heads : 0;
  return activations * DTypeBytes(s.dtype) + (s.GateCols() + values + scales) * 4;
}

// Each ends the process unless the limits stated above are kept; a device may have narrower ones.
void CheckGatedShape(const GatedShape& shape);
void CheckGatedOperands(const GatedShape& shape, const GatedOperands& operands);

}  // namespace sluice
