// Our log-probabilities against those that each model's reference gave for the same checkpoints
// (tests/golden).

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/model_config.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/engine/recording_sink.h"
#include "tests/kernels/devices.h"

namespace sluice {
namespace {

// What is allowed between theirs (float32) and ours.
struct Tolerance {
  double max;
  double mean;
};

struct GoldenCase {
  std::filesystem::path checkpoint;
  DeviceKind device;
  std::string dtype;
  Tolerance tolerance;
};

std::vector<std::filesystem::path> Checkpoints() {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(SLUICE_SOURCE_DIR "/tests/golden")) {
    if (std::filesystem::exists(entry.path() / "golden.json")) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<GoldenCase> Cases() {
  std::vector<GoldenCase> cases;
  for (const auto& checkpoint : Checkpoints()) {
    for (const DeviceKind device : DevicesUnderTest()) {
      cases.push_back({checkpoint, device, "float32", {1e-3, 1e-3}});
      // An xLSTM divides by sums that may come near zero, so that rounding moves single tokens
      // more.
      const bool divides = checkpoint.filename().string().rfind("xlstm", 0) == 0;
      cases.push_back({checkpoint, device, "bfloat16", {divides ? 6e-2 : 5e-2, 5e-3}});
    }
  }
  return cases;
}

// Mean and maximum of |ours - theirs| over everything compared.
class Difference {
 public:
  void Add(double ours, double theirs) {
    const double difference = std::abs(ours - theirs);
    max_ = std::isnan(difference) ? INFINITY : std::max(max_, difference);
    sum_ += difference;
    ++count_;
  }
  double max() const { return max_; }
  double mean() const { return sum_ / count_; }
  int64_t count() const { return count_; }

 private:
  double max_ = 0;
  double sum_ = 0;
  int64_t count_ = 0;
};

// Near ties may change places, so theirs are looked up in ours by token.
void CompareTop(const std::vector<TopToken>& ours, const nlohmann::json& theirs,
                Difference* difference) {
  for (const TopToken& top : ours) {
    const auto is_same = [&top](const nlohmann::json& pair) { return pair[0] == top.token; };
    const auto found = std::find_if(theirs.begin(), theirs.end(), is_same);
    if (found != theirs.end()) difference->Add(top.logprob, (*found)[1].get<double>());
  }
}

void CompareCase(Engine* engine, const nlohmann::json& golden, Difference* difference) {
  Request request;
  request.kind = RequestKind::kScore;
  request.token_ids = golden["token_ids"].get<std::vector<int64_t>>();
  request.top_logprobs = 20;
  auto sink = std::make_shared<RecordingSink>();
  ASSERT_TRUE(engine->Submit(request, sink).ok());
  ASSERT_TRUE(sink->Wait().status.ok());
  const std::vector<OutputToken> tokens = sink->tokens();
  ASSERT_EQ(tokens.size(), request.token_ids->size());
  EXPECT_FALSE(tokens[0].logprob.has_value());
  for (size_t i = 1; i < tokens.size(); ++i) {
    difference->Add(*tokens[i].logprob, golden["token_logprobs"][i].get<double>());
    CompareTop(tokens[i].top, golden["top_logprobs"][i], difference);
  }
}

class GoldenTest : public testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenTest, AgreesWithTheReference) {
  EngineConfig config;
  config.model_dir = GetParam().checkpoint;
  config.needs_tokenizer = false;
  config.device = GetParam().device == DeviceKind::kCuda ? "cuda" : "cpu";
  config.dtype = GetParam().dtype;
  config.threads = 2;
  config.state_slots = 4;
  config.max_step_tokens = 128;
  auto engine = Engine::Create(config, nullptr, nullptr);
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::ifstream file(GetParam().checkpoint / "golden.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  Difference difference;
  for (const auto& item : golden["cases"]) CompareCase(engine->get(), item, &difference);
  EXPECT_GT(difference.count(), 1000);
  EXPECT_LE(difference.max(), GetParam().tolerance.max);
  EXPECT_LE(difference.mean(), GetParam().tolerance.mean);
  std::printf("%s: max %.2e, mean %.2e over %ld\n", GetParam().checkpoint.filename().c_str(),
              difference.max(), difference.mean(), static_cast<long>(difference.count()));
}

// At least two of each family, so that none gets lost.
TEST(Goldens, CoverEveryFamily) {
  std::map<std::string, int> count;
  for (const auto& checkpoint : Checkpoints()) {
    const auto config = ReadModelConfig(checkpoint);
    ASSERT_TRUE(config.ok()) << config.status();
    ++count[config->model_type];
  }
  for (const std::string& family : FamilyNames()) EXPECT_GE(count[family], 2) << family;
}

std::string CaseName(const testing::TestParamInfo<GoldenCase>& info) {
  const std::string device = info.param.device == DeviceKind::kCuda ? "Cuda_" : "Cpu_";
  return device + info.param.checkpoint.filename().string() + "_as_" + info.param.dtype;
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, GoldenTest, testing::ValuesIn(Cases()), CaseName);

}  // namespace
}  // namespace sluice
