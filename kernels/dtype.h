// The number formats that tensors are stored in.
#pragma once

#include <cstdint>

namespace sluice {

enum class DType : uint8_t { kFloat32, kBFloat16, kFloat16 };

constexpr int64_t DTypeBytes(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

constexpr const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
  }
  return "?";
}

}  // namespace sluice
