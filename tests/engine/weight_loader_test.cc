#include "engine/weight_loader.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/float8.h"
#include "tests/engine/safetensors_writer.h"

namespace sluice {
namespace {

// Elements beyond one block of conversion, so that there is a block that is not full.
constexpr int64_t kMany = (int64_t{1} << 20) + 3;

template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// What a row becomes.
void ExpectRounded(const std::vector<float>& row, const uint8_t* codes, float scale) {
  const auto columns = static_cast<int64_t>(row.size());
  ASSERT_EQ(scale, FitFloat8Scale(LargestMagnitude(row.data(), columns)));
  std::vector<uint8_t> want(columns);
  RoundToFloat8(row.data(), columns, scale, want.data());
  ASSERT_EQ(std::vector<uint8_t>(codes, codes + columns), want);
}

class WeightLoaderTest : public testing::Test {
 protected:
  // What a matrix of this content is on a device that computes with `dtype`.
  template <typename T>
  std::vector<T> Load(const WrittenTensor& tensor, DType dtype) {
    scratch_.Write("model.safetensors", SafetensorsBytes({tensor}));
    const auto checkpoint = Checkpoint::Open(scratch_.path()).value();
    WeightLoader loader(checkpoint.get(), device_.get(), dtype);
    const auto buffer = loader.Matrix({{tensor.name, tensor.shape}});
    EXPECT_TRUE(buffer.ok()) << buffer.status();
    std::vector<T> values(buffer->bytes() / sizeof(T));
    device_->Download(values.data(), buffer->data(), buffer->bytes());
    EXPECT_EQ(loader.loaded_bytes(), buffer->bytes());
    return values;
  }

  ScratchDirectory scratch_;
  std::unique_ptr<Device> device_ = CreateCpuDevice(1);
};

TEST_F(WeightLoaderTest, ReadsEveryFloat16Exactly) {
  std::vector<uint16_t> halves(1 << 16);
  for (size_t bits = 0; bits < halves.size(); ++bits) halves[bits] = static_cast<uint16_t>(bits);
  const auto floats = Load<float>({"w", "F16", {256, 256}, BytesOf(halves)}, DType::kFloat32);
  ASSERT_EQ(floats.size(), halves.size());
  for (size_t bits = 0; bits < halves.size(); ++bits) {
    const auto exponent = static_cast<int>(bits >> 10 & 31);
    const auto fraction = static_cast<double>(bits & 1023);
    double magnitude =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) magnitude = fraction == 0 ? HUGE_VAL : NAN;
    const double expected = bits < 0x8000 ? magnitude : -magnitude;
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(floats[bits])) << bits;
    } else {
      EXPECT_EQ(floats[bits], expected) << bits;
      EXPECT_EQ(std::signbit(floats[bits]), bits >= 0x8000) << bits;
    }
  }
}

TEST_F(WeightLoaderTest, RoundsToTheNearestBFloat16AndTiesToEven) {
  const std::vector<uint32_t> bits = {0x3F800000, 0x3F808000, 0x3F808001, 0x3F818000,
                                      0xBF807FFF, 0x7F7FFFFF, 0x7F800000, 0x00000001};
  const std::vector<uint16_t> expected = {0x3F80, 0x3F80, 0x3F81, 0x3F82,
                                          0xBF80, 0x7F80, 0x7F80, 0x0000};
  EXPECT_EQ(Load<uint16_t>({"w", "F32", {8}, BytesOf(bits)}, DType::kBFloat16), expected);
  // A NaN whose highest bits alone would be an infinity.
  const std::vector<uint32_t> nan = {0x7F800001, 0xFFFFFFFF};
  for (const uint16_t half : Load<uint16_t>({"w", "F32", {2}, BytesOf(nan)}, DType::kBFloat16)) {
    EXPECT_TRUE(std::isnan(std::bit_cast<float>(uint32_t{half} << 16))) << half;
  }
  const std::vector<uint16_t> halves = {0x3C00, 0x0001, 0xFBFF};  // 1, 2^-24, -65504
  EXPECT_EQ(Load<uint16_t>({"w", "F16", {3}, BytesOf(halves)}, DType::kBFloat16),
            (std::vector<uint16_t>{0x3F80, 0x3380, 0xC780}));
}

TEST_F(WeightLoaderTest, CopiesBlockByBlock) {
  std::vector<float> floats(kMany);
  std::vector<uint16_t> brains(kMany);
  for (int64_t i = 0; i < kMany; ++i) {
    brains[i] = static_cast<uint16_t>(0x3F00 + i % 251);
    floats[i] = std::bit_cast<float>(uint32_t{brains[i]} << 16);
  }
  const WrittenTensor as_float = {"w", "F32", {kMany}, BytesOf(floats)};
  const WrittenTensor as_brain = {"w", "BF16", {kMany}, BytesOf(brains)};
  EXPECT_EQ(Load<float>(as_float, DType::kFloat32), floats);
  EXPECT_EQ(Load<float>(as_brain, DType::kFloat32), floats);
  EXPECT_EQ(Load<uint16_t>(as_float, DType::kBFloat16), brains);
  EXPECT_EQ(Load<uint16_t>(as_brain, DType::kBFloat16), brains);
}

