#include "server/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>

#include "server/request_log.h"

namespace sluice {
namespace {

TEST(Log, TextQuotesWhatIsNotPlain) {
  const LogFields fields =
      LogFields().Add("plain", "a-b.c:1").Add("words", "a b").Add("n", 5).Add("empty", "");
  EXPECT_EQ(fields.Render(LogFormat::kText, "event"),
            "event plain=a-b.c:1 words=\"a b\" n=5 empty=\"\"");
}

TEST(Log, NoValueCanEndALineOrForgeAField) {
  const std::string hostile = "x\" outcome=stop\n2026 info request id=\x1B[31m\xFF";
  const std::string text = LogFields().Add("id", hostile).Render(LogFormat::kText, "request");
  EXPECT_EQ(text,
            "request id=\"x\\\" outcome=stop\\u000a2026 info request id=\\u001b[31m\\u00ff\"");
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_EQ(LogFields().Add("id", "a=b").Render(LogFormat::kText, "e"), "e id=\"a=b\"");
}

TEST(Log, JsonIsValidJson) {
  const std::string line = "{" +
                           LogFields()
                               .Add("id", "quote\" back\\slash \n")
                               .Add("count", -3)
                               .AddSeconds("seconds", 0.25)
                               .Render(LogFormat::kJson, "request") +
                           "}";
  const nlohmann::json json = nlohmann::json::parse(line);
  EXPECT_EQ(json.at("event"), "request");
  EXPECT_EQ(json.at("id"), "quote\" back\\slash \n");
  EXPECT_EQ(json.at("count"), -3);
  EXPECT_EQ(json.at("seconds"), 0.25);
}

// Once in a while the writer thread is at a line's end when the rest of it goes.
TEST(Log, StopsWhileLinesAreWritten) {
  const int stderr_before = dup(STDERR_FILENO);
  const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  dup2(null, STDERR_FILENO);
  for (int round = 0; round < 1000; ++round) {
    StartLogging(LogFormat::kText, LogLevel::kInfo);
    for (int line = 0; line < 20 + round % 200; ++line) Log(LogLevel::kInfo, "line", LogFields());
    StopLogging();
  }
  dup2(stderr_before, STDERR_FILENO);
  close(null);
  close(stderr_before);
}

TEST(RequestLog, HoldsNumbersAndOutcome) {
  Outcome outcome;
  outcome.request_id = "r1";
  outcome.origin.peer = "ipv4:127.0.0.1:5";
  outcome.prompt_tokens = 3;
  outcome.output_tokens = 4;
  outcome.queue_seconds = 0.001;
  outcome.reason = FinishReason::kStop;
  EXPECT_EQ(RequestLogFields(outcome).Render(LogFormat::kText, "request"),
            "request id=r1 peer=ipv4:127.0.0.1:5 kind=generate prompt_tokens=3 output_tokens=4 "
            "queue_seconds=0.001000 prefill_seconds=0.000000 decode_seconds=0.000000 "
            "first_token_seconds=0.000000 outcome=stop");
}

TEST(RequestLog, SaysWhoseRequestItWasAndWhereItStandsInATrace) {
  Outcome outcome;
  outcome.request_id = "r1";
  outcome.origin = {"unix:", "acme", "ci", "0af7", "b7ad", "5ec0"};
  const std::string line = RequestLogFields(outcome).Render(LogFormat::kText, "request");
  EXPECT_NE(line.find("request id=r1 peer=unix: tenant=acme key=ci trace_id=0af7 "
                      "parent_span_id=b7ad span_id=5ec0 kind=generate "),
            std::string::npos)
      << line;
}

TEST(RequestLog, AnErrorHasCodeAndMessage) {
  Outcome outcome;
  outcome.kind = RequestKind::kScore;
  outcome.status = absl::ResourceExhaustedError("the queue is full");
  const std::string line = RequestLogFields(outcome).Render(LogFormat::kText, "request");
  EXPECT_NE(line.find("kind=score"), std::string::npos) << line;
  EXPECT_NE(line.find("outcome=error code=RESOURCE_EXHAUSTED message=\"the queue is full\""),
            std::string::npos)
      << line;
}

TEST(RequestLog, AClientThatLeftIsNoError) {
  Outcome outcome;
  outcome.status = absl::CancelledError("the client cancelled");
  const std::string line = RequestLogFields(outcome).Render(LogFormat::kText, "request");
  EXPECT_NE(line.find("outcome=cancelled code=CANCELLED"), std::string::npos) << line;
}

}  // namespace
}  // namespace sluice
