// What holds of every family of models: its states carry a sequence over any split of its tokens,
// and nothing else does.

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/requests.h"
#include "tests/engine/tiny_family.h"
#include "tests/kernels/devices.h"

namespace sluice {
namespace {

using testing::HasSubstr;

constexpr double kTolerance = 1e-4;  // of log-probabilities, float32

// From the first on that has a log-probability in both.
void ExpectSame(const std::vector<OutputToken>& ours, const std::vector<OutputToken>& theirs) {
  ASSERT_EQ(ours.size(), theirs.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    ASSERT_EQ(ours[i].token, theirs[i].token) << i;
    if (!ours[i].logprob.has_value() || !theirs[i].logprob.has_value()) continue;
    ASSERT_NEAR(*ours[i].logprob, *theirs[i].logprob, kTolerance) << i;
  }
}

class FamilyTest : public testing::TestWithParam<std::tuple<DeviceKind, TinyFamily>> {
 protected:
  std::unique_ptr<Engine> Open(int32_t step_tokens = 256, int32_t slots = 8) const {
    return Open({}, step_tokens, slots);
  }
  std::unique_ptr<Engine> Open(EngineConfig config, int32_t step_tokens = 256,
                               int32_t slots = 8) const {
    config.state_slots = slots;
    config.max_step_tokens = step_tokens;
    auto engine = Create(config);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }
  absl::StatusOr<std::unique_ptr<Engine>> Create(EngineConfig config) const {
    config.model_dir = model_.path();
    config.needs_tokenizer = false;
    config.device = std::get<0>(GetParam()) == DeviceKind::kCuda ? "cuda" : "cpu";
    config.dtype = "float32";
    config.threads = 2;
    return Engine::Create(config, nullptr, nullptr);
  }
  bool decays() const { return std::get<1>(GetParam()).decays(); }

  TinyFamilyModel model_{std::get<1>(GetParam())};
};

TEST_P(FamilyTest, HowAPromptIsSplitChangesNothing) {
  const auto whole = Finish(Open(1024, 1).get(), Score(Tokens(200, 1)));
  ExpectSame(Finish(Open(65, 1).get(), Score(Tokens(200, 1))), whole);
  ExpectSame(Finish(Open(129, 1).get(), Score(Tokens(200, 1))), whole);
}

TEST_P(FamilyTest, DecodesAsItScores) {
  auto engine = Open();
  std::vector<int64_t> tokens = Tokens(70, 2);
  const auto generated = Finish(engine.get(), Generate(tokens, 80));
  ASSERT_EQ(generated.size(), 80);
  for (const OutputToken& token : generated) tokens.push_back(token.token);
  const auto scored = Finish(engine.get(), Score(tokens));
  ASSERT_EQ(scored.size(), 150);
  ExpectSame({scored.begin() + 70, scored.end()}, generated);
}

TEST_P(FamilyTest, GivesTheSameInABatchAsAlone) {
  auto engine = Open();
  std::vector<Request> requests;
  for (int64_t i = 0; i < 6; ++i) {
    requests.push_back(Generate(Tokens(1 + 37 * i, i), 12));
    requests.push_back(Score(Tokens(2 + 41 * i, i)));
  }
  std::vector<std::vector<OutputToken>> alone;
  alone.reserve(requests.size());
  for (const Request& request : requests) alone.push_back(Finish(engine.get(), request));
  std::vector<std::shared_ptr<RecordingSink>> together;
  together.reserve(requests.size());
  for (const Request& request : requests) together.push_back(Start(engine.get(), request));
  for (size_t i = 0; i < requests.size(); ++i) {
    together[i]->Wait();
    ExpectSame(together[i]->tokens(), alone[i]);
  }
}

// The ring is part of the state: a prompt's end fills it, it is folded in time and again, and
// another's prompt finds it empty.
TEST_P(FamilyTest, DecodesTheSameBehindARing) {
  const auto want = Finish(Open().get(), Generate(Tokens(70, 2), 40));
  for (const int32_t ring : {1, 2, 5, 16}) {
    EngineConfig config;
    config.state_ring = ring;
    auto engine = Open(config, 65, 1);
    ExpectSame(Finish(engine.get(), Generate(Tokens(70, 2), 40)), want);
    ExpectSame(Finish(engine.get(), Generate(Tokens(70, 2), 40)), want);
  }
}

// What low precision costs is bounded; tests/bench/README.md says how much it is. Where nothing
// decays it is not, and refused.
TEST_P(FamilyTest, DecodesNearlyTheSameFromRoundedStates) {
  const auto want = Finish(Open().get(), Generate(Tokens(70, 2), 24));
  for (const auto& [type, ring] :
       {std::pair("float16", 0), {"float16", 16}, {"int8", 0}, {"int8", 16}}) {
    EngineConfig config;
    config.state_type = type;
    config.state_ring = ring;
    if (!decays()) {
      EXPECT_THAT(std::string(Create(config).status().message()), HasSubstr("never decay"));
      continue;
    }
    const auto got = Finish(Open(config).get(), Generate(Tokens(70, 2), 24));
    const double limit = config.state_type == "float16" ? 5e-3 : 0.3;
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size() && got[i].token == want[i].token; ++i) {
      EXPECT_NEAR(*got[i].logprob, *want[i].logprob, limit) << type << " " << ring << " " << i;
    }
    EXPECT_EQ(got[0].token, want[0].token);
  }
}

TEST_P(FamilyTest, LeavesNothingToTheNextInItsSlot) {
  const auto fresh = Finish(Open(256, 1).get(), Generate(Tokens(5, 3), 10));
  auto engine = Open(256, 1);
  Finish(engine.get(), Generate(Tokens(100, 4), 10));
  ExpectSame(Finish(engine.get(), Generate(Tokens(5, 3), 10)), fresh);
}

// Across the end of a chunk and from one step to the next.
TEST_P(FamilyTest, RemembersEarlierTokens) {
  auto engine = Open(65, 1);
  std::vector<int64_t> tokens = Tokens(90, 5);
  const auto first = Finish(engine.get(), Score(tokens));
  tokens[60] = (tokens[60] + 1) % 256;
  const auto other = Finish(engine.get(), Score(tokens));
  for (const size_t later : {62, 64, 66}) {
    EXPECT_GT(std::abs(*first[later].logprob - *other[later].logprob), 10 * kTolerance) << later;
  }
  EXPECT_EQ(*first[59].logprob, *other[59].logprob);
}

std::string FamilyCaseName(const testing::TestParamInfo<std::tuple<DeviceKind, TinyFamily>>& info) {
  const bool cuda = std::get<0>(info.param) == DeviceKind::kCuda;
  return std::string(cuda ? "Cuda" : "Cpu") + "_" + std::get<1>(info.param).name;
}

INSTANTIATE_TEST_SUITE_P(All, FamilyTest,
                         testing::Combine(testing::ValuesIn(DevicesUnderTest()),
                                          testing::ValuesIn(TinyFamilies())),
                         FamilyCaseName);

// What a model asks of its checkpoint.
class FamilyCheckpointTest : public testing::TestWithParam<TinyFamily> {
 protected:
  absl::Status Load() const { return model_.Load(device_.get()); }