TEST_F(WeightLoaderTest, PutsRowsWhereTheyGoAndZerosElsewhere) {
  scratch_.Write("model.safetensors",
                 SafetensorsBytes({{"v", "F32", {1, 2}, BytesOf<float>({7, 8})},
                                   {"w", "F32", {3, 2}, BytesOf<float>({1, 2, 3, 4, 5, 6})}}));
  const auto checkpoint = Checkpoint::Open(scratch_.path()).value();
  WeightLoader loader(checkpoint.get(), device_.get(), DType::kFloat32);
  const auto matrix = loader.Rows({{{"w", {3, 2}}, {{1, 1, 2}, {1, 3, 1}}},  //
                                   {{"v", {1, 2}}, {{0, 6, 1}}}},
                                  8, /*float8=*/false);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  std::vector<float> values(16, -1);
  ASSERT_EQ(matrix->numbers.bytes(), 64);
  EXPECT_EQ(matrix->scales.bytes(), 0);
  device_->Download(values.data(), matrix->numbers.data(), matrix->numbers.bytes());
  EXPECT_EQ(values, (std::vector<float>{0, 0, 3, 4, 5, 6, 3, 4, 0, 0, 0, 0, 7, 8, 0, 0}));
  EXPECT_EQ(loader.loaded_elements(), 8);
  EXPECT_EQ(loader.loaded_bytes(), 64);
  EXPECT_EQ(loader.Rows({{{"w", {2, 2}}, {{0, 0, 2}}}}, 2, false).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(WeightLoaderTest, GivesValuesToTheHostAndTakesThemBack) {
  scratch_.Write("model.safetensors",
                 SafetensorsBytes({{"w", "BF16", {3}, BytesOf<uint16_t>({0x3F80, 0, 0xBF80})}}));
  const auto checkpoint = Checkpoint::Open(scratch_.path()).value();
  WeightLoader loader(checkpoint.get(), device_.get(), DType::kBFloat16);
  const auto values = loader.HostFloats({"w", {3}});
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_EQ(*values, (std::vector<float>{1, 0, -1}));
  EXPECT_FALSE(loader.HostFloats({"w", {2}}).ok());
  const auto buffer = loader.FromHost(*values);
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  std::vector<float> back(3);
  device_->Download(back.data(), buffer->data(), 12);
  EXPECT_EQ(back, *values);
}

TEST_F(WeightLoaderTest, CountsWithoutACheckpoint) {
  WeightLoader loader(device_.get(), DType::kBFloat16);
  EXPECT_EQ(loader.Rows({{{"w", {3, 5}}, {{0, 0, 3}}}}, 4, false)->numbers.bytes(), 0);
  EXPECT_EQ(*loader.HostFloats({"f", {2}}), (std::vector<float>{0, 0}));
  EXPECT_TRUE(loader.FromHost({1, 2}).ok());
  EXPECT_EQ(loader.loaded_elements(), 17);
  EXPECT_EQ(loader.loaded_bytes(), 40 + 8);
  ASSERT_EQ(loader.asked().size(), 2);
  EXPECT_EQ(loader.asked()[0].name, "w");
  EXPECT_EQ(loader.asked()[1].shape, (std::vector<int64_t>{2}));
}

TEST_F(WeightLoaderTest, RoundsWhatComesFromTheHostAsWhatIsInTheFile) {
  const std::vector<float> values = {1.00390625F, -1.01171875F, 3.14159F, 0, 1e-30F, 7, -8, 0.1F};
  const WrittenTensor tensor = {"w", "F32", {8}, BytesOf(values)};
  const auto from_file = Load<uint16_t>(tensor, DType::kBFloat16);
  const auto checkpoint = Checkpoint::Open(scratch_.path()).value();
  WeightLoader loader(checkpoint.get(), device_.get(), DType::kBFloat16);
  const auto buffer = loader.FromHost(values, DType::kBFloat16).value();
  ASSERT_EQ(buffer.bytes(), 16);
  EXPECT_EQ(std::vector<uint16_t>(buffer.as<uint16_t>(), buffer.as<uint16_t>() + 8), from_file);
  EXPECT_EQ(loader.loaded_bytes(), 16);
}

// Of every type that a file may have, two tensors one after the other and more than a block.
TEST_F(WeightLoaderTest, RoundsRowsToFloat8) {
  constexpr int64_t kColumns = 48;
  constexpr int64_t kRows = kMany / kColumns + 2;
  std::vector<float> floats(kRows * kColumns);
  std::vector<uint16_t> brains(floats.size());
  for (size_t i = 0; i < floats.size(); ++i) {
    brains[i] = static_cast<uint16_t>(0x3000 + i * 37 % 0x1000 + (i % 3 == 0 ? 0x8000 : 0));
    floats[i] = std::bit_cast<float>(uint32_t{brains[i]} << 16) * (i % 5 == 0 ? 1.001F : 1.0F);
    if (i / kColumns == 7) floats[i] = 0;
  }
  const std::vector<uint16_t> halves(kColumns, 0x3C01);  // 1 + 2^-10
  scratch_.Write("model.safetensors",
                 SafetensorsBytes({{"a", "F32", {kRows, kColumns}, BytesOf(floats)},
                                   {"b", "BF16", {kRows, kColumns}, BytesOf(brains)},
                                   {"c", "F16", {1, kColumns}, BytesOf(halves)}}));
  const auto checkpoint = Checkpoint::Open(scratch_.path()).value();
  WeightLoader loader(checkpoint.get(), device_.get(), DType::kBFloat16, /*float8=*/true);
  const auto matrix = loader.Rows({{{"a", {kRows, kColumns}}, {{0, 0, kRows}}},
                                   {{"b", {kRows, kColumns}}, {{0, kRows, kRows}}},
                                   {{"c", {1, kColumns}}, {{0, 2 * kRows, 1}}}},
                                  2 * kRows + 8, /*float8=*/true);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  const auto* const codes = matrix->numbers.as<uint8_t>();
  const auto* const scales = matrix->scales.as<float>();
  ASSERT_EQ(matrix->numbers.bytes(), (2 * kRows + 8) * kColumns);
  ASSERT_EQ(matrix->scales.bytes(), (2 * kRows + 8) * 4);
  EXPECT_EQ(loader.loaded_bytes(), matrix->numbers.bytes() + matrix->scales.bytes());
  EXPECT_EQ(loader.loaded_elements(), (2 * kRows + 1) * kColumns);
  EXPECT_EQ(loader.float8_elements(), matrix->numbers.bytes());
  for (int64_t row = 0; row <= 2 * kRows; ++row) {
    std::vector<float> values(kColumns, 1 + 0x1p-10F);
    for (int64_t i = 0; row < 2 * kRows && i < kColumns; ++i) {
      values[i] = row < kRows
                      ? floats[row * kColumns + i]
                      : std::bit_cast<float>(uint32_t{brains[(row - kRows) * kColumns + i]} << 16);
    }
    ASSERT_NO_FATAL_FAILURE(ExpectRounded(values, codes + row * kColumns, scales[row])) << row;
  }
  const int64_t end = 2 * kRows + 1;
  EXPECT_EQ(std::vector<uint8_t>(codes + end * kColumns, codes + (end + 7) * kColumns),
            std::vector<uint8_t>(7 * kColumns));
  EXPECT_EQ(std::vector<float>(scales + end, scales + end + 7), std::vector<float>(7, 1.0F));
  // Pieces of a matrix, of which one is more than a block, become what they are in the whole.
  constexpr int64_t kPiece = kRows - 9;
  const auto pieces =
      loader.Rows({{{"a", {kRows, kColumns}}, {{3, 2, kPiece}, {1, 2 + kPiece, 5}}}}, kRows, true);
  ASSERT_TRUE(pieces.ok()) << pieces.status();
  const auto same = [&](int64_t row, int64_t to, int64_t count) {
    const auto* const got = pieces->numbers.as<uint8_t>() + to * kColumns;
    return std::memcmp(got, codes + row * kColumns, count * kColumns) == 0 &&
           std::memcmp(pieces->scales.as<float>() + to, scales + row, count * 4) == 0;
  };
  EXPECT_TRUE(same(3, 2, kPiece));
  EXPECT_TRUE(same(1, 2 + kPiece, 5));
  EXPECT_TRUE(same(end, 0, 2));
  EXPECT_TRUE(same(end, 7 + kPiece, 2));
}

TEST_F(WeightLoaderTest, RefusesToRoundWhatIsNotFinite) {
  for (const float bad : {HUGE_VALF, -HUGE_VALF, std::nanf("")}) {
    std::vector<float> values(32, 1.0F);
    values[19] = bad;
    scratch_.Write("model.safetensors",
                   SafetensorsBytes({Float32Tensor("layer.weight", {2, 16}, values)}));
    const auto checkpoint = Checkpoint::Open(scratch_.path()).value();
    WeightLoader loader(checkpoint.get(), device_.get(), DType::kBFloat16, /*float8=*/true);
    const absl::Status status =
        loader.Rows({{{"layer.weight", {2, 16}}, {{0, 0, 2}}}}, 2, /*float8=*/true).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("layer.weight has a number that is not finite"),
              std::string::npos);
  }
}

TEST_F(WeightLoaderTest, CountsFloat8WithoutACheckpoint) {
  WeightLoader loader(device_.get(), DType::kBFloat16, /*float8=*/true);
  EXPECT_EQ(loader.Rows({{{"w", {3, 16}}, {{0, 0, 3}}}}, 8, true)->numbers.bytes(), 0);
  EXPECT_EQ(loader.loaded_elements(), 48);
  EXPECT_EQ(loader.float8_elements(), 8 * 16);
  EXPECT_EQ(loader.loaded_bytes(), 8 * 16 + 8 * 4);
}

}  // namespace
}  // namespace sluice
