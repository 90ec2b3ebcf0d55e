// Every family of models with float8 weights: it is the model whose checkpoint holds the rounded
// numbers.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/layers/projection.h"
#include "gtest/gtest.h"
#include "tests/engine/requests.h"
#include "tests/engine/tiny_family.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/float8_ref.h"
#include "tests/kernels/relative_error.h"

namespace sluice {
namespace {

constexpr int64_t kPrompt = 70;
constexpr int64_t kGenerated = 12;

// A number of the config, where it begins and ends; 0 if it has none.
int64_t NumberOf(const std::string& config, const std::string& key, size_t* begin, size_t* end) {
  const std::string label = absl::StrCat("\"", key, "\":");
  const size_t at = config.find(label);
  if (at == std::string::npos) return 0;
  *begin = at + label.size();
  *end = config.find_first_not_of("0123456789", *begin);
  int64_t number = 0;
  EXPECT_TRUE(absl::SimpleAtoi(config.substr(*begin, *end - *begin), &number)) << config;
  return number;
}

// The family with a hidden size that is rounded, of more heads, or of larger ones in HGRN2.
std::string Widened(std::string config) {
  size_t begin = 0;
  size_t end = 0;
  const int64_t hidden = NumberOf(config, "hidden_size", &begin, &end);
  int64_t factor = 1;
  while (hidden * factor < Projection::kLeastFloat8Dim || hidden * factor % 16 != 0) ++factor;
  for (const char* key :
       {"hidden_size", "intermediate_size", "num_heads", "num_kv_heads", "expand_ratio"}) {
    const int64_t number = NumberOf(config, key, &begin, &end);
    if (number != 0) config.replace(begin, end - begin, absl::StrCat(number * factor));
  }
  return config;
}

// Whether the tensor is of those that an engine keeps as float8 if it is asked to: the embedding
// and the head are not, nor what BatchedProjection multiplies by.
bool IsRounded(const WeightPart& tensor) {
  if (tensor.shape.size() != 2 || tensor.shape[1] % 16 != 0 ||
      *std::min_element(tensor.shape.begin(), tensor.shape.end()) < Projection::kLeastFloat8Dim) {
    return false;
  }
  for (const char* part : {"embed", "lm_head"}) {
    if (absl::StrContains(tensor.name, part)) return false;
  }
  for (const char* part : {"r_proj", "k_proj", "v_proj", "g_proj"}) {  // RWKV-6
    if (absl::StrContains(tensor.name, absl::StrCat(part, ".linear"))) return false;
  }
  return true;
}

void RoundTensor(const WeightPart& tensor, std::vector<float>* values) {
  if (!IsRounded(tensor)) return;
  RoundRowsThroughFloat8(values->data(), tensor.shape[0], tensor.shape[1]);
}

struct Outputs {
  std::vector<OutputToken> scored;
  std::vector<OutputToken> generated;
};

// Log-probabilities of the prompt's tokens, and of as many behind it as another model chose too.
std::vector<float> Logprobs(const Outputs& outputs, const Outputs& other) {
  std::vector<float> logprobs;
  for (const OutputToken& token : outputs.scored) {
    if (token.logprob.has_value()) logprobs.push_back(*token.logprob);
  }
  EXPECT_EQ(logprobs.size(), kPrompt - 1);
  const size_t count = std::min(outputs.generated.size(), other.generated.size());
  for (size_t i = 0; i < count; ++i) {
    if (outputs.generated[i].token != other.generated[i].token) break;
    logprobs.push_back(*outputs.generated[i].logprob);
  }
  return logprobs;
}

double Difference(const Outputs& got, const Outputs& want) {
  return RelativeError(Logprobs(got, want), Logprobs(want, got));
}

class FamilyFloat8Test : public testing::TestWithParam<std::tuple<DeviceKind, TinyFamily>> {
 protected:
  Outputs Run(const std::string& weight_type) const {
    EngineConfig config;
    config.model_dir = model_.path();
    config.needs_tokenizer = false;
    config.device = is_cuda() ? "cuda" : "cpu";
    config.dtype = "bfloat16";
    config.weight_type = weight_type;
    config.threads = 2;
    config.state_slots = 2;
    const auto engine = Engine::Create(config, nullptr, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status();
    if (!engine.ok()) return {};
    EXPECT_EQ((*engine)->info().weight_dtype == "float8_e4m3", weight_type == "fp8");
    return {Finish(engine->get(), Score(Tokens(kPrompt, 1))),
            Finish(engine->get(), Generate(Tokens(kPrompt, 1), kGenerated))};
  }

  static bool is_cuda() { return std::get<0>(GetParam()) == DeviceKind::kCuda; }

  const std::string config_ = Widened(std::get<1>(GetParam()).config);
  TinyFamilyModel model_{{std::get<1>(GetParam()).name, config_.c_str()}};
};

TEST_P(FamilyFloat8Test, IsTheModelOfTheRoundedCheckpoint) {
  const Outputs plain = Run("checkpoint");
  const Outputs got = Run("fp8");
  model_.Change(RoundTensor);
  const Outputs want = Run("checkpoint");
  if (is_cuda()) {
    EXPECT_LT(Difference(got, want), 0.02);  // products of other sizes add up in another order
  } else {
    EXPECT_EQ(Logprobs(got, want), Logprobs(want, got));
    EXPECT_EQ(Logprobs(got, want).size(), kPrompt - 1 + kGenerated);
  }
  // What rounding changes.
  EXPECT_GT(Difference(got, plain), 0);
  EXPECT_LT(Difference(got, plain), 0.05);
}

std::string Name(const testing::TestParamInfo<FamilyFloat8Test::ParamType>& info) {
  const bool cuda = std::get<0>(info.param) == DeviceKind::kCuda;
  return std::string(cuda ? "Cuda" : "Cpu") + "_" + std::get<1>(info.param).name;
}

INSTANTIATE_TEST_SUITE_P(All, FamilyFloat8Test,
                         testing::Combine(testing::ValuesIn(DevicesUnderTest()),
                                          testing::ValuesIn(TinyFamilies())),
                         Name);

}  // namespace
}  // namespace sluice
