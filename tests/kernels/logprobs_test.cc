#include "kernels/logprobs.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/logprobs_ref.h"
#include "tests/kernels/random_data.h"

namespace sluice {
namespace {

struct Result {
  std::vector<float> target_logprobs;
  std::vector<int32_t> top_tokens;
  std::vector<float> top_logprobs;
};

Result LogprobsOf(Device& device, int32_t vocab, int32_t top_n, const std::vector<float>& values,
                  const std::vector<int32_t>& targets) {
  const auto rows = static_cast<int32_t>(targets.size());
  const Input logits(device, values);
  const Input target(device, targets);
  const Output target_logprobs(device, int64_t{rows} * 4);
  const Output top_tokens(device, int64_t{rows} * top_n * 4);
  const Output top_logprobs(device, int64_t{rows} * top_n * 4);
  device.Logprobs({.rows = rows,
                   .vocab = vocab,
                   .top_n = top_n,
                   .logits = logits.as<float>(),
                   .targets = target.as<int32_t>(),
                   .target_logprobs = target_logprobs.as<float>(),
                   .top_tokens = top_n == 0 ? nullptr : top_tokens.as<int32_t>(),
                   .top_logprobs = top_n == 0 ? nullptr : top_logprobs.as<float>()});
  return {target_logprobs.Read<float>(), top_tokens.Read<int32_t>(), top_logprobs.Read<float>()};
}

class LogprobsTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, LogprobsTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST_P(LogprobsTest, NormalizesByHand) {
  // exp: 1, 2, 4, 1, 0, ... of 8 in all. Token 1 and token 4 tie with nobody; 0 and 3 tie.
  const float none = -200;
  const std::vector<float> logits = {0, std::log(2.0F), std::log(4.0F), 0, none, none, none, none};
  std::vector<float> rows = logits;
  rows.insert(rows.end(), logits.begin(), logits.end());
  const Result got = LogprobsOf(device(), 8, 4, rows, {2, -1});
  EXPECT_TRUE(EachNear(got.target_logprobs, {std::log(0.5), 0}, 1e-5, 0));
  EXPECT_EQ(got.top_tokens, std::vector<int32_t>({2, 1, 0, 3, 2, 1, 0, 3}));
  const double l8 = std::log(8.0);
  EXPECT_TRUE(EachNear(Part(got.top_logprobs, 4, 4),
                       {std::log(4.0) - l8, std::log(2.0) - l8, -l8, -l8}, 1e-5, 0));
}

TEST_P(LogprobsTest, AgreesWithTheOracle) {
  constexpr struct {
    int32_t rows;
    int32_t vocab;
    int32_t top_n;
    double deviation;
  } kShapes[] = {{1, 8, 8, 1},       {3, 33, 32, 5},    {17, 1000, 5, 3}, {64, 257, 1, 10},
                 {5, 32000, 20, 4},  {2, 50277, 32, 2}, {4, 4096, 0, 3},  {3, 12001, 32, 30},
                 {2, 256000, 20, 3}, {1, 500009, 32, 3}};
  Random random(1200);
  for (const auto& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.rows << "x" << shape.vocab << " top " << shape.top_n);
    const std::vector<float> logits =
        random.Normals(int64_t{shape.rows} * shape.vocab, shape.deviation);
    std::vector<int32_t> targets = random.Integers(shape.rows, shape.vocab);
    if (shape.rows > 2) targets[1] = -1;
    const Result got = LogprobsOf(device(), shape.vocab, shape.top_n, logits, targets);
    std::vector<double> target_logprobs;
    std::vector<double> top_logprobs;
    std::vector<int32_t> top_tokens;
    for (int32_t r = 0; r < shape.rows; ++r) {
      const std::vector<float> row = Part(logits, size_t{1} * r * shape.vocab, shape.vocab);
      const std::vector<double> logprobs = ref::Logprobs(row);
      target_logprobs.push_back(targets[r] < 0 ? 0 : logprobs[targets[r]]);
      for (const int32_t token : ref::TopTokens(row, shape.top_n)) {
        top_tokens.push_back(token);
        top_logprobs.push_back(logprobs[token]);
      }
    }
    EXPECT_TRUE(EachNear(got.target_logprobs, target_logprobs, 1e-6, 1e-5));
    EXPECT_TRUE(EachNear(got.top_logprobs, top_logprobs, 1e-6, 1e-5));
    EXPECT_EQ(got.top_tokens, top_tokens);
  }
}

TEST_P(LogprobsTest, TheLowerIdIsFirstInATie) {
  Random random(1210);
  constexpr int32_t kVocab = 5000;
  std::vector<float> logits(kVocab);
  for (float& logit : logits) logit = static_cast<float>(random.Below(4));
  const Result got = LogprobsOf(device(), kVocab, 32, logits, {0});
  EXPECT_EQ(got.top_tokens, ref::TopTokens(logits, 32));
  const Result flat = LogprobsOf(device(), kVocab, 32, std::vector<float>(kVocab, -7.0F), {4999});
  for (int32_t i = 0; i < 32; ++i) EXPECT_EQ(flat.top_tokens[i], i);
  EXPECT_NEAR(flat.target_logprobs[0], -std::log(5000.0), 1e-5);
}

TEST_P(LogprobsTest, StaysFiniteForLargeLogits) {
  for (const float size : {1e4F, -1e4F, 3e38F, -3e38F}) {
    std::vector<float> logits(64, size);
    logits[5] = size - std::abs(size) / 8;
    const Result got = LogprobsOf(device(), 64, 1, logits, {7});
    EXPECT_TRUE(std::isfinite(got.target_logprobs[0])) << size;
    EXPECT_EQ(got.top_tokens[0], 0);
    if (std::abs(size) > 1e4F) continue;
    // Float32 is spaced 1e-3 there.
    EXPECT_NEAR(got.target_logprobs[0], -std::log(63.0), 2e-3) << size;
  }
}

TEST_P(LogprobsTest, ARowDoesNotDependOnItsBatch) {
  Random random(1220);
  constexpr int32_t kRows = 64;
  for (const int32_t vocab : {3001, 32003}) {
    SCOPED_TRACE(vocab);
    const std::vector<float> logits = random.Normals(int64_t{kRows} * vocab, 3);
    const std::vector<int32_t> targets = random.Integers(kRows, vocab);
    const Result all = LogprobsOf(device(), vocab, 7, logits, targets);
    for (const size_t row : {0, 4, 63}) {
      const Result one =
          LogprobsOf(device(), vocab, 7, Part(logits, row * vocab, vocab), {targets[row]});
      EXPECT_TRUE(SameBits(one.target_logprobs, Part(all.target_logprobs, row, 1)));
      EXPECT_TRUE(SameBits(one.top_logprobs, Part(all.top_logprobs, row * 7, 7)));
      EXPECT_EQ(one.top_tokens, Part(all.top_tokens, row * 7, 7));
    }
  }
}

TEST_P(LogprobsTest, TakesNoRows) {
  EXPECT_TRUE(LogprobsOf(device(), 100, 5, {}, {}).top_tokens.empty());
}

TEST(LogprobsThreads, GiveTheSameBits) {
  Random random(1230);
  const std::vector<float> logits = random.Normals(5 * 20000, 3);
  const std::vector<int32_t> targets = random.Integers(5, 20000);
  const Result one = LogprobsOf(*CreateCpuDevice(1), 20000, 9, logits, targets);
  const Result two = LogprobsOf(*CreateCpuDevice(2), 20000, 9, logits, targets);
  EXPECT_TRUE(SameBits(one.target_logprobs, two.target_logprobs));
  EXPECT_TRUE(SameBits(one.top_logprobs, two.top_logprobs));
  EXPECT_EQ(one.top_tokens, two.top_tokens);
}

using LogprobsDeathTest = LogprobsTest;
INSTANTIATE_TEST_SUITE_P(Devices, LogprobsDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(LogprobsDeathTest, RefusesWhatBreaksALimit) {
  const std::vector<float> logits(64);
  EXPECT_DEATH(LogprobsOf(device(), 64, kMaxTopLogprobs + 1, logits, {0}), kCheckFailed);
  EXPECT_DEATH(LogprobsOf(device(), 8, 9, Part(logits, 0, 8), {0}), kCheckFailed);
}

}  // namespace
}  // namespace sluice
