// Mamba's selective scan over packed rows: a diagonal recurrence of N states for every channel,
// whose step size, input and output weights depend on the token.
//
//   s_t  = softplus(dt[t, d] + dt_bias[d])                     A = -exp(a_log), [D, N]
//   h_t[n, d] = exp(s_t A[d, n]) h_{t-1}[n, d] + s_t b[t, n] x[t, d]
//   y[t, d]   = sum_n c[t, n] h_t[n, d] + skip[d] x[t, d]
//   out[t, d] = y[t, d] silu(gate[t, d])
//
// softplus(x) is x from 20 on, and log1p(exp(x)) below. The only exponentials of decays are of
// numbers <= 0: a step or an A however large forgets the state and gives neither NaN nor infinity,
// as long as s_t x and s_t x b are finite. From kMaxScanLogA on all a_log are the same.
//
// Prefill may be a scan in chunks of the grid of positions (segment.h): with S_c the sum of chunk
// c's steps and h' the state after it if it began with none,
//   h_c = exp(S_c A) h_{c-1} + h'_c
//
// Steps, decays, sums and states are float32. A row's result is the same bits whatever else is in
// the batch, whichever slot it has, and however its prompt was split on the grid; on the CPU,
// which walks a segment token by token, however it was split at all.
//
// Source: Gu and Dao 2023 (arXiv 2312.00752), algorithm 2. Oracle:
// tests/kernels/selective_scan_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/segment.h"

namespace sluice {

constexpr int32_t kMaxScanState = 256;  // N
constexpr float kMaxScanLogA = 87;      // exp of it is finite in float32 with room to spare

struct SelectiveScanArgs {
  DType dtype;              // of x, dt, b, c, gate and out: float32, or bfloat16 on CUDA
  int32_t channels;         // D, multiple of 8
  int32_t state_size;       // N, multiple of 8, 8..kMaxScanState
  int32_t decode_rows;      // rows [0, decode_rows) are one token each
  const int32_t* slots;     // [decode_rows], distinct
  int32_t segment_count;    // then segments
  const Segment* segments;  // [segment_count]
  int32_t chunk_count;      // sum of ChunkCount over segments
  const ChunkSpan* chunks;  // [chunk_count], by segment, then by row
  int32_t rows;             // decode rows and all rows of segments
  const void* x;            // [rows, D]; strides here and below in elements, multiples of 8
  int64_t x_stride;
  const void* dt;  // [rows, D], before its bias and softplus
  int64_t dt_stride;
  const float* dt_bias;  // [D] or null
  const void* b;         // [rows, N]
  int64_t b_stride;
  const void* c;  // [rows, N]
  int64_t c_stride;
  const float* a_log;  // [D, N]
  const float* skip;   // [D] or null
  const void* gate;    // [rows, D], or null for no gate
  int64_t gate_stride;
  float* states;        // slot s's h, [N, D]: channels are contiguous, at states + s * slot_stride
  int64_t slot_stride;  // in floats
  void* out;            // [rows, D], contiguous, none of the above
  void* workspace;      // Device::SelectiveScanWorkspaceBytes bytes, 16-aligned; null if that is 0
};

// Bytes that the op has to move.
inline int64_t SelectiveScanBytes(const SelectiveScanArgs& args) {
  const int64_t wide = args.gate == nullptr ? 3 : 4;
  const int64_t row = wide * args.channels + 2 * int64_t{args.state_size};
  const int64_t state = int64_t{args.state_size} * args.channels * 4;
  const int64_t sequences = int64_t{args.decode_rows} + args.segment_count;
  return args.rows * row * DTypeBytes(args.dtype) + (2 * sequences + 1) * state;
}

}  // namespace sluice
