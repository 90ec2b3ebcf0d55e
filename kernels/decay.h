// Forget gates from their projections, as natural logarithms, element by element.
//
// With z = x[r, c] + bias[c]:
//   kLogSigmoid   g = max(log(sigmoid(z)) / normalizer, clamp_min)
//   kLowerBound   g = log(lb + (1 - lb) sigmoid(z)),        lb = lower_bound[c]
//   kExponential  g = -exp(z)
//   kSoftplus     dt = clamp(log(1 + exp(z)), dt_min, dt_max),  g = -dt * exp(a_log[c])
//
// Always float32: a bfloat16 gate loses slow decays (1 - 2^-9 is the step below one). A slow decay
// is right relative to itself, a fast one ends in -infinity, and none is NaN or positive as long as
// z is finite.
//
// Source: Yang et al. 2023 (arXiv 2312.06635), section 4.4; Qin et al. 2024, "HGRN2" (arXiv
// 2404.07904); Peng et al. 2024, "Eagle and Finch" (arXiv 2404.05892); Dao & Gu 2024, "Transformers
// are SSMs" (arXiv 2405.21060).
// Oracle: tests/kernels/decay_ref.h.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/dtype.h"

namespace sluice {

enum class DecayFormula : uint8_t { kLogSigmoid, kLowerBound, kExponential, kSoftplus };

struct DecayArgs {
  DType dtype;  // of x and complement: float32, or bfloat16 on CUDA
  DecayFormula formula;
  int32_t rows;
  int32_t dim;                                                // channels or heads, any number >= 1
  const void* x;                                              // [rows, dim], rows x_stride apart
  int64_t x_stride;                                           // in elements, >= dim
  const float* bias = nullptr;                                // [dim], or null for zeros
  float normalizer = 1;                                       // kLogSigmoid: > 0
  float clamp_min = -std::numeric_limits<float>::infinity();  // kLogSigmoid: <= 0
  const float* lower_bound = nullptr;  // kLowerBound: [dim], each in [0, 1); null for zeros
  const float* a_log = nullptr;        // kSoftplus: [dim]; what is above 88 counts as 88
  float dt_min = 0;                    // kSoftplus: >= 0
  float dt_max = std::numeric_limits<float>::infinity();  // kSoftplus: >= dt_min
  float* log_decay;                                       // [rows, dim], each <= 0
  // Unless null, of kLowerBound alone: [rows, dim], 1 - exp(log_decay).
  void* complement = nullptr;
  int64_t complement_stride = 0;  // in elements, >= dim
  // Unless null, [rows, dim]: dt of kSoftplus, 1 - exp(log_decay) of kLogSigmoid.
  float* input_scale = nullptr;
};

// Bytes that the op has to move.
inline int64_t DecayBytes(const DecayArgs& args) {
  const int64_t element = DTypeBytes(args.dtype) * (args.complement == nullptr ? 1 : 2) +
                          (args.input_scale == nullptr ? 4 : 8);
  return int64_t{args.rows} * args.dim * element;
}

// What every device checks; breaking it ends the process.
void CheckDecay(const DecayArgs& args);

}  // namespace sluice
