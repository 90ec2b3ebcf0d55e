// Causal depthwise convolution over time, with or without SiLU, over packed segments, carrying the
// last inputs.
//
//   y[t, c] = act(sum_{j<W} weight[c, j] * x[t - W + 1 + j, c] + bias[c])
//
// where x before the segment's first token comes from the slot's window, and the window afterwards
// holds the last W-1 inputs. A row's result is the same bits whatever else is in the batch and
// however the sequence was split.
//
// Source: fla/modules/convolution.py (ShortConvolution); Mamba's causal_conv1d.
// Oracle: tests/kernels/short_conv_ref.h.
#pragma once

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/dtype.h"
#include "kernels/segment.h"

namespace sluice {

struct ShortConvArgs {
  DType dtype;              // of x and y: float32, or bfloat16 on CUDA
  int32_t channels;         // C, multiple of 8
  int32_t width;            // W, 2..8
  int32_t decode_rows;      // rows [0, decode_rows) are one token each
  const int32_t* slots;     // [decode_rows], distinct
  int32_t segment_count;    // then segments
  const Segment* segments;  // [segment_count]
  int32_t rows;             // decode rows and all rows of segments
  const void* x;            // [rows, C], rows x_stride apart
  int64_t x_stride;         // in elements
  const float* weight;      // [C, W]
  const float* bias;        // [C] or null
  float* windows;           // slot s's window [W-1, C] (oldest first) at windows + s * slot_stride
  int64_t slot_stride;      // in floats
  void* y;                  // [rows, C], contiguous, not x
  Activation act = Activation::kSilu;  // kSilu or kNone
};

// Bytes that the op has to move.
inline int64_t ShortConvBytes(const ShortConvArgs& args) {
  const int64_t sequences = args.decode_rows + args.segment_count;
  return int64_t{args.rows} * args.channels * 2 * DTypeBytes(args.dtype) +
         sequences * args.channels * (args.width - 1) * 8;
}

}  // namespace sluice
