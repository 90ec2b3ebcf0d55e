#include "engine/weight_loader.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kBlockElements = int64_t{1} << 20;

float FromBFloat16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// IEEE binary16; subnormals are made exact by the multiplication, infinities and NaNs are kept.
float FromFloat16(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000U} << 16;
  const uint32_t rest = bits & 0x7FFFU;
  if (rest >= 0x7C00U) return std::bit_cast<float>(sign | 0x7F800000U | ((rest & 0x3FFU) << 13));
  const float scaled = std::bit_cast<float>(rest << 13) * 0x1p112F;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

// To the nearest, ties to even; a NaN stays one.
uint16_t ToBFloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

float ReadElement(const std::byte* data, DType dtype, int64_t index) {
  if (dtype == DType::kFloat32) {
    float value;
    std::memcpy(&value, data + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data + index * 2, 2);
  return dtype == DType::kBFloat16 ? FromBFloat16(bits) : FromFloat16(bits);
}

void ConvertBlock(const TensorView& tensor, int64_t begin, int64_t count, DType dtype,
                  std::byte* out) {
  for (int64_t i = 0; i < count; ++i) {
    const float value = ReadElement(tensor.data, tensor.dtype, begin + i);
    if (dtype == DType::kFloat32) {
      std::memcpy(out + i * 4, &value, 4);
    } else {
      const uint16_t bits = ToBFloat16(value);
      std::memcpy(out + i * 2, &bits, 2);
    }
  }
}

}  // namespace

absl::StatusOr<DeviceBuffer> WeightLoader::Load(const std::vector<WeightPart>& parts, DType dtype) {
  std::vector<TensorView> tensors;
  int64_t elements = 0;
  for (const WeightPart& part : parts) {
    SLUICE_ASSIGN_OR_RETURN(TensorView tensor, checkpoint_->Find(part.name, part.shape));
    elements += tensor.elements();
    tensors.push_back(std::move(tensor));
  }
  DeviceBuffer buffer(device_, elements * DTypeBytes(dtype));
  if (!buffer.ok()) {
    return absl::ResourceExhaustedError(absl::StrCat("weights: ", parts.front().name, " needs ",
                                                     buffer.bytes(), " bytes; the device has ",
                                                     device_->FreeBytes(), " free"));
  }
  auto* to = buffer.as<std::byte>();
  for (const TensorView& tensor : tensors) {
    Upload(tensor, dtype, to);
    to += tensor.elements() * DTypeBytes(dtype);
    checkpoint_->Release(tensor);
  }
  loaded_elements_ += elements;
  loaded_bytes_ += buffer.bytes();
  return buffer;
}

void WeightLoader::Upload(const TensorView& tensor, DType dtype, std::byte* to) {
  if (tensor.dtype == dtype) {
    device_->Upload(to, tensor.data, tensor.bytes);
    return;
  }
  block_.resize(kBlockElements * 4);
  for (int64_t begin = 0; begin < tensor.elements(); begin += kBlockElements) {
    const int64_t count = std::min(kBlockElements, tensor.elements() - begin);
    ConvertBlock(tensor, begin, count, dtype, block_.data());
    device_->Upload(to + begin * DTypeBytes(dtype), block_.data(), count * DTypeBytes(dtype));
  }
}

}  // namespace sluice
