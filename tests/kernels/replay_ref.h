// Oracle of the formats of kernels/state_format.h: the recurrence of gated_ref.h for one head of
// one sequence, whose state is rounded where the format says, and nowhere else.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/state_format.h"
#include "tests/kernels/gated_ref.h"

namespace sluice::ref {

// The nearest float16 that is finite; of two, the even one.
inline double RoundToFloat16(double x) {
  if (std::abs(x) >= 65504) return std::copysign(65504, x);
  if (x == 0) return x;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(x), -14) - 10);
  return std::nearbyint(x / unit) * unit;
}

// What is left of a row [V] of the matrix once stored.
inline void RoundRow(StateType type, double* row, int64_t value_dim) {
  if (type == StateType::kFloat32) {
    for (int64_t d = 0; d < value_dim; ++d) row[d] = static_cast<float>(row[d]);
  } else if (type == StateType::kFloat16) {
    for (int64_t d = 0; d < value_dim; ++d) row[d] = RoundToFloat16(row[d]);
  } else {
    double largest = 0;
    for (int64_t d = 0; d < value_dim; ++d) largest = std::max(largest, std::abs(row[d]));
    const double scale = static_cast<float>(largest / 127);
    for (int64_t d = 0; d < value_dim; ++d) {
      row[d] = scale < 0x1p-126 ? 0 : std::nearbyint(row[d] / scale) * scale;
    }
  }
}

inline void RoundMatrix(StateType type, int64_t value_dim, std::vector<double>* matrix) {
  const auto size = static_cast<int64_t>(matrix->size());
  for (int64_t at = 0; at < size; at += value_dim) RoundRow(type, matrix->data() + at, value_dim);
}

struct ReplayResult {
  std::vector<double> out;    // [T, V]
  std::vector<double> state;  // [K, V], after the last token, the ring's tokens in it
  int64_t held;               // tokens in the ring
};

// Whether the sums since the ring's start, moved on by token t, pass e^-60.
inline bool MoveOn(const std::vector<double>& gates, int64_t t, std::vector<double>* sums) {
  bool passes = false;
  const auto dim = static_cast<int64_t>(sums->size());
  for (int64_t i = 0; i < dim; ++i) {
    (*sums)[i] += gates[t * dim + i];
    passes |= (*sums)[i] < -60;
  }
  return passes;
}

// From a state that the format can hold, and an empty ring.
inline ReplayResult GatedReplay(const GatedHead& h, const StateFormat& format) {
  ReplayResult result = {{}, h.state, 0};
  std::vector<double> key_sums(h.key_dim);
  std::vector<double> value_sums(h.value_dim);
  for (int64_t t = 0; t < h.tokens; ++t) {
    const auto row = [&](const std::vector<double>& all, int64_t dim) {
      return std::vector<double>(all.begin() + t * dim, all.begin() + (t + 1) * dim);
    };
    GatedResult step = GatedRecurrent({.tokens = 1,
                                       .key_dim = h.key_dim,
                                       .value_dim = h.value_dim,
                                       .scale = h.scale,
                                       .q = row(h.q, h.key_dim),
                                       .k = row(h.k, h.key_dim),
                                       .v = row(h.v, h.value_dim),
                                       .log_decay = row(h.log_decay, h.key_dim),
                                       .state = std::move(result.state),
                                       .value_log_decay = row(h.value_log_decay, h.value_dim),
                                       .input_scale = row(h.input_scale, 1),
                                       .exclusive = h.exclusive,
                                       .bonus = h.bonus});
    result.out.insert(result.out.end(), step.out.begin(), step.out.end());
    result.state = std::move(step.state);
    ++result.held;
    bool folds = MoveOn(h.log_decay, t, &key_sums);
    folds |= MoveOn(h.value_log_decay, t, &value_sums);
    if (!folds && result.held < std::max(format.ring, 1)) continue;
    RoundMatrix(format.type, h.value_dim, &result.state);
    result.held = 0;
    std::fill(key_sums.begin(), key_sums.end(), 0);
    std::fill(value_sums.begin(), value_sums.end(), 0);
  }
  return result;
}

}  // namespace sluice::ref
