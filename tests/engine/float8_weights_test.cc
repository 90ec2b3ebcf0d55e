// Engines whose large matrices are float8.
#include <cmath>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/model_summary.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/requests.h"
#include "tests/engine/tiny_model.h"
#include "tests/kernels/devices.h"

namespace sluice {
namespace {

using testing::HasSubstr;

// Queries and keys have fewer rows than are rounded, so that a layer's first projection has three
// parts that are stored in turn as bfloat16 and as float8.
TinyModelOptions Options(bool float8) { return {.hidden_size = 256, .float8 = float8}; }

// Numbers of float8, and rows: of values, gate and output, and of the MLP's three, in two layers.
constexpr int64_t kNumbers = int64_t{2} * (3 * 256 * 256 + 3 * 512 * 256);
constexpr int64_t kRows = int64_t{2} * (3 * 256 + 512 + 512 + 256);

class Float8WeightsTest : public testing::TestWithParam<DeviceKind> {
 protected:
  EngineConfig Config(const TinyModel& model, const std::string& weight_type) const {
    EngineConfig config = TinyConfig(model.path());
    config.device = is_cuda() ? "cuda" : "cpu";
    config.dtype = "bfloat16";
    config.weight_type = weight_type;
    return config;
  }
  std::unique_ptr<Engine> Open(const TinyModel& model, const std::string& weight_type,
                               std::string* progress = nullptr) const {
    auto engine = Engine::Create(Config(model, weight_type), nullptr, [&](const std::string& text) {
      if (progress != nullptr) *progress += text + "\n";
    });
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }
  bool is_cuda() const { return GetParam() == DeviceKind::kCuda; }
};
INSTANTIATE_TEST_SUITE_P(Devices, Float8WeightsTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(Float8WeightsTest, AreThoseOfARoundedCheckpoint) {
  const TinyModel plain(Options(false));
  const TinyModel rounded(Options(true));
  for (const int64_t prompt : {3, 12, 150}) {
    const auto got = Finish(Open(plain, "fp8").get(), Generate(Tokens(prompt, 1), 24));
    const auto want = Finish(Open(rounded, "checkpoint").get(), Generate(Tokens(prompt, 1), 24));
    ASSERT_EQ(got.size(), want.size());
    EXPECT_EQ(got[0].token, want[0].token);
    for (size_t i = 0; i < got.size(); ++i) {
      if (is_cuda()) {
        // Products of other sizes add up in another order.
        if (got[i].token != want[i].token) break;
        EXPECT_NEAR(*got[i].logprob, *want[i].logprob, 0.1) << prompt << " " << i;
      } else {
        EXPECT_EQ(got[i].token, want[i].token) << prompt << " " << i;
        EXPECT_EQ(*got[i].logprob, *want[i].logprob) << prompt << " " << i;
      }
    }
    // A rounded one is not rounded again, and another one is.
    const auto again = Finish(Open(rounded, "fp8").get(), Generate(Tokens(prompt, 1), 24));
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(*again[i].logprob, *got[i].logprob) << i;
    EXPECT_NE(*Finish(Open(plain, "checkpoint").get(), Generate(Tokens(prompt, 1), 1))[0].logprob,
              *got[0].logprob);
  }
}

TEST_P(Float8WeightsTest, AreCountedAsTheyAreStored) {
  const TinyModel model(Options(false));
  std::string progress;
  const EngineInfo plain = Open(model, "checkpoint")->info();
  const EngineInfo rounded = Open(model, "fp8", &progress)->info();
  EXPECT_EQ(plain.weight_dtype, "bfloat16");
  EXPECT_EQ(rounded.weight_dtype, "float8_e4m3");
  EXPECT_EQ(rounded.parameters, plain.parameters);
  EXPECT_EQ(rounded.weight_bytes, plain.weight_bytes - kNumbers + 4 * kRows);
  EXPECT_EQ(rounded.buffer_bytes, plain.buffer_bytes);
  EXPECT_THAT(progress, HasSubstr("weights as bfloat16, " + std::to_string(kNumbers) +
                                  " of them as float8_e4m3, "));
  EXPECT_THAT(progress, HasSubstr("weights " + std::to_string(rounded.weight_bytes) + " bytes"));
  const auto summary = SummarizeModel(Config(model, "fp8"));
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->weight_bytes, rounded.weight_bytes);
  EXPECT_EQ(summary->weight_dtype, "float8_e4m3");
}

TEST_P(Float8WeightsTest, LeaveSmallMatricesAsTheyAre) {
  const TinyModel model;
  const auto plain = Open(model, "checkpoint");
  const auto rounded = Open(model, "fp8");
  EXPECT_EQ(rounded->info().weight_dtype, "bfloat16");
  EXPECT_EQ(rounded->info().weight_bytes, plain->info().weight_bytes);
  const auto want = Finish(plain.get(), Generate(Tokens(20, 1), 8));
  const auto got = Finish(rounded.get(), Generate(Tokens(20, 1), 8));
  for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(*got[i].logprob, *want[i].logprob);
}

TEST_P(Float8WeightsTest, AreRefusedIfTheyAreNotFinite) {
  const TinyModel model(Options(false));
  const auto file = model.path() / "model.safetensors";
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekp(-64, std::ios::end);  // the end of the last tensor's data, the MLP's
  bytes.write(std::string(64, '\xFF').data(), 64);
  bytes.close();
  const absl::Status status = Engine::Create(Config(model, "fp8"), nullptr, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("model.layers.1.mlp.down_proj.weight has a number that is not finite"));
}

}  // namespace
}  // namespace sluice
