// What a sublayer measures as its scratch memory is what a step takes of it.
#include "engine/layers/scratch_sublayer.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/model.h"
#include "engine/upload_arena.h"
#include "gtest/gtest.h"
#include "tests/engine/tiny_family.h"
#include "tests/engine/upload_batch.h"
#include "tests/kernels/devices.h"

namespace sluice {
namespace {

constexpr int64_t kGrain = 256;  // of an arena

TEST(ScratchArena, GivesAlignedPartsThatFollowEachOther) {
  alignas(kGrain) std::byte memory[3 * kGrain];
  ScratchArena arena(memory, sizeof(memory));
  EXPECT_EQ(arena.Take(1), memory);
  EXPECT_EQ(arena.Take<float>(0), reinterpret_cast<float*>(memory + kGrain));
  EXPECT_EQ(arena.Take(kGrain + 1), memory + kGrain);
  EXPECT_EQ(arena.used(), 3 * kGrain);
}

TEST(ScratchArena, MeasuresMoreThanAnyMemoryHas) {
  ScratchArena arena;
  EXPECT_EQ(arena.Take(int64_t{1} << 50), nullptr);
  EXPECT_EQ(arena.Take(1), nullptr);
  EXPECT_EQ(arena.used(), (int64_t{1} << 50) + kGrain);
}

TEST(ScratchArenaDeathTest, GivesNoMoreThanThereIs) {
  alignas(kGrain) std::byte memory[kGrain];
  ScratchArena arena(memory, sizeof(memory));
  EXPECT_DEATH(arena.Take(kGrain + 1), kCheckFailed);
}

class ScratchSublayerTest : public testing::TestWithParam<TinyFamily> {
 protected:
  void SetUp() override {
    const auto checkpoint = Checkpoint::Open(model_.path()).value();
    config_ = ReadModelConfig(model_.path()).value();
    loaded_ = std::make_unique<Model>(config_, device_.get(), DType::kFloat32);
    ASSERT_TRUE(loaded_->Load(*checkpoint, nullptr).ok());
  }

  size_t Blocks() const { return loaded_->architecture().blocks.size(); }

  // Sublayer `index` of the first layer, over scratch memory of what it measures and `more` bytes.
  void Run(size_t index, const Batch& batch, int64_t more) const {
    const int64_t cells = int64_t{batch.rows()} * config_.hidden_size;
    const std::vector<float> normed(cells, 0.5F);
    std::vector<float> x(cells, 0.0F);
    std::vector<float> states(kSlots * loaded_->SlotFloats(), 0.0F);
    UploadArena inputs(device_.get(), kBatchBytes);
    SublayerContext context = {
        .batch = UploadBatch(batch, &inputs),
        .normed = normed.data(),
        .x = x.data(),
        .states = states.data(),
        .slot_stride = loaded_->SlotFloats(),
    };
    const ResidualBlock& block = loaded_->architecture().blocks[index];
    const int64_t bytes = block.sublayer->ScratchBytes(SizeOf(context.batch));
    const DeviceBuffer memory(device_.get(), bytes + kGrain);
    std::byte* const end = memory.as<std::byte>() + bytes;
    std::fill_n(end, kGrain, kGuard);
    context.scratch = {memory.as<std::byte>(), bytes + more};
    block.sublayer->Forward(0, context);
    EXPECT_EQ(std::count(end, end + kGrain, kGuard), kGrain)
        << "written past what was measured, of " << block.norm;
  }

  static constexpr int64_t kSlots = 4;
  static constexpr std::byte kGuard{0xA5};
  TinyFamilyModel model_{GetParam()};
  std::unique_ptr<Device> device_ = CreateCpuDevice(1);
  ModelConfig config_;
  std::unique_ptr<Model> loaded_;
};

Batch DecodeRows() {
  Batch batch;
  for (int32_t slot = 0; slot < 3; ++slot) batch.AddDecode(7, slot, 5);
  return batch;
}

Batch RowsAndSegments() {
  const std::vector<int32_t> tokens(150, 9);
  Batch batch;
  batch.AddDecode(7, 0, 5);
  batch.AddSegment(tokens.data(), 150, 2, 0);
  batch.AddSegment(tokens.data(), 3, 1, 63);
  return batch;
}

TEST_P(ScratchSublayerTest, TakesNoMoreThanItMeasures) {
  for (size_t index = 0; index < Blocks(); ++index) {
    Run(index, DecodeRows(), 0);
    Run(index, RowsAndSegments(), 0);
  }
}

using ScratchSublayerDeathTest = ScratchSublayerTest;

TEST_P(ScratchSublayerDeathTest, TakesNoLessThanItMeasures) {
  for (size_t index = 0; index < Blocks(); ++index) {
    EXPECT_DEATH(Run(index, DecodeRows(), -kGrain), kCheckFailed) << index;
    EXPECT_DEATH(Run(index, RowsAndSegments(), -kGrain), kCheckFailed) << index;
  }
}

std::string FamilyName(const testing::TestParamInfo<TinyFamily>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(All, ScratchSublayerTest, testing::ValuesIn(TinyFamilies()), FamilyName);
INSTANTIATE_TEST_SUITE_P(All, ScratchSublayerDeathTest, testing::ValuesIn(TinyFamilies()),
                         FamilyName);

}  // namespace
}  // namespace sluice
