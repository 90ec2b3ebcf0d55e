#include "engine/models/linear_attn.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tiny_family.h"

namespace sluice {
namespace {

using testing::HasSubstr;

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
