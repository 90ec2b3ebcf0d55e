// What the state of a gated recurrence is stored as, and where its parts lie in a slot.
//
// The matrix S [heads, K, V] of a layer is float32, or rounded when it is written:
//   float16  to nearest, what is larger than 65504 to that: never infinite
//   int8     to nearest, symmetrically: a row of a channel of K has the scale of its largest
//            magnitude over 127; a row with a scale below the least normal number is zero
// What is no number stays none: of int8 with all of its row.
// Reading it is exact, and all arithmetic is float32.
//
// With a ring of L tokens the matrix is written once in L tokens (replay). The step adds a token to
// the ring, and the L-th token folds all into the matrix and empties the ring. With G_t the sum of
// the log gates of the tokens since then, g_1 + ... + g_t, the ring holds of token j < L
//   k^_j = c_j k_j exp(-G_j) and v_j,   so that   S_t = diag(exp(G_t)) (S_0 + sum_j k^_j^T v_j)
// and reads o_t = (q_t exp(G_t)) S_0 + sum_j (q_t exp(G_t) . k^_j) v_j; G_{t-1} stands for G_t if
// read exclusively, and the token itself comes without decays. Gated values are kept the same way:
// v_j exp(-B_j). The token at which some -G_t or -B_t of a head passes 60 folds it early: what is
// grown back is at most e^60, and -infinity is only ever a factor of 0. A ring of 1 holds nothing,
// as one of 0.
//
// A layer's part of a slot is addressed in units of 4 bytes. In this order, each part from a
// multiple of 64 units on, those of a format alone that has them:
//   matrix             [heads, K, V] in the type
//   scales             [heads, K] float32: int8
//   counts             [heads] int32: tokens in the ring
//   log_decay          [heads, K] float32: G of the last of them
//   value_log_decay    [heads, V] float32: B, if values are gated
//   keys               [heads, L - 1, K] float32: k^
//   values             [heads, L - 1, V] float32: v, or v exp(-B)
// All zero is a state of zeros with an empty ring.
//
// What nothing decays does not stay right when it is rounded: of float16 a sum stops near 4,096 of
// its increments, or at 65504, and of int8 near 254, but for those that a ring adds at once.
//
// Source: a ring of inputs beside a state that is rarely written: "ReplaySSM" (dao-lab.ai).
#pragma once

#include <cstdint>

namespace sluice {

enum class StateType : uint8_t { kFloat32, kFloat16, kInt8 };

constexpr int32_t kMaxStateRing = 32;   // tokens
constexpr float kMaxRingLogDecay = 60;  // of -G and -B
constexpr float kMaxFloat16 = 65504;    // and so a state's largest number
constexpr float kMaxInt8 = 127;
constexpr float kMinStateScale = 0x1p-126F;  // of int8, or 0

struct StateFormat {
  StateType type = StateType::kFloat32;
  int32_t ring = 0;  // L: 0..32, 0 for none

  // Whether the state is the matrix in float32 and nothing else.
  constexpr bool IsPlain() const { return type == StateType::kFloat32 && ring == 0; }
  // Tokens that are ever held.
  constexpr int32_t Held() const { return ring == 0 ? 0 : ring - 1; }
};

constexpr int64_t StateTypeBytes(StateType type) {
  return type == StateType::kFloat32 ? 4 : (type == StateType::kFloat16 ? 2 : 1);
}

// Where the parts begin, in units of 4 bytes; the matrix at 0. What a format does not have takes
// nothing.
struct StateParts {
  int64_t scales;
  int64_t counts;
  int64_t log_decay;
  int64_t value_log_decay;
  int64_t keys;
  int64_t values;
  int64_t end;  // of all
};

constexpr int64_t AlignedStatePart(int64_t units) { return (units + 63) / 64 * 64; }

// `value_gate`: whether values are gated.
constexpr StateParts PartsOfState(const StateFormat& format, int64_t heads, int64_t key_dim,
                                  int64_t value_dim, bool value_gate) {
  const int64_t matrix = heads * key_dim * value_dim * StateTypeBytes(format.type) / 4;
  const int64_t scales = format.type == StateType::kInt8 ? heads * key_dim : 0;
  const int64_t rings = format.ring > 0 ? heads : 0;
  const int64_t gated = value_gate ? rings : 0;
  StateParts parts = {};
  parts.scales = AlignedStatePart(matrix);
  parts.counts = parts.scales + AlignedStatePart(scales);
  parts.log_decay = parts.counts + AlignedStatePart(rings);
  parts.value_log_decay = parts.log_decay + AlignedStatePart(rings * key_dim);
  parts.keys = parts.value_log_decay + AlignedStatePart(gated * value_dim);
  parts.values = parts.keys + AlignedStatePart(rings * format.Held() * key_dim);
  parts.end = parts.values + AlignedStatePart(rings * format.Held() * value_dim);
  return parts;
}

}  // namespace sluice
