#include "engine/layers/projection.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/safetensors_writer.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/float8_ref.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"

namespace sluice {
namespace {

using Parts = std::vector<ProjectionPart>;

// Whole numbers, so that products and sums of them are exact.
std::vector<float> Numbers(int64_t count, int32_t seed) {
  std::vector<float> numbers(count);
  for (int64_t i = 0; i < count; ++i) numbers[i] = static_cast<float>((i * 7 + seed * 5) % 11 - 5);
  return numbers;
}

// Random ones, of which few are numbers of float8; rounded row by row if asked for.
std::vector<float> Weights(int64_t rows, int64_t columns, bool float8) {
  Random random(rows);
  std::vector<float> weights = random.Normals(rows * columns, 0.05, DType::kBFloat16);
  if (float8) RoundRowsThroughFloat8(weights.data(), rows, columns);
  return weights;
}

class ProjectionTest : public DeviceTest {
 protected:
  // x [kRows, in_dim] through parts of such weights in bfloat16: rounded by the loader, or if not
  // `float8` before, those of kLeastFloat8Dim rows and more.
  std::vector<float> ProjectRounded(int64_t in_dim, const Parts& parts, const std::vector<float>& x,
                                    bool float8, int64_t* float8_elements = nullptr) {
    std::vector<WrittenTensor> tensors;
    for (const ProjectionPart& part : parts) {
      const bool large = std::min(part.out_dim, in_dim) >= Projection::kLeastFloat8Dim;
      tensors.push_back(Float32Tensor(part.name + ".weight", {part.out_dim, in_dim},
                                      Weights(part.out_dim, in_dim, large && !float8)));
      if (!part.bias) continue;
      tensors.push_back(
          Float32Tensor(part.name + ".bias", {part.out_dim}, Numbers(part.out_dim, 1)));
    }
    scratch_.Write("model.safetensors", SafetensorsBytes(tensors));
    const auto checkpoint = Checkpoint::Open(scratch_.path()).value();
    WeightLoader loader(checkpoint.get(), &device(), DType::kBFloat16, float8);
    const auto projection = Projection::Load(&loader, in_dim, parts);
    EXPECT_TRUE(projection.ok()) << projection.status();
    if (float8_elements != nullptr) *float8_elements = loader.float8_elements();
    const Compute compute(&device(), DType::kBFloat16);
    const Input input(device(), x, compute.act);
    const Output output(device(), std::vector<float>(kRows * projection->columns(), 1.0F),
                        compute.act);
    projection->Add(compute, kRows, input.data(), in_dim, output.data(), projection->columns());
    return output.Read(compute.act);
  }

  // x [kRows, Columns(in_dim)] through parts of the numbers above, added to `old` if there is one.
  std::vector<float> Project(int64_t in_dim, const Parts& parts, const std::vector<float>& x,
                             const std::vector<float>& old = {}) {
    std::vector<WrittenTensor> tensors;
    for (const ProjectionPart& part : parts) {
      const auto seed = static_cast<int32_t>(part.out_dim);
      tensors.push_back(Float32Tensor(part.name + ".weight", {part.out_dim, in_dim},
                                      Numbers(part.out_dim * in_dim, seed)));
      if (!part.bias) continue;
      tensors.push_back(
          Float32Tensor(part.name + ".bias", {part.out_dim}, Numbers(part.out_dim, seed + 1)));
    }
    scratch_.Write("model.safetensors", SafetensorsBytes(tensors));
    const auto checkpoint = Checkpoint::Open(scratch_.path()).value();
    WeightLoader loader(checkpoint.get(), &device(), DType::kFloat32);
    const auto projection = Projection::Load(&loader, in_dim, parts);
    EXPECT_TRUE(projection.ok()) << projection.status();
    EXPECT_TRUE(checkpoint->Unread().empty());
    const int64_t columns = projection->columns();
    const DeviceBuffer input(&device(), static_cast<int64_t>(x.size()) * 4);
    device().Upload(input.data(), x.data(), input.bytes());
    const DeviceBuffer output(&device(), kRows * columns * 4);
    if (!old.empty()) device().Upload(output.data(), old.data(), output.bytes());
    const Compute compute(&device(), DType::kFloat32);
    const auto run = old.empty() ? &Projection::Forward : &Projection::Add;
    ((*projection).*run)(compute, kRows, input.data(), Projection::Columns(in_dim), output.data(),
                         columns);
    std::vector<float> y(kRows * columns);
    device().Download(y.data(), output.data(), output.bytes());
    return y;
  }

