#include "engine/state_pool.h"

#include <memory>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace sluice {
namespace {

class StatePoolTest : public testing::Test {
 protected:
  void SetUp() override {
    auto pool = StatePool::Create(device_.get(), 128, 3);
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
  }

  std::unique_ptr<Device> device_ = CreateCpuDevice(1);
  std::unique_ptr<StatePool> pool_;
};

TEST_F(StatePoolTest, HandsOutEachSlotOnce) {
  const std::set<int32_t> slots = {pool_->Acquire(), pool_->Acquire(), pool_->Acquire()};
  EXPECT_EQ(slots, (std::set<int32_t>{0, 1, 2}));
  EXPECT_EQ(pool_->Acquire(), -1);
  EXPECT_EQ(pool_->used(), 3);
}

TEST_F(StatePoolTest, ZeroesASlotForItsNextOwner) {
  const int32_t slot = pool_->Acquire();
  const std::vector<float> secret(128, 42.0F);
  device_->Upload(pool_->states() + slot * 128, secret.data(), 512);
  pool_->Release(slot);
  ASSERT_EQ(pool_->Acquire(), slot);
  std::vector<float> seen(128, 1.0F);
  device_->Download(seen.data(), pool_->states() + slot * 128, 512);
  EXPECT_EQ(seen, std::vector<float>(128, 0.0F));
}

TEST_F(StatePoolTest, NoticesALeak) {
  EXPECT_TRUE(pool_->Intact(0));
  const int32_t slot = pool_->Acquire();
  EXPECT_FALSE(pool_->Intact(0));
  EXPECT_TRUE(pool_->Intact(1));
  pool_->Release(slot);
  EXPECT_TRUE(pool_->Intact(0));
}

TEST_F(StatePoolTest, EndsTheProcessOnADoubleRelease) {
  const int32_t slot = pool_->Acquire();
  pool_->Release(slot);
  EXPECT_DEATH(pool_->Release(slot), "check failed");
  EXPECT_DEATH(pool_->Release(17), "check failed");
}

TEST_F(StatePoolTest, SaysHowMuchMemoryItLacks) {
  const auto pool = StatePool::Create(device_.get(), int64_t{1} << 40, 4);
  ASSERT_EQ(pool.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(pool.status().message().find("21990232555520 bytes"), std::string::npos)
      << pool.status();
}

}  // namespace
}  // namespace sluice
