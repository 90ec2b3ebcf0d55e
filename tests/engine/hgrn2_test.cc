#include "engine/models/hgrn2.h"

#include <cmath>
#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tiny_family.h"

namespace sluice {
namespace {

using testing::HasSubstr;

TEST(Hgrn2, RefusesLowerBoundsThatAreNoNumbers) {
  const TinyFamilyModel model(FindTinyFamily("Hgrn2"));
  const std::unique_ptr<Device> device = CreateCpuDevice(1);
  for (const float value : {NAN, INFINITY, -INFINITY}) {
    model.Fill("model.lower_bounds", value);
    const absl::Status loaded = model.Load(device.get());
    EXPECT_EQ(loaded.code(), absl::StatusCode::kInvalidArgument) << loaded;
    EXPECT_THAT(std::string(loaded.message()), HasSubstr("model.lower_bounds"));
  }
  // However large: they are taken relative to each other.
  model.Fill("model.lower_bounds", 1e30F);
  EXPECT_TRUE(model.Load(device.get()).ok());
}

}  // namespace
}  // namespace sluice
