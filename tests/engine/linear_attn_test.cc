#include "engine/models/linear_attn.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/engine.h"
#include "engine/model_summary.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tiny_family.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Of float16 and int8 a sum that nothing decays comes to a stop.
TEST(LinearAttnTest, RefusesToRoundStatesThatNeverDecay) {
  for (const char* family : {"LinearAttn", "LinearAttnElu"}) {
    const TinyFamilyModel model(FindTinyFamily(family));
    EngineConfig config;
    config.model_dir = model.path();
    config.needs_tokenizer = false;
    config.device = "cpu";
    config.state_ring = 16;
    EXPECT_TRUE(Engine::Create(config, nullptr, nullptr).ok());
    for (const char* type : {"float16", "int8"}) {
      config.state_type = type;
      const absl::Status loaded = Engine::Create(config, nullptr, nullptr).status();
      EXPECT_EQ(loaded.code(), absl::StatusCode::kInvalidArgument) << loaded;
      EXPECT_THAT(std::string(loaded.message()),
                  AllOf(HasSubstr(absl::StrCat("state_type is ", type)),
                        HasSubstr("linear_attn never decay"), HasSubstr("must be float32")));
      EXPECT_EQ(SummarizeModel(config).status(), loaded);
    }
  }
}

// A file of tied maps may hold either name, or both.
class TiedMapsTest : public testing::Test {
 protected:
  TiedMapsTest() {
    for (const WeightPart& tensor : model_.tensors()) {
      if (!absl::StrContains(tensor.name, "feature_map_q")) continue;
      query_.push_back(tensor.name);
      key_.push_back(tensor);
      key_.back().name = absl::StrReplaceAll(tensor.name, {{"feature_map_q", "feature_map_k"}});
    }
  }

  absl::Status Load() { return model_.Load(device_.get()); }

  TinyFamilyModel model_{FindTinyFamily("LinearAttnHedgehog")};
  std::unique_ptr<Device> device_ = CreateCpuDevice(1);
  std::vector<std::string> query_;
  std::vector<WeightPart> key_;
};

TEST_F(TiedMapsTest, TakesEitherNameOrBoth) {
  ASSERT_EQ(query_.size(), 4);  // a weight and a bias of two layers
  EXPECT_TRUE(Load().ok());
  model_.Rewrite({}, key_);
  EXPECT_TRUE(Load().ok());
  model_.Rewrite(query_, key_);
  EXPECT_TRUE(Load().ok());
  model_.Rewrite(query_, {});
  EXPECT_THAT(std::string(Load().message()), HasSubstr("feature_map_q.layer.weight"));
}

}  // namespace
}  // namespace sluice
