// The exponential gates of the mLSTM, stabilised by a running maximum, over packed segments.
//
//   i_t = cap(input[t, h] + input_bias[h])          cap(x) = soft_cap * tanh(x / soft_cap), or x
//   f_t = log(sigmoid(cap(forget[t, h] + forget_bias[h])))
//   m_t = max(f_t + m_{t-1}, i_t)
//   log_decay[t, h] = f_t + m_{t-1} - m_t,  input_scale[t, h] = exp(i_t - m_t),
//   log_floor[t, h] = -m_t
//
// where m before the segment's first token comes from the slot, which then holds that of the last;
// a zeroed slot starts at m = 0. With these the state S_t = exp(log_decay) S_{t-1} + input_scale
// k_t^T v_t stays in range, and exp(log_floor) is the floor of its normaliser (normalizer.h).
//
// The recurrence is associative: a run of tokens is the pair of F, the sum of its f, and M, its m
// if it started from minus infinity, and (F, M) followed by (F', M') is (F + F', max(F' + M, M')).
// CUDA scans tiles of kChunk tokens, cut at multiples of kChunk of the sequence's own positions,
// in a fixed order within a tile and one tile after the other: splitting a prompt at such a
// position changes no bit, nor does the rest of the batch or the slot. One token gives the same
// bits as a decode row and as a segment.
//
// Source: Beck et al. 2024, "xLSTM" (arXiv 2405.04517), equations 15 to 27; soft cap: Beck et al.
// 2025, "xLSTM 7B" (arXiv 2503.13427).
// Oracle: tests/kernels/mlstm_gates_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/segment.h"

namespace sluice {

struct MlstmGatesArgs {
  DType dtype;                         // of input and forget: float32, or bfloat16 on CUDA
  int32_t heads;                       // H, any number >= 1
  int32_t decode_rows;                 // rows [0, decode_rows) are one token each
  const int32_t* slots;                // [decode_rows], distinct
  int32_t segment_count;               // then segments
  const Segment* segments;             // [segment_count]
  int32_t rows;                        // decode rows and all rows of segments
  const void* input;                   // [rows, H], rows input_stride apart
  int64_t input_stride;                // in elements, >= H
  const void* forget;                  // [rows, H], rows forget_stride apart
  int64_t forget_stride;               // in elements, >= H
  const float* input_bias = nullptr;   // [H], or null for zeros
  const float* forget_bias = nullptr;  // [H], or null for zeros
  float soft_cap = 0;                  // > 0, or 0 for none
  float* max;                          // slot s's m [H] at max + s * slot_stride
  int64_t slot_stride;                 // in floats, >= H
  float* log_decay;                    // [rows, H], each <= 0
  float* input_scale;                  // [rows, H], each in [0, 1]
  float* log_floor;                    // [rows, H]
};

// Bytes that the op has to move.
inline int64_t MlstmGatesBytes(const MlstmGatesArgs& args) {
  const int64_t sequences = int64_t{args.decode_rows} + args.segment_count;
  return int64_t{args.heads} * (args.rows * (2 * DTypeBytes(args.dtype) + 12) + sequences * 8);
}

// What every device checks; breaking it ends the process.
void CheckMlstmGates(const MlstmGatesArgs& args);

}  // namespace sluice
