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

absl::StatusOr<DeviceBuffer> WeightLoader::Load(const std::vector<WeightPart>& parts, DType dtype) {
  int64_t elements = 0;
  std::vector<TensorView> tensors;
  for (const WeightPart& part : parts) {
    SLUICE_ASSIGN_OR_RETURN(TensorView tensor, Find(part));
    elements += tensor.elements();
    tensors.push_back(std::move(tensor));
  }
  SLUICE_ASSIGN_OR_RETURN(DeviceBuffer buffer,
                          Take(parts.front().name, elements * DTypeBytes(dtype)));
  if (checkpoint_ == nullptr) return buffer;
  auto* to = buffer.as<std::byte>();
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t count = tensors[i].elements();
    SLUICE_RETURN_IF_ERROR(Upload(parts[i], tensors[i], 0, count, dtype, to));
    to += count * DTypeBytes(dtype);
  }
  return buffer;
}

absl::StatusOr<WeightMatrix> WeightLoader::Rows(const std::vector<PlacedPart>& parts, int64_t rows,
                                                bool float8) {
  const WeightPart& first = parts.front().part;
  const int64_t columns = first.shape.back();
  std::vector<TensorView> tensors;
  for (const PlacedPart& placed : parts) {
    SLUICE_ASSIGN_OR_RETURN(TensorView tensor, Find(placed.part));
    tensors.push_back(std::move(tensor));
  }
  SLUICE_ASSIGN_OR_RETURN(WeightMatrix matrix, TakeMatrix(first.name, rows, columns, float8));
  if (checkpoint_ == nullptr) return matrix;
  const int64_t row_bytes = columns * DTypeBytes(float8 ? DType::kFloat8 : matrix_dtype_);
  std::vector<float> scales(float8 ? rows : 0, 1.0F);
  const auto at = [&](int64_t row) { return matrix.numbers.as<std::byte>() + row * row_bytes; };
  int64_t end = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const WeightPart& part = parts[i].part;
    for (const auto& [row, to, count] : parts[i].ranges) {
      device_->Zero(at(end), (to - end) * row_bytes);
      SLUICE_RETURN_IF_ERROR(
          float8 ? UploadRounded(part, tensors[i], row, count, at(to), scales.data() + to)
                 : Upload(part, tensors[i], row * columns, count * columns, matrix_dtype_, at(to)));
      end = to + count;
    }
  }
  device_->Zero(at(end), (rows - end) * row_bytes);
  if (float8) device_->Upload(matrix.scales.data(), scales.data(), matrix.scales.bytes());
  return matrix;
}

absl::Status WeightLoader::UploadRounded(const WeightPart& part, const TensorView& tensor,
                                         int64_t row, int64_t count, std::byte* to, float* scales) {
  const int64_t columns = part.shape.back();
  const int64_t block_rows = std::max<int64_t>(kBlockElements / columns, 1);
  for (int64_t begin = 0; begin < count; begin += block_rows) {
    const int64_t rows = std::min(block_rows, count - begin);
    SLUICE_ASSIGN_OR_RETURN(const std::byte* values, ReadAs(part, tensor, (row + begin) * columns,
                                                            rows * columns, DType::kFloat32));
    SLUICE_RETURN_IF_ERROR(
        Round(part.name, reinterpret_cast<const float*>(values), rows, columns, scales + begin));
    device_->Upload(to + begin * columns, codes_.data(), rows * columns);
  }
  return absl::OkStatus();
}

absl::Status WeightLoader::Round(const std::string& name, const float* values, int64_t rows,
                                 int64_t columns, float* scales) {
  codes_.resize(std::max<size_t>(codes_.size(), rows * columns));
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

absl::StatusOr<WeightMatrix> WeightLoader::TakeMatrix(const std::string& name, int64_t rows,
                                                      int64_t columns, bool float8) {
  const DType dtype = float8 ? DType::kFloat8 : matrix_dtype_;
  WeightMatrix matrix;
  SLUICE_ASSIGN_OR_RETURN(matrix.numbers, Take(name, rows * columns * DTypeBytes(dtype)));
  if (!float8) return matrix;
  SLUICE_ASSIGN_OR_RETURN(matrix.scales, Take(name, rows * static_cast<int64_t>(sizeof(float))));
  float8_elements_ += rows * columns;
  return matrix;
}

absl::StatusOr<TensorView> WeightLoader::Find(const WeightPart& part) {
  asked_.push_back(part);
  int64_t elements = 1;
  for (const int64_t dim : part.shape) elements *= dim;
  loaded_elements_ += elements;
  if (checkpoint_ != nullptr) return checkpoint_->Find(part.name, part.shape);
  return TensorView{.dtype = DType::kFloat32,
                    .shape = part.shape,
                    .offset = 0,
                    .bytes = elements * DTypeBytes(DType::kFloat32)};
}

absl::StatusOr<std::vector<float>> WeightLoader::HostFloats(const WeightPart& part) {
  SLUICE_ASSIGN_OR_RETURN(const TensorView tensor, Find(part));
  std::vector<float> values(tensor.elements());
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

absl::Status WeightLoader::Upload(const WeightPart& part, const TensorView& tensor, int64_t begin,
                                  int64_t count, DType dtype, std::byte* to) {
  for (int64_t done = 0; done < count; done += kBlockElements) {
    const int64_t block = std::min(kBlockElements, count - done);
    SLUICE_ASSIGN_OR_RETURN(const std::byte* converted,
                            ReadAs(part, tensor, begin + done, block, dtype));
    device_->Upload(to + done * DTypeBytes(dtype), converted, block * DTypeBytes(dtype));
  }
  return absl::OkStatus();
}

}  // namespace sluice
