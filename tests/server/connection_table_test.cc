#include "server/connection_table.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

namespace sluice {
namespace {

std::array<int, 2> NewPair() {
  std::array<int, 2> ends{};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  return ends;
}

TEST(ConnectionTable, ForgetsWhatWasClosed) {
  ConnectionTable table;
  const auto first = NewPair();
  const auto second = NewPair();
  table.Add(first[0]);
  table.Add(second[0]);
  table.Sweep();
  EXPECT_EQ(table.size(), 2U);
  close(first[0]);
  table.Sweep();
  EXPECT_EQ(table.size(), 1U);
  close(first[1]);
  close(second[0]);
  close(second[1]);
  table.Sweep();
  EXPECT_EQ(table.size(), 0U);
}

TEST(ConnectionTable, TakesADescriptorThatRefersToSomethingElseForClosed) {
  ConnectionTable table;
  const auto first = NewPair();
  const auto other = NewPair();
  table.Add(first[0]);
  // As if it was closed and its number given to another socket.
  ASSERT_EQ(dup2(other[0], first[0]), first[0]);
  table.Sweep();
  EXPECT_EQ(table.size(), 0U);
  table.Add(first[0]);
  table.Sweep();
  EXPECT_EQ(table.size(), 1U);
  for (const int end : {first[0], first[1], other[0], other[1]}) close(end);
}

TEST(ConnectionTable, CountsADescriptorThatWasUsedAgainOnce) {
  ConnectionTable table;
  const auto first = NewPair();
  const auto other = NewPair();
  table.Add(first[0]);
  ASSERT_EQ(dup2(other[0], first[0]), first[0]);
  table.Add(first[0]);
  EXPECT_EQ(table.size(), 1U);
  table.Sweep();
  EXPECT_EQ(table.size(), 1U);
  for (const int end : {first[0], first[1], other[0], other[1]}) close(end);
}

}  // namespace
}  // namespace sluice