  TinyFamilyModel model_{GetParam()};
  std::unique_ptr<Device> device_ = CreateCpuDevice(1);
};

TEST_P(FamilyCheckpointTest, LoadsWhatIsThere) {
  const absl::Status loaded = Load();
  EXPECT_TRUE(loaded.ok()) << loaded;
}

TEST_P(FamilyCheckpointTest, RefusesToMissATensor) {
  for (const WeightPart& tensor : model_.tensors()) {
    model_.Rewrite({tensor.name}, {});
    const absl::Status loaded = Load();
    EXPECT_EQ(loaded.code(), absl::StatusCode::kNotFound) << loaded;
    EXPECT_THAT(std::string(loaded.message()), HasSubstr(tensor.name));
  }
}

TEST_P(FamilyCheckpointTest, RefusesATensorWithoutAPlace) {
  model_.Rewrite({}, {{"model.layers.0.attn.other.weight", {8, 8}}});
  const absl::Status loaded = Load();
  EXPECT_EQ(loaded.code(), absl::StatusCode::kInvalidArgument) << loaded;
  EXPECT_THAT(std::string(loaded.message()), HasSubstr("attn.other.weight"));
}

TEST_P(FamilyCheckpointTest, RefusesATensorOfAnotherShape) {
  for (const WeightPart& tensor : model_.tensors()) {
    WeightPart wrong = tensor;
    wrong.shape.back() += 1;
    model_.Rewrite({tensor.name}, {wrong});
    const absl::Status loaded = Load();
    EXPECT_EQ(loaded.code(), absl::StatusCode::kInvalidArgument) << loaded;
    EXPECT_THAT(std::string(loaded.message()), HasSubstr(tensor.name));
  }
}

std::string FamilyName(const testing::TestParamInfo<TinyFamily>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(All, FamilyCheckpointTest, testing::ValuesIn(TinyFamilies()), FamilyName);

}  // namespace
}  // namespace sluice
