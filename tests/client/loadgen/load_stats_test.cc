#include "client/loadgen/load_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMs = 1'000'000;
// A run that starts at 1 s; measured from 2 s to 4 s.
constexpr LoadWindow kWindow = {1000 * kMs, 2000 * kMs, 4000 * kMs};

RequestRecord Due(int64_t ms, LoadKind kind = LoadKind::kPlain) {
  RequestRecord record;
  record.kind = kind;
  record.due_ns = ms * kMs;
  record.sent_ns = record.due_ns + kMs;
  record.measured = ms >= 2000 && ms < 4000;
  record.prompt_tokens = 10;
  return record;
}

// As GenerateCall does it: a message of `tokens` at each of these times.
void Receive(std::initializer_list<int64_t> times_ms, int64_t tokens, RequestRecord* record,
             LoadStats* stats) {
  for (const int64_t ms : times_ms) {
    const int64_t now_ns = ms * kMs;
    int64_t gap_ns = -1;
    if (record->output_tokens == 0) {
      record->first_token_ns = now_ns;
    } else {
      gap_ns = now_ns - record->last_token_ns;
      record->later_tokens += tokens;
      record->longest_gap_ns = std::max(record->longest_gap_ns, gap_ns);
    }
    record->output_tokens += tokens;
    record->last_token_ns = now_ns;
    stats->OnTokens(*record, now_ns, tokens, gap_ns);
  }
}

void End(int64_t ms, RequestEnd end, RequestRecord* record, LoadStats* stats) {
  record->end_ns = ms * kMs;
  record->end = end;
  stats->OnEnd(*record);
}

TEST(LoadStats, CountsLatenciesFromWhenARequestWasDue) {
  LoadStats stats(kWindow, {});
  RequestRecord record = Due(2100);
  stats.OnDue(record);
  Receive({2150, 2170, 2200}, 2, &record, &stats);
  End(2201, RequestEnd::kAnswered, &record, &stats);
  const LoadTotals totals = stats.Copy();
  EXPECT_EQ(totals.due, 1);
  EXPECT_EQ(totals.answered, 1);
  EXPECT_EQ(totals.first_token.max_ns(), 50 * kMs);
  EXPECT_EQ(totals.end_to_end.max_ns(), 101 * kMs);
  EXPECT_EQ(totals.send_delay.max_ns(), kMs);
  // Gaps of 20 and 30 ms, two tokens after each.
  EXPECT_EQ(totals.message_gap.count(), 2);
  EXPECT_EQ(totals.message_gap.max_ns(), 30 * kMs);
  EXPECT_EQ(totals.inter_token.count(), 4);
  EXPECT_EQ(totals.inter_token.max_ns(), 15 * kMs);
  EXPECT_NEAR(totals.inter_token.mean_ns(), 12.5 * kMs, 1);
}

TEST(LoadStats, MeasuresNothingOfTheWarmUpButCountsItsWorkInTheWindow) {
  LoadStats stats(kWindow, {});
  RequestRecord record = Due(1900);
  stats.OnDue(record);
  Receive({1950, 2050}, 3, &record, &stats);
  End(2060, RequestEnd::kAnswered, &record, &stats);
  const LoadTotals totals = stats.Copy();
  EXPECT_EQ(totals.due, 0);
  EXPECT_EQ(totals.answered, 0);
  EXPECT_EQ(totals.first_token.count() + totals.inter_token.count() + totals.end_to_end.count(), 0);
  EXPECT_EQ(totals.window_due, 0);
  EXPECT_EQ(totals.window_answered, 1);
  EXPECT_EQ(totals.window_served, 1);
  EXPECT_EQ(totals.window_output_tokens, 3);
  EXPECT_EQ(totals.window_prompt_tokens, 0);  // read before
  EXPECT_EQ(totals.seconds[0].due, 1);
  EXPECT_EQ(totals.seconds[0].output_tokens, 3);
  EXPECT_EQ(totals.seconds[1].output_tokens, 3);
  EXPECT_EQ(totals.seconds[1].answered, 1);
}

TEST(LoadStats, CountsWhatEndsInTheDrainAsMeasuredButNotAsThroughput) {
  LoadStats stats(kWindow, {});
  RequestRecord record = Due(3900);
  stats.OnDue(record);
  Receive({3950, 4100}, 1, &record, &stats);
  End(4100, RequestEnd::kAnswered, &record, &stats);
  const LoadTotals totals = stats.Copy();
  EXPECT_EQ(totals.answered, 1);
  EXPECT_EQ(totals.end_to_end.count(), 1);
  EXPECT_EQ(totals.window_due, 1);
  EXPECT_EQ(totals.window_answered, 0);
  EXPECT_EQ(totals.window_output_tokens, 1);
  EXPECT_EQ(totals.window_prompt_tokens, 10);
  EXPECT_EQ(totals.last_end_ns, 4100 * kMs);
}

