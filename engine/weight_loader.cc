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

// IEEE binary16, exactly; a NaN stays one. A subnormal is lent 2^-14 and gives it back, which
// leaves it normalised.
float FromFloat16(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000U} << 16;
  const uint32_t rest = uint32_t{bits & 0x7FFFU} << 13;
  const uint32_t subnormal = rest < (1U << 23);
  const uint32_t special = rest >= (31U << 23);
  const auto lent = std::bit_cast<float>(subnormal * (113U << 23));
  const float magnitude = std::bit_cast<float>(rest + ((112U + subnormal) << 23)) - lent;
  return std::bit_cast<float>(sign | (special * 0x7F800000U) | std::bit_cast<uint32_t>(magnitude));
}

// To the nearest, ties to even; a NaN stays one.
uint16_t ToBFloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = bits + 0x7FFFU + ((bits >> 16) & 1U);
  const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  return static_cast<uint16_t>((nan ? bits | 0x400000U : rounded) >> 16);
}

uint16_t Float16ToBFloat16(uint16_t bits) { return ToBFloat16(FromFloat16(bits)); }

// One loop for each conversion, free of branches, so that it is made of vector instructions.
template <typename From, auto kConvert>
void ConvertAll(const std::byte* from, int64_t count, std::byte* to) {
  for (int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * sizeof(value), sizeof(value));
    const auto converted = kConvert(value);
    std::memcpy(to + i * sizeof(converted), &converted, sizeof(converted));
  }
}

// `from` and `to` are two types, `to` one that weights are kept in.
void Convert(DType from, const std::byte* data, int64_t count, DType to, std::byte* out) {
  if (to == DType::kFloat32) {
    (from == DType::kBFloat16 ? ConvertAll<uint16_t, FromBFloat16>
                              : ConvertAll<uint16_t, FromFloat16>)(data, count, out);
  } else {
    (from == DType::kFloat32 ? ConvertAll<float, ToBFloat16>
                             : ConvertAll<uint16_t, Float16ToBFloat16>)(data, count, out);
  }
}

}  // namespace

absl::StatusOr<DeviceBuffer> WeightLoader::Load(const std::vector<WeightPart>& parts, DType dtype,
                                                int64_t padded_elements) {
  std::vector<TensorView> tensors;
  int64_t elements = 0;
  for (const WeightPart& part : parts) {
    SLUICE_ASSIGN_OR_RETURN(TensorView tensor, Find(part));
    elements += tensor.elements();
    tensors.push_back(std::move(tensor));
  }
  const int64_t bytes = std::max(elements, padded_elements) * DTypeBytes(dtype);
  loaded_elements_ += elements;
  loaded_bytes_ += bytes;
  if (checkpoint_ == nullptr) return DeviceBuffer();
  DeviceBuffer buffer(device_, bytes);
  if (!buffer.ok()) {
    return absl::ResourceExhaustedError(absl::StrCat("weights: ", parts.front().name, " needs ",
                                                     buffer.bytes(), " bytes; the device has ",
                                                     device_->FreeBytes(), " free"));
  }
  auto* to = buffer.as<std::byte>();
  for (size_t i = 0; i < parts.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(Upload(parts[i], tensors[i], dtype, to));
    to += tensors[i].elements() * DTypeBytes(dtype);
  }
  device_->Zero(to, bytes - elements * DTypeBytes(dtype));
  return buffer;
}

absl::StatusOr<TensorView> WeightLoader::Find(const WeightPart& part) {
  asked_.push_back(part);
  if (checkpoint_ != nullptr) return checkpoint_->Find(part.name, part.shape);
  int64_t bytes = DTypeBytes(DType::kFloat32);
  for (const int64_t dim : part.shape) bytes *= dim;
  return TensorView{.dtype = DType::kFloat32, .shape = part.shape, .offset = 0, .bytes = bytes};
}

absl::StatusOr<std::vector<float>> WeightLoader::HostFloats(const WeightPart& part) {
  SLUICE_ASSIGN_OR_RETURN(const TensorView tensor, Find(part));
  std::vector<float> values(tensor.elements());
  loaded_elements_ += tensor.elements();
  if (checkpoint_ == nullptr) return values;
  auto* to = reinterpret_cast<std::byte*>(values.data());
  if (tensor.dtype == DType::kFloat32) {
    SLUICE_RETURN_IF_ERROR(
        checkpoint_->Read(part.name, 0, {to, static_cast<size_t>(tensor.bytes)}));
    return values;
  }
  std::vector<std::byte> bytes(tensor.bytes);
  SLUICE_RETURN_IF_ERROR(checkpoint_->Read(part.name, 0, absl::MakeSpan(bytes)));
  Convert(tensor.dtype, bytes.data(), tensor.elements(), DType::kFloat32, to);
  return values;
}

absl::StatusOr<DeviceBuffer> WeightLoader::FromHost(const std::vector<float>& values, DType dtype) {
  const auto count = static_cast<int64_t>(values.size());
  const int64_t bytes = count * DTypeBytes(dtype);
  loaded_bytes_ += bytes;
  if (checkpoint_ == nullptr) return DeviceBuffer();
  DeviceBuffer buffer(device_, bytes);
  if (!buffer.ok()) {
    return absl::ResourceExhaustedError(absl::StrCat("weights: constants need ", bytes,
                                                     " bytes; the device has ",
                                                     device_->FreeBytes(), " free"));
  }
  const auto* from = reinterpret_cast<const std::byte*>(values.data());
  if (dtype != DType::kFloat32) {
    block_.resize(std::max<size_t>(block_.size(), bytes));
    Convert(DType::kFloat32, from, count, dtype, block_.data());
    from = block_.data();
  }
  device_->Upload(buffer.data(), from, bytes);
  return buffer;
}

absl::Status WeightLoader::Upload(const WeightPart& part, const TensorView& tensor, DType dtype,
                                  std::byte* to) {
  const int64_t element_bytes = DTypeBytes(tensor.dtype);
  read_.resize(kBlockElements * static_cast<int64_t>(sizeof(float)));
  for (int64_t begin = 0; begin < tensor.elements(); begin += kBlockElements) {
    const int64_t count = std::min(kBlockElements, tensor.elements() - begin);
    const absl::Span<std::byte> block(read_.data(), static_cast<size_t>(count * element_bytes));
    SLUICE_RETURN_IF_ERROR(checkpoint_->Read(part.name, begin * element_bytes, block));
    const std::byte* converted = block.data();
    if (tensor.dtype != dtype) {
      block_.resize(std::max<size_t>(block_.size(), kBlockElements * sizeof(float)));
      Convert(tensor.dtype, block.data(), count, dtype, block_.data());
      converted = block_.data();
    }
    device_->Upload(to + begin * DTypeBytes(dtype), converted, count * DTypeBytes(dtype));
  }
  return absl::OkStatus();
}

}  // namespace sluice
