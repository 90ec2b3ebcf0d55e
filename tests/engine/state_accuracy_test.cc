// What formats of states may cost: bounds above what was measured (tests/bench/README.md), of
// exact ones far above, but below what a rounding would cost: a format that is broken fails.

#include "tests/engine/state_accuracy.h"

#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/tiny_family.h"
#include "tests/kernels/devices.h"

namespace sluice {
namespace {

AccuracyReport Measure(const std::filesystem::path& model, DeviceKind device,
                       const AccuracyRun& shape) {
  AccuracyRun run = shape;
  run.config.model_dir = model;
  run.config.needs_tokenizer = false;
  run.config.device = device == DeviceKind::kCuda ? "cuda" : "cpu";
  run.config.dtype = "float32";  // bfloat16 of its own costs more than most formats
  run.config.threads = 2;
  const absl::StatusOr<AccuracyReport> report = MeasureStateAccuracy(run);
  EXPECT_TRUE(report.ok()) << report.status();
  return report.value_or(AccuracyReport{.options = std::vector<StateAccuracy>(10)});
}

std::string DeviceName(DeviceKind device) { return device == DeviceKind::kCuda ? "Cuda" : "Cpu"; }

class DemoAccuracyTest : public testing::TestWithParam<DeviceKind> {};

TEST_P(DemoAccuracyTest, StaysWithinBounds) {
  const std::filesystem::path demo = std::filesystem::path(SLUICE_SOURCE_DIR) / "models/demo";
  const AccuracyReport report =
      Measure(demo, GetParam(),
              {.sequences = 4,
               .tokens = 100,
               .options = {{"float32", 16}, {"float16", 16}, {"int8", 16}, {"int8", 0}}});
  EXPECT_GT(report.without.mean, 0.5);
  EXPECT_LT(report.without.same_argmax, 0.7);
  EXPECT_LT(report.options[0].mean, 1e-10);
  EXPECT_LT(report.options[1].mean, 5e-8);
  EXPECT_LT(report.options[2].mean, 1e-4);
  EXPECT_LT(report.options[3].mean, 1e-3);
  EXPECT_GT(report.options[2].same_argmax, 0.98);
  EXPECT_NEAR(report.options[2].perplexity_change, 0, 0.01);
  // They are what they say they are.
  EXPECT_LT(10 * report.options[0].mean, report.options[1].mean);
  EXPECT_LT(10 * report.options[1].mean, report.options[2].mean);
  EXPECT_LT(2 * report.options[2].mean, report.options[3].mean);
}

INSTANTIATE_TEST_SUITE_P(All, DemoAccuracyTest, testing::ValuesIn(DevicesUnderTest()),
                         [](const auto& param) { return DeviceName(param.param); });

class FamilyAccuracyTest : public testing::TestWithParam<std::tuple<DeviceKind, TinyFamily>> {};

// Random weights make much the same of any text: what a format costs is measured by what a model
// without any memory would.
TEST_P(FamilyAccuracyTest, StaysWithinBounds) {
  const auto& [device, family] = GetParam();
  const TinyFamilyModel model(family);
  AccuracyRun run = {.sequences = 2, .tokens = 100, .options = {{"float32", 16}}};
  if (family.decays()) {
    for (const char* type : {"float16", "int8"}) {
      run.options.push_back({type, 0});
      run.options.push_back({type, 16});
    }
  }
  const AccuracyReport report = Measure(model.path(), device, run);
  const double worth = report.without.mean;
  EXPECT_GT(worth, 0);
  EXPECT_LE(report.options[0].mean, 1e-9 * worth);
  if (!family.decays()) return;
  EXPECT_LE(report.options[1].mean, 1e-5 * worth);
  EXPECT_LE(report.options[2].mean, 1e-6 * worth);
  EXPECT_LE(report.options[3].mean, 1e-2 * worth);
  EXPECT_LE(report.options[4].mean, 1e-3 * worth);
}

std::string CaseName(const testing::TestParamInfo<std::tuple<DeviceKind, TinyFamily>>& info) {
  return DeviceName(std::get<DeviceKind>(info.param)) + "_" + std::get<TinyFamily>(info.param).name;
}

INSTANTIATE_TEST_SUITE_P(All, FamilyAccuracyTest,
                         testing::Combine(testing::ValuesIn(DevicesUnderTest()),
                                          testing::ValuesIn(TinyFamilies())),
                         CaseName);

}  // namespace
}  // namespace sluice
