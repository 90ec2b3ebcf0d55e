// How many ops decoding takes: alone on a GPU, a sequence waits for each of their launches.
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model.h"
#include "gtest/gtest.h"
#include "tests/engine/op_counter.h"
#include "tests/engine/tiny_family.h"

namespace sluice {
namespace {

// Ops of a step of one decode row.
int64_t DecodeOps(const std::string& family, int32_t layers, int32_t heads) {
  const std::string config =
      absl::StrCat(R"("model_type":")", family, R"(","num_hidden_layers":)", layers,
                   R"(,"num_heads":)", heads, R"(,"hidden_size":256)");
  const TinyFamilyModel files(TinyFamily{"Any", config.c_str()});
  OpCounter device(CreateCpuDevice(1));
  Model model(ReadModelConfig(files.path()).value(), &device, DType::kFloat32);
  EXPECT_TRUE(model.Load(*Checkpoint::Open(files.path()).value(), nullptr).ok());
  EXPECT_TRUE(model.Reserve(1, 0).ok());
  const int32_t token = 7;
  const int32_t position = 3;
  const int32_t slot = 0;
  std::vector<float> states(model.SlotFloats(), 0.0F);
  device.TakeCount();
  model.Forward({.rows = 1,
                 .decode_rows = 1,
                 .tokens = &token,
                 .positions = &position,
                 .decode_slots = &slot},
                states.data());
  return device.TakeCount();
}

int64_t OpsOfALayer(const std::string& family, int32_t heads) {
  return DecodeOps(family, 2, heads) - DecodeOps(family, 1, heads);
}

TEST(DecodeOps, AreFewInALayer) {
  EXPECT_EQ(OpsOfALayer("gla", 4), 8);
  EXPECT_EQ(OpsOfALayer("gated_rfa", 4), 15);
  EXPECT_EQ(OpsOfALayer("rwkv6", 4), 22);
}

TEST(DecodeOps, AreNoMoreForMoreHeads) {
  for (const char* family : {"decaying_fast_weights", "gated_retnet", "gated_rfa", "gla",
                             "linear_attn", "retnet", "rwkv6", "xlstm"}) {
    EXPECT_EQ(OpsOfALayer(family, 8), OpsOfALayer(family, 2)) << family;
  }
}

}  // namespace
}  // namespace sluice
