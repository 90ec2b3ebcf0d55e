#include "server/descriptor_limit.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

namespace sluice {
namespace {

rlimit Limit() {
  rlimit limit{};
  EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  return limit;
}

// In this order, since a hard limit cannot be raised again.
TEST(DescriptorLimit, IsRaisedAsFarAsItMayBe) {
  const rlimit low = {200, 300};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_EQ(RaiseDescriptorLimit(250), 250);
  EXPECT_EQ(Limit().rlim_cur, 250U);
  EXPECT_EQ(RaiseDescriptorLimit(100), 250) << "never lowered";
  EXPECT_EQ(RaiseDescriptorLimit(1000), 300);
  EXPECT_EQ(Limit().rlim_cur, 300U);
  EXPECT_EQ(Limit().rlim_max, 300U);
}

}  // namespace
}  // namespace sluice
