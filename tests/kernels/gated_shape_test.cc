#include "kernels/gated_shape.h"

#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/devices.h"

namespace sluice {
namespace {

constexpr GatedShape kGood = {DType::kFloat32, 4, 2, 32, 48, 1};

// Of the good shape, at the lowest strides allowed.
GatedOperands GoodOperands() {
  GatedOperands operands = {};
  operands.q_stride = 4 * 32;
  operands.k_stride = 2 * 32;
  operands.v_stride = 2 * 48;
  operands.slot_stride = 2 * 32 * 48;
  return operands;
}

TEST(GatedShapeDeathTest, TakesTheLimitsAndNothingBeyond) {
  CheckGatedShape(kGood);
  CheckGatedShape({DType::kFloat32, 256, 256, 16, 512, 1});
  CheckGatedShape({DType::kBFloat16, 1, 1, 512, 16, 1});
  const std::vector<GatedShape> bad = {
      {DType::kFloat32, 0, 1, 16, 16, 1},  {DType::kFloat32, 257, 257, 16, 16, 1},
      {DType::kFloat32, 2, 0, 16, 16, 1},  {DType::kFloat32, 3, 2, 16, 16, 1},
      {DType::kFloat32, 2, 2, 8, 16, 1},   {DType::kFloat32, 2, 2, 24, 16, 1},
      {DType::kFloat32, 2, 2, 528, 16, 1}, {DType::kFloat32, 2, 2, 16, 8, 1},
      {DType::kFloat32, 2, 2, 16, 40, 1},  {DType::kFloat32, 2, 2, 16, 528, 1},
      {DType::kFloat16, 2, 2, 16, 16, 1},
  };
  for (const GatedShape& shape : bad) {
    EXPECT_DEATH(CheckGatedShape(shape), kCheckFailed)
        << shape.heads << " " << shape.kv_heads << " " << shape.key_dim << " " << shape.value_dim;
  }
}

TEST(GatedShapeDeathTest, TakesRowsAndSlotsThatDoNotOverlapAndAreAligned) {
  CheckGatedOperands(kGood, GoodOperands());
  for (int64_t GatedOperands::*stride :
       {&GatedOperands::q_stride, &GatedOperands::k_stride, &GatedOperands::v_stride}) {
    GatedOperands operands = GoodOperands();
    operands.*stride += 8;
    CheckGatedOperands(kGood, operands);
    operands.*stride -= 16;  // rows overlap
    EXPECT_DEATH(CheckGatedOperands(kGood, operands), kCheckFailed);
    operands.*stride += 12;  // no multiple of 8
    EXPECT_DEATH(CheckGatedOperands(kGood, operands), kCheckFailed);
  }
  GatedOperands operands = GoodOperands();
  operands.slot_stride -= 1;
  EXPECT_DEATH(CheckGatedOperands(kGood, operands), kCheckFailed);
  GatedShape bad = kGood;
  bad.heads = 3;
  EXPECT_DEATH(CheckGatedOperands(bad, GoodOperands()), kCheckFailed);
}

}  // namespace
}  // namespace sluice
