// The sizes that a model may have, which kernels and buffers rely on.
#pragma once

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "engine/json.h"

namespace sluice {

constexpr int64_t kMaxHiddenSize = 16384;
constexpr int64_t kMaxIntermediateSize = 131072;
constexpr int64_t kMaxLayers = 256;
constexpr int64_t kMaxHeads = 256;
constexpr int64_t kMaxVocabSize = 1'000'000;
constexpr int64_t kMaxHeadDim = 512;
constexpr int64_t kHeadDimMultiple = 16;
constexpr int64_t kWidthMultiple = 8;

// A width of the activations: a multiple of 8, from 8 to `max`.
inline int32_t ReadWidth(JsonReader& reader, const char* key, int64_t fallback, int64_t max) {
  const int64_t width = reader.Int(key, fallback, kWidthMultiple, max);
  if (width % kWidthMultiple != 0) {
    reader.Refuse(key, absl::StrCat("it must be a multiple of ", kWidthMultiple));
  }
  return static_cast<int32_t>(width);
}

// The channels of a head: a multiple of 16, from 16 to 512.
inline int32_t ReadHeadDim(JsonReader& reader, const char* key, int64_t fallback) {
  const int64_t dim = reader.Int(key, fallback, kHeadDimMultiple, kMaxHeadDim);
  if (dim % kHeadDimMultiple != 0) {
    reader.Refuse(key, absl::StrCat("it must be a multiple of ", kHeadDimMultiple));
  }
  return static_cast<int32_t>(dim);
}

}  // namespace sluice
