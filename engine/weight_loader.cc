#include "engine/weight_loader.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "kernels/float8.h"

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
  int64_t elements = 0;
  SLUICE_ASSIGN_OR_RETURN(const std::vector<TensorView> tensors, FindAll(parts, &elements));
  const int64_t bytes = std::max(elements, padded_elements) * DTypeBytes(dtype);
  SLUICE_ASSIGN_OR_RETURN(DeviceBuffer buffer, Take(parts.front().name, bytes));
  if (checkpoint_ == nullptr) return buffer;
  auto* to = buffer.as<std::byte>();
  for (size_t i = 0; i < parts.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(Upload(parts[i], tensors[i], dtype, to));
    to += tensors[i].elements() * DTypeBytes(dtype);
  }
  device_->Zero(to, bytes - elements * DTypeBytes(dtype));
  return buffer;
}

absl::StatusOr<WeightMatrix> WeightLoader::Float8(const std::vector<WeightPart>& parts,
                                                  int64_t padded_rows) {
  const int64_t columns = parts.front().shape.back();
  int64_t elements = 0;
  SLUICE_ASSIGN_OR_RETURN(const std::vector<TensorView> tensors, FindAll(parts, &elements));
  const int64_t rows = std::max(elements / columns, padded_rows);
  SLUICE_ASSIGN_OR_RETURN(WeightMatrix matrix, TakeFloat8(parts.front().name, rows, columns));
  if (checkpoint_ == nullptr) return matrix;
  std::vector<float> scales(rows, 1.0F);
  auto* to = matrix.numbers.as<std::byte>();
  float* scale = scales.data();
  const int64_t block_rows = std::max<int64_t>(kBlockElements / columns, 1);
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t part_rows = tensors[i].elements() / columns;
    for (int64_t row = 0; row < part_rows; row += block_rows) {
      const int64_t count = std::min(block_rows, part_rows - row);
      SLUICE_ASSIGN_OR_RETURN(const std::byte* values, ReadAs(parts[i], tensors[i], row * columns,
                                                              count * columns, DType::kFloat32));
      SLUICE_RETURN_IF_ERROR(UploadRounded(parts[i].name, reinterpret_cast<const float*>(values),
                                           count, columns, to, scale));
      to += count * columns;
      scale += count;
    }
  }
  device_->Zero(to, matrix.numbers.bytes() - elements);
  device_->Upload(matrix.scales.data(), scales.data(), matrix.scales.bytes());
  return matrix;
}

absl::StatusOr<WeightMatrix> WeightLoader::Float8FromHost(const std::string& name,
                                                          const std::vector<float>& values,
                                                          int64_t columns) {
  const int64_t rows = static_cast<int64_t>(values.size()) / columns;
  SLUICE_ASSIGN_OR_RETURN(WeightMatrix matrix, TakeFloat8(name, rows, columns));
  if (checkpoint_ == nullptr) return matrix;
  std::vector<float> scales(rows);
  SLUICE_RETURN_IF_ERROR(UploadRounded(name, values.data(), rows, columns,
                                       matrix.numbers.as<std::byte>(), scales.data()));
  device_->Upload(matrix.scales.data(), scales.data(), matrix.scales.bytes());
  return matrix;
}

absl::Status WeightLoader::UploadRounded(const std::string& name, const float* values, int64_t rows,
                                         int64_t columns, std::byte* to, float* scales) {
  codes_.resize(rows * columns);
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = values + row * columns;
    const float largest = LargestMagnitude(from, columns);
    if (!std::isfinite(largest)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "checkpoint: ", name, " has a number that is not finite; weight_type fp8 has no such"));
    }
    scales[row] = FitFloat8Scale(largest);
    RoundToFloat8(from, columns, scales[row], codes_.data() + row * columns);
  }
  device_->Upload(to, codes_.data(), rows * columns);
  return absl::OkStatus();
}

absl::StatusOr<DeviceBuffer> WeightLoader::Take(const std::string& name, int64_t bytes) {
  loaded_bytes_ += bytes;
  if (checkpoint_ == nullptr) return DeviceBuffer();
  DeviceBuffer buffer(device_, bytes);
  if (buffer.ok()) return buffer;
  return absl::ResourceExhaustedError(absl::StrCat("weights: ", name, " needs ", bytes,
                                                   " bytes; the device has ", device_->FreeBytes(),
                                                   " free"));
}

absl::StatusOr<WeightMatrix> WeightLoader::TakeFloat8(const std::string& name, int64_t rows,
                                                      int64_t columns) {
  float8_elements_ += rows * columns;
  WeightMatrix matrix;
  SLUICE_ASSIGN_OR_RETURN(matrix.numbers, Take(name, rows * columns));
  SLUICE_ASSIGN_OR_RETURN(matrix.scales, Take(name, rows * static_cast<int64_t>(sizeof(float))));
  return matrix;
}

absl::StatusOr<std::vector<TensorView>> WeightLoader::FindAll(const std::vector<WeightPart>& parts,
                                                              int64_t* elements) {
  std::vector<TensorView> tensors;
  for (const WeightPart& part : parts) {
    SLUICE_ASSIGN_OR_RETURN(TensorView tensor, Find(part));
    *elements += tensor.elements();
    tensors.push_back(std::move(tensor));
  }
  loaded_elements_ += *elements;
  return tensors;
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
  SLUICE_ASSIGN_OR_RETURN(DeviceBuffer buffer, Take("a constant", bytes));
  if (checkpoint_ == nullptr) return buffer;
  const auto* from = reinterpret_cast<const std::byte*>(values.data());
  if (dtype != DType::kFloat32) {
    block_.resize(std::max<size_t>(block_.size(), bytes));
    Convert(DType::kFloat32, from, count, dtype, block_.data());
    from = block_.data();
  }
  device_->Upload(buffer.data(), from, bytes);
  return buffer;
}

absl::StatusOr<const std::byte*> WeightLoader::ReadAs(const WeightPart& part,
                                                      const TensorView& tensor, int64_t begin,
                                                      int64_t count, DType dtype) {
  const int64_t element_bytes = DTypeBytes(tensor.dtype);
  const auto most = static_cast<size_t>(std::max(count, kBlockElements)) * sizeof(float);
  read_.resize(std::max(read_.size(), most));
  const absl::Span<std::byte> block(read_.data(), static_cast<size_t>(count * element_bytes));
  SLUICE_RETURN_IF_ERROR(checkpoint_->Read(part.name, begin * element_bytes, block));
  if (tensor.dtype == dtype) return block.data();
  block_.resize(std::max(block_.size(), most));
  Convert(tensor.dtype, block.data(), count, dtype, block_.data());
  return block_.data();
}

absl::Status WeightLoader::Upload(const WeightPart& part, const TensorView& tensor, DType dtype,
                                  std::byte* to) {
  for (int64_t begin = 0; begin < tensor.elements(); begin += kBlockElements) {
    const int64_t count = std::min(kBlockElements, tensor.elements() - begin);
    SLUICE_ASSIGN_OR_RETURN(const std::byte* converted, ReadAs(part, tensor, begin, count, dtype));
    device_->Upload(to + begin * DTypeBytes(dtype), converted, count * DTypeBytes(dtype));
  }
  return absl::OkStatus();
}

}  // namespace sluice