  // One column of the result: row `row` of a part of `out_dim` rows.
  static std::vector<float> Column(const std::vector<float>& x, int64_t in_dim, int64_t out_dim,
                                   int64_t row, bool bias) {
    const auto seed = static_cast<int32_t>(out_dim);
    const std::vector<float> weight = Numbers(out_dim * in_dim, seed);
    std::vector<float> column(kRows, bias ? Numbers(out_dim, seed + 1)[row] : 0.0F);
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t i = 0; i < in_dim; ++i) {
        column[r] += x[r * Projection::Columns(in_dim) + i] * weight[row * in_dim + i];
      }
    }
    return column;
  }

  static constexpr int64_t kRows = 3;
  ScratchDirectory scratch_;
};

INSTANTIATE_TEST_SUITE_P(Devices, ProjectionTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

std::vector<float> ColumnOf(const std::vector<float>& y, int64_t columns, int64_t column) {
  std::vector<float> values;
  for (size_t at = column; at < y.size(); at += columns) values.push_back(y[at]);
  return values;
}

TEST_P(ProjectionTest, PutsPartsSideBySideAndAddsTheBiasesThatThereAre) {
  const std::vector<float> x = Numbers(kRows * 16, 3);
  const std::vector<float> y = Project(16, {{"a", 5, true}, {"b", 9}, {"c", 3, true}}, x);
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(ColumnOf(y, 24, i), Column(x, 16, 5, i, true)) << i;
  for (int64_t i = 0; i < 9; ++i)
    EXPECT_EQ(ColumnOf(y, 24, 5 + i), Column(x, 16, 9, i, false)) << i;
  for (int64_t i = 0; i < 3; ++i)
    EXPECT_EQ(ColumnOf(y, 24, 14 + i), Column(x, 16, 3, i, true)) << i;
  for (int64_t i = 17; i < 24; ++i) EXPECT_EQ(ColumnOf(y, 24, i), std::vector<float>(kRows)) << i;
}

TEST_P(ProjectionTest, AddsProductAndBiasToWhatIsThere) {
  const std::vector<float> x = Numbers(kRows * 8, 4);
  const std::vector<float> old = Numbers(kRows * 8, 9);
  const std::vector<float> y = Project(8, {{"a", 8, true}}, x, old);
  for (int64_t i = 0; i < 8; ++i) {
    std::vector<float> want = Column(x, 8, 8, i, true);
    for (int64_t r = 0; r < kRows; ++r) want[r] += old[r * 8 + i];
    EXPECT_EQ(ColumnOf(y, 8, i), want) << i;
  }
}

TEST_P(ProjectionTest, BeginsEachPieceAtAMultipleOfEight) {
  const std::vector<float> x = Numbers(kRows * 16, 5);
  const Parts parts = {{"a", 2, true}, {.name = "b", .out_dim = 8, .bias = true, .pieces = {3, 5}}};
  const std::vector<float> y = Project(16, parts, x);
  for (int64_t i = 0; i < 2; ++i) EXPECT_EQ(ColumnOf(y, 24, i), Column(x, 16, 2, i, true)) << i;
  for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(ColumnOf(y, 24, 8 + i), Column(x, 16, 8, i, true)) << i;
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(ColumnOf(y, 24, 16 + i), Column(x, 16, 8, 3 + i, true)) << i;
  }
  for (const int64_t i : {2, 7, 11, 15, 21, 23}) {
    EXPECT_EQ(ColumnOf(y, 24, i), std::vector<float>(kRows)) << i;
  }
}

TEST_P(ProjectionTest, CopiesPiecesForThoseThatShareThem) {
  const std::vector<float> x = Numbers(kRows * 8, 7);
  const Parts parts = {{"a", 8},
                       {.name = "b", .out_dim = 16, .bias = true, .pieces = {8, 8}, .copies = 2}};
  const std::vector<float> y = Project(8, parts, x);
  for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(ColumnOf(y, 40, i), Column(x, 8, 8, i, false)) << i;
  for (int64_t i = 0; i < 32; ++i) {
    const int64_t row = i / 16 * 8 + i % 8;
    EXPECT_EQ(ColumnOf(y, 40, 8 + i), Column(x, 8, 16, row, true)) << i;
  }
}

