// The number formats that tensors are stored in.
#pragma once

#include <cstdint>

namespace sluice {

// kFloat8 is e4m3 of the Open Compute Project (float8.h): of weights alone.
enum class DType : uint8_t { kFloat32, kBFloat16, kFloat16, kFloat8 };

constexpr int64_t DTypeBytes(DType dtype) {
  if (dtype == DType::kFloat8) return 1;
  return dtype == DType::kFloat32 ? 4 : 2;
}

constexpr const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
    case DType::kFloat8:
      return "float8_e4m3";
  }
  return "?";
}

}  // namespace sluice
