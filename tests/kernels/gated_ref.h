// Oracle of kernels/gated_step.h and kernels/gated_chunk.h: the three forms of gated linear
// attention for one head of one sequence. They are the same function; tests say so.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace sluice::ref {

struct GatedHead {
  int64_t tokens;                       // T
  int64_t key_dim;                      // K
  int64_t value_dim;                    // V
  double scale;                         // of q
  std::vector<double> q;                // [T, K]
  std::vector<double> k;                // [T, K]
  std::vector<double> v;                // [T, V]
  std::vector<double> log_decay;        // [T, K], each <= 0
  std::vector<double> state;            // [K, V], before the first token
  std::vector<double> value_log_decay;  // [T, V], each <= 0
  std::vector<double> input_scale;      // [T]
  bool exclusive = false;
  std::vector<double> bonus;  // [K], if exclusive
};

struct GatedResult {
  std::vector<double> out;    // [T, V]
  std::vector<double> state;  // [K, V], after the last token
};

// S_t = diag(exp(g_t)) S_{t-1} diag(exp(h_t)) + c_t k_t^T v_t
// o_t = scale * q_t S_t, or scale * q_t (S_{t-1} + diag(u) c_t k_t^T v_t).
inline GatedResult GatedRecurrent(const GatedHead& h) {
  GatedResult result = {std::vector<double>(h.tokens * h.value_dim), h.state};
  std::vector<double> value_decay(h.value_dim);
  for (int64_t t = 0; t < h.tokens; ++t) {
    for (int64_t d = 0; d < h.value_dim; ++d) {
      value_decay[d] = std::exp(h.value_log_decay[t * h.value_dim + d]);
    }
    for (int64_t c = 0; c < h.key_dim; ++c) {
      const double decay = std::exp(h.log_decay[t * h.key_dim + c]);
      const double k = h.input_scale[t] * h.k[t * h.key_dim + c];
      const double q = h.scale * h.q[t * h.key_dim + c];
      const double u = h.exclusive ? h.bonus[c] : 0;
      for (int64_t d = 0; d < h.value_dim; ++d) {
        double& s = result.state[c * h.value_dim + d];
        const double input = k * h.v[t * h.value_dim + d];
        const double before = s;
        s = decay * value_decay[d] * s + input;
        result.out[t * h.value_dim + d] += q * (h.exclusive ? before + u * input : s);
      }
    }
  }
  return result;
}

// exp of the sum of the log gates of tokens [begin, end) in channel c of the key.
inline double KeyDecay(const GatedHead& h, int64_t begin, int64_t end, int64_t c) {
  double sum = 0;
  for (int64_t t = begin; t < end; ++t) sum += h.log_decay[t * h.key_dim + c];
  return std::exp(sum);
}

// The same in column d of the value.
inline double ValueDecay(const GatedHead& h, int64_t begin, int64_t end, int64_t d) {
  double sum = 0;
  for (int64_t t = begin; t < end; ++t) sum += h.value_log_decay[t * h.value_dim + d];
  return std::exp(sum);
}

// The token after the last one whose gate is in what output i reads.
inline int64_t ReadEnd(const GatedHead& h, int64_t i) { return h.exclusive ? i : i + 1; }

// sum_c q_ic c_j k_jc exp(g_{j+1} + ...): what output i takes of value j <= i.
inline double GatedScore(const GatedHead& h, int64_t i, int64_t j) {
  double score = 0;
  for (int64_t c = 0; c < h.key_dim; ++c) {
    const double weight = h.exclusive && i == j ? h.bonus[c] : KeyDecay(h, j + 1, ReadEnd(h, i), c);
    score += h.q[i * h.key_dim + c] * h.input_scale[j] * h.k[j * h.key_dim + c] * weight;
  }
  return score;
}

// Tokens [begin, end) at once, from the state before them, which becomes the state after them:
//   O = (Q exp(G)) S_0 + (QK^T .* M) V, M lower triangular.
inline void GatedChunk(const GatedHead& h, int64_t begin, int64_t end, GatedResult* result) {
  const std::vector<double> before = result->state;
  for (int64_t i = begin; i < end; ++i) {
    double* out = &result->out[i * h.value_dim];
    for (int64_t c = 0; c < h.key_dim; ++c) {
      const double q = h.q[i * h.key_dim + c] * KeyDecay(h, begin, ReadEnd(h, i), c);
      for (int64_t d = 0; d < h.value_dim; ++d) out[d] += q * before[c * h.value_dim + d];
    }
    for (int64_t d = 0; d < h.value_dim; ++d) out[d] *= ValueDecay(h, begin, ReadEnd(h, i), d);
    for (int64_t j = begin; j <= i; ++j) {
      const double score = GatedScore(h, i, j);
      for (int64_t d = 0; d < h.value_dim; ++d) {
        out[d] += score * ValueDecay(h, j + 1, ReadEnd(h, i), d) * h.v[j * h.value_dim + d];
      }
    }
    for (int64_t d = 0; d < h.value_dim; ++d) out[d] *= h.scale;
  }
  for (int64_t c = 0; c < h.key_dim; ++c) {
    const double decay = KeyDecay(h, begin, end, c);
    double* state = &result->state[c * h.value_dim];
    for (int64_t d = 0; d < h.value_dim; ++d) {
      state[d] = decay * ValueDecay(h, begin, end, d) * before[c * h.value_dim + d];
    }
    for (int64_t j = begin; j < end; ++j) {
      const double k = h.input_scale[j] * h.k[j * h.key_dim + c] * KeyDecay(h, j + 1, end, c);
      for (int64_t d = 0; d < h.value_dim; ++d) {
        state[d] += k * ValueDecay(h, j + 1, end, d) * h.v[j * h.value_dim + d];
      }
    }
  }
}

// Chunks of `chunk` tokens, the first one shorter if the sequence starts off the grid.
inline GatedResult GatedChunkwise(const GatedHead& h, int64_t chunk, int64_t position) {
  GatedResult result = {std::vector<double>(h.tokens * h.value_dim), h.state};
  for (int64_t begin = 0; begin < h.tokens;) {
    const int64_t end = std::min(h.tokens, begin + chunk - (position + begin) % chunk);
    GatedChunk(h, begin, end, &result);
    begin = end;
  }
  return result;
}

inline GatedResult GatedParallel(const GatedHead& h) {
  GatedResult result = {std::vector<double>(h.tokens * h.value_dim), h.state};
  GatedChunk(h, 0, h.tokens, &result);
  return result;
}

}  // namespace sluice::ref