TEST_P(ProjectionTest, TakesAnyInputSizeAndReadsNothingPastIt) {
  const std::vector<float> x = Numbers(kRows * 16, 6);
  const std::vector<float> y = Project(13, {{"a", 8}}, x);
  for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(ColumnOf(y, 8, i), Column(x, 13, 8, i, false)) << i;
}

// One product of small parts beside those of large ones, wherever they stand.
TEST_P(ProjectionTest, RoundsLargePartsToFloat8AndKeepsSmallOnes) {
  const struct {
    int64_t in_dim;
    Parts parts;
    int64_t float8_rows;
  } cases[] = {
      {272, {{"a", 264}, {"b", 256, true}}, 520},
      {272, {{"a", 264}, {"b", 256, true}, {"c", 16, true}}, 520},
      {272, {{"a", 16}, {"b", 261, true}}, 264},
      {256, {{"a", 24}, {"b", 256}, {"c", 32}, {"d", 264}, {"e", 8}}, 520},
      // What begins or ends elsewhere than at a multiple of eight is left as it is.
      {272, {{"a", 261}, {"b", 256}}, 0},
      {272, {{"a", 13}, {"b", 256}}, 0},
      // Inputs that are not multiples of sixteen, or too few.
      {264, {{"a", 256}}, 0},
      {240, {{"a", 256}}, 0},
      {272,
       {{.name = "a", .out_dim = 261, .bias = true, .pieces = {130, 131}, .copies = 2}},
       4 * 136},
  };
  Random random(7);
  for (const auto& [in_dim, parts, float8_rows] : cases) {
    SCOPED_TRACE(testing::Message()
                 << in_dim << " " << parts.front().out_dim << " " << parts.size());
    const std::vector<float> x = random.Normals(kRows * in_dim, 1.0, DType::kBFloat16);
    int64_t float8_elements = 0;
    const std::vector<float> got = ProjectRounded(in_dim, parts, x, true, &float8_elements);
    EXPECT_EQ(float8_elements, float8_rows * in_dim);
    if (float8_rows == 0) continue;
    const std::vector<float> want = ProjectRounded(in_dim, parts, x, false);
    if (is_cuda()) {
      EXPECT_TRUE(EachNear(got, {want.begin(), want.end()}, 1e-2, 1e-2));
    } else {
      EXPECT_TRUE(SameBits(got, want));
    }
  }
}

TEST(ProjectionLoad, NamesAMissingBias) {
  const ScratchDirectory scratch;
  scratch.Write("model.safetensors",
                SafetensorsBytes({Float32Tensor("a.weight", {8, 8}, Numbers(64, 0))}));
  const auto checkpoint = Checkpoint::Open(scratch.path()).value();
  const auto device = CreateCpuDevice(1);
  WeightLoader loader(checkpoint.get(), device.get(), DType::kFloat32);
  const auto projection = Projection::Load(&loader, 8, {{"a", 8, true}});
  EXPECT_EQ(projection.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(projection.status().message().find("a.bias"), std::string::npos);
}

// Whichever of merged tensors it is in, whether they are merged as they are or piece by piece.
TEST(ProjectionLoad, NamesTheTensorThatCannotBeRounded) {
  const auto device = CreateCpuDevice(1);
  for (const std::string bad : {"a", "b", "c"}) {
    for (const std::vector<int64_t>& pieces : {std::vector<int64_t>(), {130, 126}}) {
      const ScratchDirectory scratch;
      std::vector<WrittenTensor> tensors;
      Parts parts;
      for (const std::string name : {"a", "b", "c"}) {
        std::vector<float> numbers = Numbers(256 * 256, 1);
        if (name == bad) numbers[200 * 256 + 7] = std::nanf("");
        tensors.push_back(Float32Tensor(name + ".weight", {256, 256}, numbers));
        parts.push_back({.name = name, .out_dim = 256, .pieces = pieces});
      }
      scratch.Write("model.safetensors", SafetensorsBytes(tensors));
      const auto checkpoint = Checkpoint::Open(scratch.path()).value();
      WeightLoader loader(checkpoint.get(), device.get(), DType::kBFloat16, /*float8=*/true);
      const absl::Status status = Projection::Load(&loader, 256, parts).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_NE(status.message().find(" " + bad + ".weight has a number that is not finite"),
                std::string::npos)
          << status;
    }
  }
}

}  // namespace
}  // namespace sluice
