// GLA's forget gate from its low-rank activation, as a natural logarithm.
//
//   g[r, c] = max(logsigmoid(sum_j x[r, j] * weight[c, j] + bias[c]) / normalizer, clamp_min)
//
// Always float32: a bfloat16 gate loses slow decays (1 - 2^-9 is the step below one).
//
// On the GPU weight and bias may be read while ops queued before are still running, as those of
// linear.h.
//
// Source: Yang et al. 2023 (arXiv 2312.06635), section 4.4; fla/layers/gla.py (gk_proj).
// Oracle: tests/kernels/log_gate_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sluice {

constexpr int32_t kMaxGateRank = 64;  // of x: more than fla's models have

struct LogGateArgs {
  DType dtype;  // of x: float32, or bfloat16 on CUDA
  int32_t rows;
  int32_t rank;         // 16 in fla: 8..kMaxGateRank, multiple of 8
  int32_t dim;          // gate channels (kv heads * K), multiple of 8
  float normalizer;     // > 0; 16 in fla
  float clamp_min;      // <= 0; -infinity for none
  const void* x;        // [rows, rank], rows x_stride apart
  int64_t x_stride;     // in elements, >= rank
  const float* weight;  // [dim, rank]
  const float* bias;    // [dim]
  float* log_decay;     // [rows, dim], each <= 0
};

// Bytes that the op has to move.
inline int64_t LogGateBytes(const LogGateArgs& args) {
  return int64_t{args.rows} * (args.rank * DTypeBytes(args.dtype) + int64_t{args.dim} * 4) +
         int64_t{args.dim} * (args.rank + 1) * 4;
}

}  // namespace sluice
