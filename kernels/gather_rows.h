// Copies rows of a table picked by index: token embedding, and the rows of a batch that need
// logits.
//
//   out[r, :] = table[indices[r], :]
//
// Oracle: tests/kernels/gather_rows_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sluice {

struct GatherRowsArgs {
  int32_t rows;            // R >= 0
  int32_t dim;             // D, multiple of 8
  int64_t table_rows;      // every index lies in [0, table_rows)
  DType table_dtype;       // float32 or bfloat16
  DType out_dtype;         // float32 or bfloat16
  const void* table;       // [table_rows, D]
  const int32_t* indices;  // [R]
  void* out;               // [R, D]
};

// Bytes that the op has to move.
inline int64_t GatherRowsBytes(const GatherRowsArgs& args) {
  return int64_t{args.rows} *
         (args.dim * (DTypeBytes(args.table_dtype) + DTypeBytes(args.out_dtype)) + 4);
}

}  // namespace sluice
