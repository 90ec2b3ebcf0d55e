// The normaliser of linear attention, carried as one more column of the state.
//
// PadValues appends to every head's value a one and zeros up to a tile, so that the recurrence
// S_t = a_t S_{t-1} + k_t^T v_t sums the keys themselves in the column past the last value: what it
// gives there for a query is d = q . n. Normalize then divides the values by it and drops the tile:
//
//   kSum    y[r, h, c] = x[r, h, c] / (d + eps)
//   kMlstm  y[r, h, c] = x[r, h, c] / (max(|d|, exp(log_floor[r, h])) + eps)
//
// with d = x[r, h, V]. Where the divisor is zero, so is y.
//
// Source: Katharopoulos et al. 2020 (arXiv 2006.16236), equation 7; Beck et al. 2024, "xLSTM"
// (arXiv 2405.04517), section 2.3.
// Oracle: tests/kernels/normalizer_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sluice {

constexpr int32_t kNormalizerTile = 16;  // columns that are appended to a head's value

struct PadValuesArgs {
  DType dtype;  // float32, or bfloat16 on CUDA
  int32_t rows;
  int32_t heads;
  int32_t dim;       // V, multiple of 8
  const void* v;     // [rows, heads * V], rows v_stride apart
  int64_t v_stride;  // in elements, multiple of 8
  void* out;         // [rows, heads, V + 16]: v, then 1, then 15 zeros
};

enum class NormalizeKind : uint8_t { kSum, kMlstm };

struct NormalizeArgs {
  DType dtype;  // of x and y: float32, or bfloat16 on CUDA
  NormalizeKind kind;
  int32_t rows;
  int32_t heads;
  int32_t dim;                       // V, multiple of 8
  float eps;                         // >= 0
  const void* x;                     // [rows, heads, V + 16]
  const float* log_floor = nullptr;  // kMlstm: [rows, heads]
  void* y;                           // [rows, heads, V], not x
};

// Bytes that the ops have to move.
inline int64_t PadValuesBytes(const PadValuesArgs& args) {
  return int64_t{args.rows} * args.heads * (2 * args.dim + kNormalizerTile) *
         DTypeBytes(args.dtype);
}
inline int64_t NormalizeBytes(const NormalizeArgs& args) {
  return int64_t{args.rows} * args.heads * (2 * args.dim + 1) * DTypeBytes(args.dtype);
}

// What every device checks; breaking it ends the process.
void CheckPadValues(const PadValuesArgs& args);
void CheckNormalize(const NormalizeArgs& args);

}  // namespace sluice
