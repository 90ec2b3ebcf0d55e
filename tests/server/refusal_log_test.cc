#include "server/refusal_log.h"

#include <gtest/gtest.h>

#include "server/log_limit.h"

namespace sluice {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'000'000);

TEST(LogLimit, LetsSomeLinesASecondThroughAndCountsTheRest) {
  LogLimit limit(2);
  EXPECT_EQ(limit.Take(kStart), 0);
  EXPECT_EQ(limit.Take(kStart + absl::Milliseconds(500)), 0);
  for (int i = 0; i < 7; ++i) {
    EXPECT_FALSE(limit.Take(kStart + absl::Milliseconds(900)).has_value());
  }
  EXPECT_EQ(limit.Take(kStart + absl::Seconds(1)), 7);
  EXPECT_EQ(limit.Take(kStart + absl::Seconds(1)), 0);
  EXPECT_FALSE(limit.Take(kStart + absl::Seconds(1)).has_value());
}

TEST(LogLimit, AClockThatIsSetBackSilencesNothing) {
  LogLimit limit(1);
  EXPECT_EQ(limit.Take(kStart), 0);
  EXPECT_EQ(limit.Take(kStart - absl::Hours(1)), 0);
}

TEST(RefusalLog, SaysWhoWasRefusedWhatAndWhy) {
  Refusal refusal;
  refusal.reason = RefusalReason::kRate;
  refusal.method = CallMethod::kScore;
  refusal.request_id = "me";
  refusal.origin = {"ipv4:192.0.2.1:5", "acme", "ci", "t", "p", "s"};
  refusal.status = absl::ResourceExhaustedError("too often");
  EXPECT_EQ(RefusalLogFields(refusal, 0).Render(LogFormat::kText, "refused"),
            "refused id=me peer=ipv4:192.0.2.1:5 tenant=acme key=ci trace_id=t parent_span_id=p "
            "span_id=s method=Score reason=rate code=RESOURCE_EXHAUSTED message=\"too often\"");
  refusal.origin = {"unix:"};
  EXPECT_EQ(RefusalLogFields(refusal, 9).Render(LogFormat::kText, "refused"),
            "refused id=me peer=unix: method=Score reason=rate code=RESOURCE_EXHAUSTED "
            "message=\"too often\" left_out=9");
}

}  // namespace
}  // namespace sluice
