// Feature maps of q and k that have another size than their input, or take in a whole head.
//
// With z = x[r, h, :] + bias[:], K numbers, and u = [max(z, 0), max(-z, 0)]:
//   kIdentity  z                                                                     K numbers
//   kDpfp      [u * roll(u, 1), u * roll(u, 2), u * roll(u, 3), u * roll(u, 4)]     8 K
//   kHedgehog  softmax([2 z, -2 z])                                                  2 K
//   kSinCos    [sin(z), cos(z)]                                                      2 K
// where roll(u, j)[c] = u[(c - j) mod 2K]. Then
//   y = scale * features, and y /= sum(y) + sum_eps if sum_eps > 0, for features that are >= 0.
//
// Source: Schlag et al. 2021 (arXiv 2102.11174), section 5.3; Zhang et al. 2024, "The Hedgehog &
// the Porcupine" (arXiv 2402.04347), whose trained projection comes before this op; Peng et al.
// 2021, "Random Feature Attention" (arXiv 2103.02143); fla/modules/feature_map.py. Oracle:
// tests/kernels/feature_map_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sluice {

enum class FeatureMapKind : uint8_t { kIdentity, kDpfp, kHedgehog, kSinCos };

constexpr int32_t kMaxFeatureDim = 512;

// Numbers that a head of `dim` numbers becomes.
constexpr int32_t FeatureDim(FeatureMapKind kind, int32_t dim) {
  switch (kind) {
    case FeatureMapKind::kIdentity:
      return dim;
    case FeatureMapKind::kDpfp:
      return 8 * dim;
    case FeatureMapKind::kHedgehog:
    case FeatureMapKind::kSinCos:
      return 2 * dim;
  }
  return 0;
}

struct FeatureMapArgs {
  DType dtype;  // of x and y: float32, or bfloat16 on CUDA
  FeatureMapKind kind;
  int32_t rows;
  int32_t heads;
  int32_t dim;                  // K, multiple of 8, with FeatureDim(kind, K) <= kMaxFeatureDim
  const void* x;                // [rows, heads * K], rows x_stride apart
  int64_t x_stride;             // in elements, multiple of 8
  const float* bias = nullptr;  // [K], the same for every head, or null for zeros
  float scale = 1;
  float sum_eps = 0;  // >= 0; 0: not divided
  void* y;            // [rows, heads * FeatureDim(kind, K)], rows y_stride apart, not x
  int64_t y_stride;   // in elements, multiple of 8
};

// Bytes that the op has to move.
inline int64_t FeatureMapBytes(const FeatureMapArgs& args) {
  return int64_t{args.rows} * args.heads * (args.dim + FeatureDim(args.kind, args.dim)) *
         DTypeBytes(args.dtype);
}

// What every device checks; breaking it ends the process.
void CheckFeatureMap(const FeatureMapArgs& args);

}  // namespace sluice
