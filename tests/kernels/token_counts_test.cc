#include "kernels/token_counts.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/token_counts_ref.h"

namespace sluice {
namespace {

std::vector<uint32_t> Marked(Device& device, const std::vector<int32_t>& tokens,
                             const std::vector<int32_t>& slots, int32_t vocab,
                             const std::vector<uint32_t>& before) {
  const Input token(device, tokens);
  const Input slot(device, slots);
  const Output counts(device, before);
  device.MarkPrompt({.rows = static_cast<int32_t>(tokens.size()),
                     .vocab = vocab,
                     .tokens = token.as<int32_t>(),
                     .slots = slot.as<int32_t>(),
                     .counts = counts.as<uint32_t>()});
  return counts.Read<uint32_t>();
}

class TokenCountsTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, TokenCountsTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(TokenCountsTest, MarksByHand) {
  // Two slots of eight tokens. Counts stay; marking twice is marking once; -1 keeps none.
  std::vector<uint32_t> before(16);
  before[3] = 5;
  std::vector<uint32_t> after = before;
  after[3] = kInPrompt | 5;
  after[8] = kInPrompt;
  after[15] = kInPrompt;
  EXPECT_EQ(Marked(device(), {3, 3, 0, 7, 1}, {0, 0, 1, 1, -1}, 8, before), after);
}

TEST_P(TokenCountsTest, AgreesWithTheOracle) {
  Random random(700);
  constexpr int32_t kVocab = 1003;
  constexpr int32_t kSlots = 5;
  std::vector<uint32_t> counts(kVocab * kSlots);
  for (uint32_t& count : counts) count = static_cast<uint32_t>(random.Below(3));
  const std::vector<int32_t> tokens = random.Integers(2500, kVocab);
  std::vector<int32_t> slots = random.Integers(2500, kSlots + 1);
  for (int32_t& slot : slots) --slot;
  std::vector<uint32_t> want = counts;
  ref::MarkPrompt(tokens, slots, kVocab, &want);
  EXPECT_EQ(Marked(device(), tokens, slots, kVocab, counts), want);
}

}  // namespace
}  // namespace sluice
