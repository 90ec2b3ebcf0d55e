#include "kernels/gated_shape.h"

#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/devices.h"

namespace sluice {
namespace {

constexpr GatedShape kGood = {DType::kFloat32, 4, 2, 32, 48, 1};
constexpr float kNumber = 0;

// Of the good shape, at the lowest strides allowed.
GatedOperands GoodOperands() {
  GatedOperands operands = {};
  operands.q_stride = 4 * 32;
  operands.k_stride = 2 * 32;
  operands.v_stride = 2 * 48;
  operands.log_decay = &kNumber;
  operands.slot_stride = 2 * 32 * 48;
  return operands;
}

TEST(GatedShapeDeathTest, TakesTheLimitsAndNothingBeyond) {
  CheckGatedShape(kGood);
  CheckGatedShape({DType::kFloat32, 256, 256, 16, 528, 1});
  CheckGatedShape({DType::kBFloat16, 1, 1, 512, 16, 1});
  const std::vector<GatedShape> bad = {
      {DType::kFloat32, 0, 1, 16, 16, 1},  {DType::kFloat32, 257, 257, 16, 16, 1},
      {DType::kFloat32, 2, 0, 16, 16, 1},  {DType::kFloat32, 3, 2, 16, 16, 1},
      {DType::kFloat32, 2, 2, 8, 16, 1},   {DType::kFloat32, 2, 2, 24, 16, 1},
      {DType::kFloat32, 2, 2, 528, 16, 1}, {DType::kFloat32, 2, 2, 16, 8, 1},
      {DType::kFloat32, 2, 2, 16, 40, 1},  {DType::kFloat32, 2, 2, 16, 544, 1},
      {DType::kFloat16, 2, 2, 16, 16, 1},
  };
  for (const GatedShape& shape : bad) {
    EXPECT_DEATH(CheckGatedShape(shape), kCheckFailed)
        << shape.heads << " " << shape.kv_heads << " " << shape.key_dim << " " << shape.value_dim;
  }
}

GatedShape Storing(StateType type, int32_t ring) {
  GatedShape shape = kGood;
  shape.state = {type, ring};
  return shape;
}

TEST(GatedShapeDeathTest, TakesTheFormatsThatThereAre) {
  for (const StateType type : {StateType::kFloat32, StateType::kFloat16, StateType::kInt8}) {
    CheckGatedShape(Storing(type, 0));
    CheckGatedShape(Storing(type, 32));
    EXPECT_DEATH(CheckGatedShape(Storing(type, -1)), kCheckFailed);
    EXPECT_DEATH(CheckGatedShape(Storing(type, 33)), kCheckFailed);
  }
  EXPECT_DEATH(CheckGatedShape(Storing(static_cast<StateType>(3), 0)), kCheckFailed);
}

TEST(GatedShapeDeathTest, ASlotHoldsTheWholeFormat) {
  for (const GatedShape& shape : {Storing(StateType::kFloat16, 0), Storing(StateType::kInt8, 0),
                                  Storing(StateType::kFloat32, 16)}) {
    GatedOperands operands = GoodOperands();
    operands.slot_stride = shape.StateFloats();
    CheckGatedOperands(shape, operands);
    operands.slot_stride -= 1;
    EXPECT_DEATH(CheckGatedOperands(shape, operands), kCheckFailed);
  }
}

TEST(StateFormat, LaysItsPartsOutOneAfterTheOther) {
  // 2 state heads of 32 x 48: 3072 numbers.
  EXPECT_EQ(kGood.StateFloats(), kGood.StateSize());
  EXPECT_EQ(Storing(StateType::kFloat16, 0).StateFloats(), 1536);
  EXPECT_EQ(Storing(StateType::kInt8, 0).StateFloats(), 768 + 64);
  EXPECT_EQ(Storing(StateType::kFloat16, 1).StateFloats(), 1536 + 64 + 64);
  GatedShape shape = Storing(StateType::kInt8, 5);
  shape.value_gate = true;
  const StateParts parts = shape.Parts();
  EXPECT_EQ(parts.scales, 768);
  EXPECT_EQ(parts.counts, parts.scales + 64);
  EXPECT_EQ(parts.log_decay, parts.counts + 64);
  EXPECT_EQ(parts.value_log_decay, parts.log_decay + 64);
  EXPECT_EQ(parts.keys, parts.value_log_decay + 128);         // 2 x 48, to a multiple of 64
  EXPECT_EQ(parts.values, parts.keys + int64_t{2} * 4 * 32);  // 4 tokens are held
  EXPECT_EQ(parts.end, parts.values + int64_t{2} * 4 * 48);
}

GatedShape Sharing(int32_t heads, int32_t kv_heads, int32_t shared_keys) {
  GatedShape shape = kGood;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.shared_keys = shared_keys;
  return shape;
}

TEST(GatedShapeDeathTest, SharesKeysAmongWholeGroupsOfHeads) {
  CheckGatedShape(Sharing(6, 6, 3));
  CheckGatedShape(Sharing(64, 64, 64));
  EXPECT_DEATH(CheckGatedShape(Sharing(6, 6, 4)), kCheckFailed);
  EXPECT_DEATH(CheckGatedShape(Sharing(6, 6, 0)), kCheckFailed);
  EXPECT_DEATH(CheckGatedShape(Sharing(6, 3, 3)), kCheckFailed);  // grouped queries as well
}

TEST(GatedShapeDeathTest, RowsAreAsWideAsTheHeadsThatShareThem) {
  GatedOperands operands = GoodOperands();
  operands.q_stride = operands.k_stride = 2 * 32;
  operands.v_stride = 6 * 48;
  operands.slot_stride = 6 * 32 * 48;
  CheckGatedOperands(Sharing(6, 6, 3), operands);
  EXPECT_DEATH(CheckGatedOperands(Sharing(6, 6, 2), operands), kCheckFailed);
}

TEST(GatedShapeDeathTest, TakesTheOperandsOfItsKindAndNoOthers) {
  const auto check = [](GateKind gate, bool value_gate, ReadKind read,
                        const GatedOperands& operands) {
    GatedShape shape = kGood;
    shape.gate = gate;
    shape.value_gate = value_gate;
    shape.read = read;
    CheckGatedOperands(shape, operands);
  };
  constexpr ReadKind kInclusive = ReadKind::kInclusive;
  GatedOperands operands = GoodOperands();
  operands.input_scale = &kNumber;  // goes with everything
  for (const GateKind gate : {GateKind::kConstant, GateKind::kScalar, GateKind::kVector}) {
    check(gate, false, kInclusive, operands);
  }
  EXPECT_DEATH(check(GateKind::kNone, false, kInclusive, operands), kCheckFailed);
  EXPECT_DEATH(check(GateKind::kVector, true, kInclusive, operands), kCheckFailed);
  operands.log_decay = nullptr;
  check(GateKind::kNone, false, kInclusive, operands);
  EXPECT_DEATH(check(GateKind::kConstant, false, kInclusive, operands), kCheckFailed);
  operands.value_log_decay = &kNumber;
  check(GateKind::kNone, true, kInclusive, operands);
  EXPECT_DEATH(check(GateKind::kNone, false, kInclusive, operands), kCheckFailed);
  check(GateKind::kNone, true, ReadKind::kExclusive, operands);
  operands.bonus = &kNumber;
  check(GateKind::kNone, true, ReadKind::kExclusive, operands);
  EXPECT_DEATH(check(GateKind::kNone, true, kInclusive, operands), kCheckFailed);
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
