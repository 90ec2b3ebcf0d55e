#include "server/client_rates.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace sluice {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'000'000);

int TakeAll(ClientRates* rates, const std::string& client, double rate, absl::Time now) {
  int taken = 0;
  while (taken < 100'000 && rates->Take(client, rate, now) == absl::ZeroDuration()) ++taken;
  return taken;
}

TEST(ClientRates, LetsASecondsCallsThroughAtOnceAndThenTheRate) {
  ClientRates rates;
  EXPECT_EQ(TakeAll(&rates, "a", 8, kStart), 8);
  EXPECT_EQ(rates.Take("a", 8, kStart), absl::Milliseconds(125));
  EXPECT_EQ(TakeAll(&rates, "a", 8, kStart + absl::Milliseconds(125)), 1);
  EXPECT_EQ(TakeAll(&rates, "a", 8, kStart + absl::Milliseconds(625)), 4);
  EXPECT_EQ(TakeAll(&rates, "a", 8, kStart + absl::Hours(1)), 8) << "no more than a second's";
}

TEST(ClientRates, LetsOneCallThroughAtRatesBelowOne) {
  ClientRates rates;
  EXPECT_EQ(TakeAll(&rates, "a", 0.25, kStart), 1);
  EXPECT_EQ(rates.Take("a", 0.25, kStart), absl::Seconds(4));
  EXPECT_EQ(rates.Take("a", 0.25, kStart + absl::Seconds(3)), absl::Seconds(1));
  EXPECT_EQ(rates.Take("a", 0.25, kStart + absl::Seconds(4)), absl::ZeroDuration());
}

TEST(ClientRates, CountsEachClientByItself) {
  ClientRates rates;
  EXPECT_EQ(TakeAll(&rates, "a", 2, kStart), 2);
  EXPECT_EQ(TakeAll(&rates, "b", 2, kStart), 2);
  EXPECT_EQ(rates.clients(), 2U);
}

TEST(ClientRates, FollowsARateThatChanges) {
  ClientRates rates;
  EXPECT_EQ(TakeAll(&rates, "a", 8, kStart), 8);
  EXPECT_EQ(rates.Take("a", 2, kStart), absl::Milliseconds(500));
  EXPECT_EQ(TakeAll(&rates, "a", 2, kStart + absl::Hours(1)), 2);
}

TEST(ClientRates, AClockThatIsSetBackAddsNothingAndHoldsNobodyUp) {
  ClientRates rates;
  EXPECT_EQ(TakeAll(&rates, "a", 2, kStart), 2);
  const absl::Time before = kStart - absl::Hours(1);
  EXPECT_EQ(rates.Take("a", 2, before), absl::Milliseconds(500));
  EXPECT_EQ(rates.Take("a", 2, before + absl::Milliseconds(500)), absl::ZeroDuration());
}

TEST(ClientRates, ForgetsThoseWhoseBucketHasFilledUp) {
  ClientRates rates;
  for (int i = 0; i < 1000; ++i) rates.Take(std::to_string(i), 1, kStart);
  EXPECT_EQ(rates.clients(), 1000U);
  const absl::Time later = kStart + absl::Seconds(2);
  for (int i = 0; i < 1000; ++i) rates.Take("new" + std::to_string(i), 1, later);
  EXPECT_EQ(rates.clients(), 1000U) << "the old ones are gone";
}

TEST(ClientRates, RemembersABoundedNumberOfClients) {
  ClientRates rates(/*max_clients=*/100);
  EXPECT_EQ(TakeAll(&rates, "regular", 1, kStart), 1);
  for (int i = 0; i < 10'000; ++i) {
    EXPECT_EQ(rates.Take(std::to_string(i), 1, kStart), absl::ZeroDuration());
    // Who keeps calling is not forgotten for those who call once.
    EXPECT_GT(rates.Take("regular", 1, kStart), absl::ZeroDuration());
  }
  EXPECT_EQ(rates.clients(), 100U);
}

TEST(ClientRates, HoldsTheRateAgainstManyThreads) {
  ClientRates rates;
  std::vector<int> taken(4);
  std::vector<std::thread> threads;
  threads.reserve(taken.size());
  for (int& mine : taken) {
    threads.emplace_back([&rates, &mine] { mine = TakeAll(&rates, "a", 1000, kStart); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken[0] + taken[1] + taken[2] + taken[3], 1000);
}

}  // namespace
}  // namespace sluice
