#include "engine/layers/batched_projection.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/safetensors_writer.h"
#include "tests/kernels/devices.h"

namespace sluice {
namespace {

constexpr int64_t kRows = 3;

// Whole numbers, so that products and sums of them are exact.
std::vector<float> Numbers(int64_t count, int32_t seed) {
  std::vector<float> numbers(count);
  for (int64_t i = 0; i < count; ++i) numbers[i] = static_cast<float>((i * 7 + seed * 5) % 11 - 5);
  return numbers;
}

class BatchedProjectionTest : public DeviceTest {
 protected:
  WeightLoader* Write(const std::vector<WrittenTensor>& tensors) {
    scratch_.Write("model.safetensors", SafetensorsBytes(tensors));
    checkpoint_ = Checkpoint::Open(scratch_.path()).value();
    loader_.emplace(checkpoint_.get(), &device(), DType::kFloat32);
    return &*loader_;
  }

  // x [kRows, inputs], the inputs of the maps side by side; so are the results.
  std::vector<float> Project(const BatchedProjection& projection, const std::vector<float>& x,
                             int64_t x_step, int64_t count, int64_t y_step) {
    EXPECT_TRUE(checkpoint_->Unread().empty());
    const auto inputs = static_cast<int64_t>(x.size()) / kRows;
    const DeviceBuffer input(&device(), kRows * inputs * 4);
    device().Upload(input.data(), x.data(), input.bytes());
    const DeviceBuffer output(&device(), kRows * count * y_step * 4);
    projection.Forward(Compute(&device(), DType::kFloat32), kRows, {input.data(), inputs, x_step},
                       {output.data(), count * y_step, y_step});
    std::vector<float> y(kRows * count * y_step);
    device().Download(y.data(), output.data(), output.bytes());
    return y;
  }

  ScratchDirectory scratch_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::optional<WeightLoader> loader_;
};

INSTANTIATE_TEST_SUITE_P(Devices, BatchedProjectionTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

// Of every map i, with `weight(i, n, k)`.
template <typename Weight>
std::vector<float> Expected(const std::vector<float>& x, int64_t x_step, int64_t in_dim,
                            int64_t count, int64_t out_dim, const Weight& weight) {
  const auto inputs = static_cast<int64_t>(x.size()) / kRows;
  std::vector<float> y;
  for (int64_t at = 0; at < kRows * count * out_dim; ++at) {
    const int64_t i = at / out_dim % count;
    const int64_t first = at / (out_dim * count) * inputs + i * x_step;
    float sum = 0;
    for (int64_t k = 0; k < in_dim; ++k) sum += x[first + k] * weight(i, at % out_dim, k);
    y.push_back(sum);
  }
  return y;
}

TEST_P(BatchedProjectionTest, ReadsOneTensorAMap) {
  const std::vector<std::vector<float>> weights = {Numbers(16 * 24, 1), Numbers(16 * 24, 2)};
  WeightLoader* loader = Write({Float32Tensor("a.weight", {24, 16}, weights[0]),
                                Float32Tensor("b.weight", {24, 16}, weights[1])});
  const auto projection = BatchedProjection::Load(loader, 16, 24, {"a", "b"});
  ASSERT_TRUE(projection.ok()) << projection.status();
  const std::vector<float> x = Numbers(kRows * 2 * 16, 3);
  const auto weight = [&](int64_t i, int64_t n, int64_t k) { return weights[i][n * 16 + k]; };
  EXPECT_EQ(Project(*projection, x, 16, 2, 24), Expected(x, 16, 16, 2, 24, weight));
}

TEST_P(BatchedProjectionTest, ReadsTheMapsOfOneTensor) {
  const std::vector<float> stack = Numbers(3 * 8 * 16, 4);
  WeightLoader* loader = Write({Float32Tensor("stack", {3, 8, 16}, stack)});
  const auto projection = BatchedProjection::LoadStack(loader, 16, 8, 3, "stack");
  ASSERT_TRUE(projection.ok()) << projection.status();
  const std::vector<float> x = Numbers(kRows * 3 * 16, 5);
  const auto weight = [&](int64_t i, int64_t n, int64_t k) { return stack[(i * 8 + n) * 16 + k]; };
  EXPECT_EQ(Project(*projection, x, 16, 3, 8), Expected(x, 16, 16, 3, 8, weight));
}

// Blocks of five columns are padded to eight, and eleven results to sixteen.
TEST_P(BatchedProjectionTest, ReadsBlocksOfColumns) {
  const std::vector<float> tensor = Numbers(11 * 20, 6);
  WeightLoader* loader = Write({Float32Tensor("blocks.weight", {11, 20}, tensor)});
  const auto projection = BatchedProjection::LoadBlocks(loader, 5, 11, 4, "blocks");
  ASSERT_TRUE(projection.ok()) << projection.status();
  const std::vector<float> x = Numbers(kRows * 4 * 8, 7);
  const auto weight = [&](int64_t i, int64_t n, int64_t k) {
    return n < 11 ? tensor[n * 20 + i * 5 + k] : 0.0F;
  };
  EXPECT_EQ(Project(*projection, x, 8, 4, 16), Expected(x, 8, 5, 4, 16, weight));
}

TEST_P(BatchedProjectionTest, NamesATensorThatIsNotThereOrOfAnotherShape) {
  WeightLoader* loader = Write({Float32Tensor("a.weight", {8, 8}, Numbers(64, 0))});
  const auto missing = BatchedProjection::Load(loader, 8, 8, {"a", "b"}).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound) << missing;
  EXPECT_NE(missing.message().find("b.weight"), std::string::npos);
  const auto blocks = BatchedProjection::LoadBlocks(loader, 8, 8, 2, "a").status();
  EXPECT_EQ(blocks.code(), absl::StatusCode::kInvalidArgument) << blocks;
  EXPECT_NE(blocks.message().find("a.weight"), std::string::npos);
}

}  // namespace
}  // namespace sluice
