#include "client/loadgen/random_stream.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace sluice {
namespace {

constexpr int kDraws = 200000;

struct Moments {
  double mean = 0;
  double variance = 0;
};

Moments Draw(const std::function<double(RandomStream*)>& draw) {
  RandomStream random(1, 2);
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = draw(&random);
    sum += x;
    squares += x * x;
  }
  const double mean = sum / kDraws;
  return {mean, squares / kDraws - mean * mean};
}

TEST(RandomStream, RepeatsItselfAndDiffersBetweenSeedsAndStreams) {
  RandomStream a(3, 4);
  RandomStream same(3, 4);
  RandomStream other_stream(3, 5);
  RandomStream other_seed(4, 4);
  for (int i = 0; i < 100; ++i) {
    const uint64_t drawn = a.Next();
    EXPECT_EQ(drawn, same.Next());
    EXPECT_NE(drawn, other_stream.Next());
    EXPECT_NE(drawn, other_seed.Next());
  }
}

TEST(RandomStream, HasTheMomentsOfItsDistributions) {
  const Moments uniform = Draw([](RandomStream* r) { return r->Uniform(); });
  EXPECT_NEAR(uniform.mean, 0.5, 0.005);
  EXPECT_NEAR(uniform.variance, 1.0 / 12, 0.002);
  const Moments exponential = Draw([](RandomStream* r) { return r->Exponential(); });
  EXPECT_NEAR(exponential.mean, 1, 0.01);
  EXPECT_NEAR(exponential.variance, 1, 0.03);
  const Moments normal = Draw([](RandomStream* r) { return r->Normal(); });
  EXPECT_NEAR(normal.mean, 0, 0.01);
  EXPECT_NEAR(normal.variance, 1, 0.02);
}

TEST(RandomStream, DrawsWholeNumbersFromBothEnds) {
  RandomStream random(0, 0);
  int counts[3] = {};
  for (int i = 0; i < kDraws; ++i) {
    const int64_t drawn = random.Whole(-1, 1);
    ASSERT_GE(drawn, -1);
    ASSERT_LE(drawn, 1);
    ++counts[drawn + 1];
  }
  for (const int count : counts) EXPECT_NEAR(count, kDraws / 3.0, 0.01 * kDraws);
}

}  // namespace
}  // namespace sluice
