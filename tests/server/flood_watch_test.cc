#include "server/flood_watch.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

class FloodWatchTest : public testing::Test {
 protected:
  // What it says of one connection, of which this much was read and so much is left; empty:
  // nothing.
  std::string Look(int64_t received, int64_t sent, int64_t unread = 1) {
    const ConnectionTraffic traffic = {
        .received = received, .sent = sent, .unread = unread, .cookie = cookie_};
    const std::vector<FloodWatch::Verdict> verdicts = watch_.Look({{kConnection, traffic}});
    if (verdicts.empty()) return "";
    EXPECT_EQ(verdicts.size(), 1);
    EXPECT_EQ(verdicts[0].descriptor, kConnection);
    return verdicts[0].reason;
  }

  static constexpr int kConnection = 7;
  FloodWatch watch_;
  uint64_t cookie_ = 1;
};

TEST_F(FloodWatchTest, EndsWhatSendsTooMuchWithoutAnAnswer) {
  EXPECT_EQ(Look(kMiB, 40), "");
  EXPECT_EQ(Look(65 * kMiB, 40), "");
  EXPECT_EQ(Look(65 * kMiB + 1, 40), "unanswered");
}

TEST_F(FloodWatchTest, WhetherItFindsSomethingUnreadOrNot) {
  EXPECT_EQ(Look(kMiB, 40), "");
  for (int look = 1; look <= 4; ++look) EXPECT_EQ(Look((1 + 16 * look) * kMiB, 40, 0), "");
  EXPECT_EQ(Look(65 * kMiB + 1, 40, 0), "unanswered");
}

TEST_F(FloodWatchTest, AnAnswerIsAllItTakes) {
  for (int64_t look = 1; look <= 16; ++look) EXPECT_EQ(Look(64 * kMiB * look, look), "") << look;
}

TEST_F(FloodWatchTest, EndsWhatSendsOnAndOnAndGetsNoAnswer) {
  EXPECT_EQ(Look(1000, 0), "");
  for (int look = 1; look <= 15; ++look) EXPECT_EQ(Look(1000 + kMiB + look, 0, look % 2), "");
  EXPECT_EQ(Look(1016 + kMiB, 0), "unanswered");
}

// As a prompt of some megabytes does until its first token.
TEST_F(FloodWatchTest, WhoHasSentALotMayWaitForItsAnswer) {
  EXPECT_EQ(Look(1000, 0), "");
  for (int look = 0; look < 600; ++look) EXPECT_EQ(Look(8 * kMiB, 0, look % 2), "") << look;
}

TEST_F(FloodWatchTest, WhoSendsLittleMayWaitForItsAnswer) {
  EXPECT_EQ(Look(1000, 0), "");
  for (int look = 0; look < 60; ++look) EXPECT_EQ(Look(1000 + kMiB, 0), "") << look;
}

TEST_F(FloodWatchTest, AnAnswerInTimeIsABeginning) {
  for (int64_t look = 1; look <= 60; ++look) EXPECT_EQ(Look(look * kMiB, look / 15), "") << look;
}

TEST_F(FloodWatchTest, EndsAGigabyteWithoutAPauseWhateverIsAnswered) {
  EXPECT_EQ(Look(5 * kMiB, 1), "");
  EXPECT_EQ(Look(1029 * kMiB, 2), "");
  EXPECT_EQ(Look(1029 * kMiB + 1, 3), "endless");
}

TEST_F(FloodWatchTest, GigabytesWithPausesAreWelcome) {
  for (int64_t look = 1; look <= 40; ++look) {
    EXPECT_EQ(Look(look * 1000 * kMiB, look, look % 2), "") << look;
  }
}

TEST_F(FloodWatchTest, ADescriptorThatIsUsedAgainBeginsAnew) {
  EXPECT_EQ(Look(1, 0), "");
  cookie_ = 2;
  EXPECT_EQ(Look(70 * kMiB, 0), "");
  EXPECT_EQ(Look(134 * kMiB + 1, 0), "unanswered");
}

TEST_F(FloodWatchTest, NamesEachOfSeveral) {
  const auto look = [this](int64_t received, int64_t sent) {
    return watch_.Look({{3, {received, 0, 1}}, {4, {received, sent, 1}}, {5, {received, 0, 1}}});
  };
  EXPECT_TRUE(look(1, 1).empty());
  EXPECT_EQ(look(66 * kMiB, 2).size(), 2);
}

}  // namespace
}  // namespace sluice