TEST(LoadStats, KeepsIntendedEndsApartFromErrors) {
  LoadStats stats(kWindow, {});
  RequestRecord cancelled = Due(2100, LoadKind::kCancel);
  RequestRecord refused = Due(2100, LoadKind::kInvalid);
  RequestRecord failed = Due(2100);
  RequestRecord interrupted = Due(2100);
  for (const RequestRecord& record : {cancelled, refused, failed, interrupted}) stats.OnDue(record);
  Receive({2110, 2120}, 1, &cancelled, &stats);
  End(2130, RequestEnd::kCancelled, &cancelled, &stats);
  End(2130, RequestEnd::kRefused, &refused, &stats);
  failed.error = "UNAVAILABLE";
  failed.message = "first";
  End(2130, RequestEnd::kError, &failed, &stats);
  failed.message = "second";
  End(2130, RequestEnd::kError, &failed, &stats);
  End(2130, RequestEnd::kInterrupted, &interrupted, &stats);
  const LoadTotals totals = stats.Copy();
  EXPECT_EQ(totals.due, 4);
  EXPECT_EQ(totals.cancelled, 1);
  EXPECT_EQ(totals.refused, 1);
  EXPECT_EQ(totals.interrupted, 1);
  EXPECT_EQ(totals.errors, 2);
  EXPECT_EQ(totals.errors_by_name.at("UNAVAILABLE").count, 2);
  EXPECT_EQ(totals.errors_by_name.at("UNAVAILABLE").message, "first");
  EXPECT_EQ(totals.seconds[1].errors, 2);
  EXPECT_EQ(totals.window_served, 2);
  EXPECT_EQ(totals.plain, 2);  // the failed ones; what was cancelled does not lower the goodput
  EXPECT_EQ(totals.inter_token.count(), 1);
  EXPECT_EQ(totals.end_to_end.count(), 0);
}

TEST(LoadStats, LeavesTheReadingOfSlowReadersOutOfTheLatencies) {
  LoadStats stats(kWindow, {});
  RequestRecord record = Due(2100, LoadKind::kSlow);
  stats.OnDue(record);
  Receive({2110, 2500, 2900}, 1, &record, &stats);
  End(2900, RequestEnd::kAnswered, &record, &stats);
  const LoadTotals totals = stats.Copy();
  EXPECT_EQ(totals.answered, 1);
  EXPECT_EQ(totals.first_token.count(), 1);
  EXPECT_EQ(totals.inter_token.count() + totals.message_gap.count() + totals.end_to_end.count(), 0);
  EXPECT_EQ(totals.plain, 0);
}

TEST(LoadStats, CountsWhatMetTheObjective) {
  LoadStats stats(kWindow, *ParseObjective("ttft=50ms,itl=10ms"));
  const std::initializer_list<int64_t> fast = {2150, 2160, 2170};
  const std::initializer_list<int64_t> late = {2151, 2152, 2153};
  const std::initializer_list<int64_t> halting = {2110, 2111, 2131};
  for (const auto& times : {fast, late, halting}) {
    RequestRecord record = Due(2100);
    stats.OnDue(record);
    Receive(times, 1, &record, &stats);
    End(2200, RequestEnd::kAnswered, &record, &stats);
  }
  EXPECT_EQ(stats.Copy().plain, 3);
  EXPECT_EQ(stats.Copy().good, 1);
}

TEST(LoadStats, MergesIntoOne) {
  LoadStats stats(kWindow, {});
  RequestRecord record = Due(2100);
  stats.OnDue(record);
  Receive({2150, 2170}, 1, &record, &stats);
  record.error = "INTERNAL";
  record.message = "why";
  End(2201, RequestEnd::kError, &record, &stats);
  LoadTotals sum;
  sum.Merge(stats.Copy());
  sum.Merge(stats.Copy());
  EXPECT_EQ(sum.due, 2);
  EXPECT_EQ(sum.errors, 2);
  EXPECT_EQ(sum.errors_by_name.at("INTERNAL").count, 2);
  EXPECT_EQ(sum.errors_by_name.at("INTERNAL").message, "why");
  EXPECT_EQ(sum.first_token.count(), 2);
  EXPECT_EQ(sum.window_output_tokens, 4);
  EXPECT_EQ(sum.window_messages, 4);
  EXPECT_EQ(sum.seconds[1].output_tokens, 4);
  EXPECT_EQ(sum.last_end_ns, 2201 * kMs);
}

TEST(Objective, ReadsWhatItWrites) {
  const auto objective = ParseObjective("ttft=200ms,itl=1.5ms,gap=1s,e2e=1m");
  ASSERT_TRUE(objective.ok());
  EXPECT_EQ(ToText(*objective), "ttft=200ms,itl=1.5ms,gap=1s,e2e=1m");
  EXPECT_EQ(ToText({}), "");
  for (const char* bad : {"", "ttft", "ttft=", "ttft=5", "ttft=0s", "tpot=5ms", "ttft=5ms,"}) {
    const auto refused = ParseObjective(bad);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_THAT(std::string(ParseObjective("tpot=5ms").status().message()),
              HasSubstr("none of ttft=TIME, itl=TIME, gap=TIME, e2e=TIME"));
}

TEST(Objective, DemandsEachOfItsLimits) {
  RequestRecord record = Due(1000);
  record.first_token_ns = 1100 * kMs;
  record.last_token_ns = 1200 * kMs;
  record.end_ns = 1250 * kMs;
  record.output_tokens = 11;
  record.later_tokens = 10;
  record.longest_gap_ns = 60 * kMs;
  EXPECT_TRUE(Meets(record, {}));
  EXPECT_TRUE(Meets(record, *ParseObjective("ttft=100ms,itl=10ms,gap=60ms,e2e=250ms")));
  for (const char* missed : {"ttft=99ms", "itl=9ms", "gap=59ms", "e2e=249ms"}) {
    EXPECT_FALSE(Meets(record, *ParseObjective(missed))) << missed;
  }
  record.end = RequestEnd::kError;
  EXPECT_FALSE(Meets(record, {}));
}

TEST(Objective, TakesAnAnswerWithoutTokensForAsLateAsItsEnd) {
  RequestRecord record = Due(1000);
  record.end_ns = 1200 * kMs;
  EXPECT_TRUE(Meets(record, *ParseObjective("ttft=200ms,itl=1ms")));
  EXPECT_FALSE(Meets(record, *ParseObjective("ttft=199ms")));
}

}  // namespace
}  // namespace sluice
