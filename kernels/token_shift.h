// What each token differs by from the one before it, over packed segments, carrying the last token,
// and fixed mixes of the two.
//
//   delta[t, c] = x[t - 1, c] - x[t, c]      mixed[i, t, c] = x[t, c] + delta[t, c] * mu[i, c]
//
// where x before the segment's first token comes from the slot, zeros for a sequence that starts,
// and the slot then holds the segment's last token. Computed in float32 and rounded once. A row's
// result is the same bits whatever else is in the batch and however the sequence was split.
//
// Source: Peng et al. 2023, "RWKV" (arXiv 2305.13048); fla/modules/token_shift.py.
// Oracle: tests/kernels/token_shift_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/segment.h"

namespace sluice {

constexpr int32_t kMaxTokenMixes = 4;

struct TokenShiftArgs {
  DType dtype;                // of x, delta and mixed: float32, or bfloat16 on CUDA
  int32_t dim;                // D, multiple of 8
  int32_t decode_rows;        // rows [0, decode_rows) are one token each
  const int32_t* slots;       // [decode_rows], distinct
  int32_t segment_count;      // then segments
  const Segment* segments;    // [segment_count]
  int32_t rows;               // decode rows and all rows of segments
  const void* x;              // [rows, D], rows x_stride apart
  int64_t x_stride;           // in elements, >= D
  float* last;                // slot s's last token [D] at last + s * slot_stride
  int64_t slot_stride;        // in floats, >= D, multiple of 4
  void* delta;                // [rows, D], contiguous, not x; or null if only mixes are wanted
  int32_t mixes = 0;          // 0..kMaxTokenMixes
  const float* mu = nullptr;  // [mixes, D]
  void* mixed = nullptr;      // [mixes, rows, D], contiguous, neither x nor delta
};

// Bytes that the op has to move.
inline int64_t TokenShiftBytes(const TokenShiftArgs& args) {
  const int64_t sequences = args.decode_rows + args.segment_count;
  const int64_t tensors = 1 + (args.delta == nullptr ? 0 : 1) + args.mixes;
  return int64_t{args.rows} * args.dim * tensors * DTypeBytes(args.dtype) +
         sequences * args.dim * 8;
}

// What every device checks; breaking it ends the process.
void CheckTokenShift(const TokenShiftArgs& args);

}  // namespace sluice
