// Every shape and format has a plan on every GPU that can run the step.
#include "kernels/gated_replay_plan.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace sluice {
namespace {

constexpr StateType kTypes[] = {StateType::kFloat32, StateType::kFloat16, StateType::kInt8};
constexpr size_t kKiB = 1024;

// Compute capability 8.6 and 8.9; 8.0; 9.0; 12.0.
constexpr ReplayRoom kRooms[] = {
    {58, 1, 99 * kKiB}, {108, 1, 163 * kKiB}, {132, 8, 227 * kKiB}, {170, 8, 99 * kKiB}};
constexpr const ReplayRoom& kHopper = kRooms[2];

GatedShape ShapeOf(int32_t heads, int32_t kv_heads, int32_t key_dim, int32_t value_dim,
                   const StateFormat& state, bool value_gate = false) {
  GatedShape shape = {DType::kBFloat16, heads, kv_heads, key_dim, value_dim, 1};
  shape.value_gate = value_gate;
  shape.state = state;
  return shape;
}

size_t SharedBytes(const ReplayPlan& plan) {
  return (plan.at.end + plan.heads * kMaxStateRing) * sizeof(float);
}

// That threads, rows and memory are shared out whole.
void ExpectIsSound(const GatedShape& s, const ReplayRoom& room, const ReplayPlan& p) {
  EXPECT_LE(SharedBytes(p), room.shared_bytes);
  EXPECT_GE(p.batches, kLeastReplayBatches);
  EXPECT_LE(p.batches, kReplayBatches);
  EXPECT_EQ(p.lanes * 16, s.value_dim * StateTypeBytes(s.state.type));
  EXPECT_GE(p.groups, 1);
  EXPECT_LE(p.groups * p.lanes, kReplayThreads);
  EXPECT_EQ(s.key_dim % p.slices, 0);
  EXPECT_EQ(p.slices % p.blocks, 0);
  EXPECT_LE(p.blocks, room.largest_cluster);
  EXPECT_EQ(p.sums, p.blocks == 1 ? 1 : p.slices / p.blocks);
  const int32_t held = p.copies_ring ? s.state.Held() : 0;
  EXPECT_EQ(p.at.ring_values - p.at.ring_keys, held * s.key_dim);
  EXPECT_EQ(p.at.partial - p.at.ring_values, held * s.value_dim);
  EXPECT_EQ(p.at.batches - p.at.partial, p.sums * p.heads * p.groups * s.value_dim);
}

// Of all K and V.
void ExpectPlans(const ReplayRoom& room, const StateFormat& format, int32_t heads) {
  for (int32_t key_dim = 16; key_dim <= kMaxGatedDim; key_dim += 16) {
    for (int32_t value_dim = 16; value_dim <= kMaxGatedValueDim; value_dim += 16) {
      const GatedShape s = ShapeOf(heads, 1, key_dim, value_dim, format, true);
      // Heads of four blocks, of two, and of one.
      for (const int32_t rows : {1, room.multiprocessors * 3 / 4, 1000}) {
        ExpectIsSound(s, room, PlanReplay(s, rows, room));
      }
      ASSERT_FALSE(testing::Test::HasFailure()) << "K=" << key_dim << " V=" << value_dim;
    }
  }
}

TEST(GatedReplayPlan, HasRoomForEveryShapeOnEveryGpu) {
  for (const ReplayRoom& room : kRooms) {
    for (const StateType type : kTypes) {
      for (const int32_t ring : {0, 1, 16, kMaxStateRing}) {
        SCOPED_TRACE(testing::Message() << "ring " << ring << " type " << static_cast<int>(type));
        ExpectPlans(room, {type, ring}, 1);
        ExpectPlans(room, {type, ring}, 5);
      }
    }
  }
}

TEST(GatedReplayPlan, CopiesEveryRingWhereABlockMayHave227KiB) {
  for (const StateType type : kTypes) {
    for (const int32_t heads : {1, 5}) {
      const GatedShape s = ShapeOf(heads, 1, 512, 528, {type, kMaxStateRing}, true);
      EXPECT_TRUE(PlanReplay(s, 1, kHopper).copies_ring);
    }
  }
}

TEST(GatedReplayPlan, ReadsARingWhereItIsIfItDoesNotFit) {
  const GatedShape s = ShapeOf(4, 4, 256, 512, {StateType::kFloat16, 32});
  const ReplayPlan large = PlanReplay(s, 4, kHopper);
  const ReplayPlan small = PlanReplay(s, 4, kRooms[3]);
  EXPECT_TRUE(large.copies_ring);
  EXPECT_GT(large.blocks, 1);
  EXPECT_FALSE(small.copies_ring);
  EXPECT_EQ(small.blocks, large.blocks);
  // What decides about bits is the same.
  EXPECT_EQ(small.slices, large.slices);
  EXPECT_EQ(small.lanes, large.lanes);
  EXPECT_EQ(small.groups, large.groups);
}

TEST(GatedReplayPlan, TakesFewerBlocksIfOnlySoTheRingHasRoom) {
  const GatedShape s = ShapeOf(4, 4, 256, 512, {StateType::kFloat32, 18});
  const ReplayPlan plan = PlanReplay(s, 24, kRooms[3]);
  EXPECT_TRUE(plan.copies_ring);
  EXPECT_EQ(plan.blocks, 1);
  EXPECT_EQ(PlanReplay(s, 24, kHopper).blocks, 2);
}

TEST(GatedReplayPlan, SharesFewHeadsAmongBlocks) {
  const GatedShape s = ShapeOf(4, 4, 256, 512, {StateType::kFloat16, 16});
  EXPECT_EQ(PlanReplay(s, 1, kHopper).blocks, 4);
  EXPECT_EQ(PlanReplay(s, 16, kHopper).blocks, 4);
  EXPECT_EQ(PlanReplay(s, 17, kHopper).blocks, 2);
  EXPECT_EQ(PlanReplay(s, 33, kHopper).blocks, 2);
  EXPECT_EQ(PlanReplay(s, 34, kHopper).blocks, 1);
  EXPECT_EQ(PlanReplay(s, 65535, kHopper).blocks, 1);
}

// Where a block has at most half of a multiprocessor's memory two run at once.
TEST(GatedReplayPlan, LeavesRoomForASecondBlock) {
  for (const StateType type : kTypes) {
    const GatedShape s = ShapeOf(4, 4, 256, 512, {type, 16});
    EXPECT_LE(SharedBytes(PlanReplay(s, 256, kHopper)), (228 * kKiB) / 2 - kKiB);
  }
}

}  // namespace
}  // namespace sluice
