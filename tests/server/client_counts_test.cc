#include "server/client_counts.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

namespace sluice {
namespace {

TEST(ClientCounts, CountsEachClientByItself) {
  ClientCounts counts;
  auto first = counts.Enter("a", 2);
  auto second = counts.Enter("a", 2);
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_FALSE(counts.Enter("a", 2).has_value());
  EXPECT_TRUE(counts.Enter("b", 2).has_value());
  second.reset();
  EXPECT_TRUE(counts.Enter("a", 2).has_value());
  EXPECT_EQ(counts.count("a"), 1);
}

TEST(ClientCounts, ForgetsClientsWithoutCalls) {
  ClientCounts counts;
  {
    const auto lease = counts.Enter("a", 0);
    EXPECT_EQ(counts.clients(), 1U);
  }
  EXPECT_EQ(counts.clients(), 0U);
}

TEST(ClientCounts, ZeroIsNoLimit) {
  ClientCounts counts;
  std::vector<ClientCounts::Lease> leases;
  leases.reserve(1000);
  for (int i = 0; i < 1000; ++i) leases.push_back(*counts.Enter("a", 0));
  EXPECT_EQ(counts.count("a"), 1000);
}

TEST(ClientCounts, AMovedLeaseCountsOnce) {
  ClientCounts counts;
  ClientCounts::Lease outer;
  {
    ClientCounts::Lease inner = *counts.Enter("a", 1);
    outer = std::move(inner);
    EXPECT_EQ(counts.count("a"), 1);
  }
  EXPECT_EQ(counts.count("a"), 1);
  { const ClientCounts::Lease last(std::move(outer)); }
  EXPECT_EQ(counts.count("a"), 0);
}

TEST(ClientCounts, HoldsTheLimitAgainstManyThreads) {
  ClientCounts counts;
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  std::atomic<int> entered{0};
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const auto lease = counts.Enter("a", 2);
        if (!lease.has_value()) continue;
        ++entered;
        const int now = ++inside;
        if (now > most) most = now;
        --inside;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most, 2);
  EXPECT_GT(entered, 0);
  EXPECT_EQ(counts.clients(), 0U);
}

}  // namespace
}  // namespace sluice
