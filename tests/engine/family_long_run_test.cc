// 100,000 decoded tokens of a model of every family: nothing on the way is infinite or no number,
// and at the end the state is the one that a prefill of the same tokens comes to.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "kernels/device.h"
#include "tests/engine/tiny_family.h"
#include "tests/engine/tiny_run.h"
#include "tests/kernels/compare.h"

namespace sluice {
namespace {

constexpr int32_t kTokens = 100'000;
constexpr int32_t kLook = 1'000;     // tokens between looks at the state
constexpr int32_t kSegment = 250;    // of the prefill: off the grid of chunks
constexpr double kTolerance = 1e-3;  // of log-probabilities at the end

// The upper bits of a multiplicative hash.
int32_t Token(int32_t i) {
  return static_cast<int32_t>((static_cast<uint32_t>(i) * 2654435761U) >> 24);
}

bool AllFinite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

// Of one layer where the family's tests have two, for the sake of slow builds.
class FamilyLongRunTest : public testing::TestWithParam<std::string> {
 protected:
  const std::string config_ = absl::StrReplaceAll(
      FindTinyFamily(GetParam()).config, {{"\"num_hidden_layers\":2", "\"num_hidden_layers\":1"}});
  TinyFamilyModel model_{{GetParam().c_str(), config_.c_str()}};
};

TEST_P(FamilyLongRunTest, StaysFiniteAndKeepsToThePrefill) {
  const std::unique_ptr<Device> device = CreateCpuDevice(1);
  TinyRun decoding(model_, device.get());
  for (int32_t i = 0; i < kTokens; ++i) {
    decoding.Decode(Token(i));
    if ((i + 1) % kLook != 0) continue;
    ASSERT_TRUE(AllFinite(decoding.State())) << i;
    ASSERT_TRUE(AllFinite(decoding.Logprobs())) << i;
  }
  TinyRun prefilling(model_, device.get());
  for (int32_t begin = 0; begin < kTokens; begin += kSegment) {
    std::vector<int32_t> tokens(kSegment);
    for (int32_t i = 0; i < kSegment; ++i) tokens[i] = Token(begin + i);
    prefilling.Prefill(tokens);
  }
  const std::vector<float> last = prefilling.Logprobs();
  const std::vector<double> want(last.end() - TinyFamilyModel::kVocab, last.end());
  EXPECT_TRUE(EachNear(decoding.Logprobs(), want, 0, kTolerance));
}

std::string Name(const testing::TestParamInfo<std::string>& info) { return info.param; }

// Each architecture once, and linear attention with its normaliser too.
INSTANTIATE_TEST_SUITE_P(All, FamilyLongRunTest,
                         testing::Values("DecayingFastWeights", "GatedRetNet", "GatedRfa", "Gla",
                                         "Hgrn2", "LinearAttnElu", "LinearAttnIdentity", "Mamba",
                                         "Mamba2", "RetNet", "Rwkv6", "Xlstm"),
                         Name);

}  // namespace
}  // namespace sluice
