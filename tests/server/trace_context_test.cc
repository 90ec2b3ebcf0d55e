#include "server/trace_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace sluice {
namespace {

const std::string kTrace = "0af7651916cd43dd8448eb211c80319c";
const std::string kParent = "b7ad6b7169203331";
const std::string kHeader = "00-" + kTrace + "-" + kParent + "-01";

TEST(TraceContext, ReadsTheSpecificationsExample) {
  const auto context = ParseTraceparent(kHeader);
  ASSERT_TRUE(context.has_value());
  EXPECT_EQ(context->trace_id, kTrace);
  EXPECT_EQ(context->parent_span_id, kParent);
  EXPECT_TRUE(ParseTraceparent("00-" + kTrace + "-" + kParent + "-00").has_value());
  // Flags that are not known yet, level 2's random flag among them, are no error.
  EXPECT_TRUE(ParseTraceparent("00-" + kTrace + "-" + kParent + "-ff").has_value());
}

TEST(TraceContext, ReadsTheBeginningOfLaterVersions) {
  EXPECT_TRUE(ParseTraceparent("01" + kHeader.substr(2)).has_value());
  EXPECT_TRUE(ParseTraceparent("cc" + kHeader.substr(2) + "-what-follows").has_value());
  EXPECT_TRUE(ParseTraceparent("cc" + kHeader.substr(2) + "-").has_value());
  EXPECT_FALSE(ParseTraceparent("cc" + kHeader.substr(2) + ".what").has_value());
  EXPECT_FALSE(ParseTraceparent("cc" + kHeader.substr(2) + "1").has_value());
}

TEST(TraceContext, TakesWhatIsInvalidForAbsent) {
  const std::string zeros(32, '0');
  for (const std::string& header : {
           std::string(),
           std::string("00"),
           kHeader.substr(0, 54),                                     // too short
           kHeader + "0",                                             // too long for version 00
           kHeader + "-more",                                         // likewise
           " " + kHeader,                                             // no space belongs there
           kHeader + " ",                                             //
           "ff" + kHeader.substr(2),                                  // the forbidden version
           "0A" + kHeader.substr(2),                                  // upper case
           "0g" + kHeader.substr(2),                                  // no digit
           "00-" + zeros + "-" + kParent + "-01",                     // no trace
           "00-" + kTrace + "-" + zeros.substr(0, 16) + "-01",        // no parent
           "00-0AF7651916CD43DD8448EB211C80319C-" + kParent + "-01",  // upper case
           "00-" + kTrace + "-B7AD6B7169203331-01",                   //
           "00-" + kTrace + "-" + kParent + "-0G",                    //
           "00-" + kTrace + "-" + kParent + "-0A",                    //
           "00_" + kTrace + "-" + kParent + "-01",                    // not a dash
           "00-" + kTrace + "_" + kParent + "-01",                    //
           "00-" + kTrace + "-" + kParent + "_01",                    //
           std::string("00-") + std::string(32, '\0') + "-" + kParent + "-01",
       }) {
    EXPECT_FALSE(ParseTraceparent(header).has_value()) << header;
  }
}

TEST(TraceContext, ReadsTheMetadata) {
  EXPECT_FALSE(ReadTraceContext({}).has_value());
  EXPECT_EQ(ReadTraceContext({{"traceparent", kHeader}})->trace_id, kTrace);
  // Which of two were right?
  EXPECT_FALSE(ReadTraceContext({{"traceparent", kHeader}, {"traceparent", kHeader}}).has_value());
  EXPECT_FALSE(ReadTraceContext({{"tracestate", "a=1"}}).has_value());
}

TEST(TraceContext, MakesSpansOfItsOwn) {
  const std::string span = NewSpanId();
  EXPECT_THAT(span, testing::MatchesRegex("[0-9a-f]+"));
  EXPECT_EQ(span.size(), 16U);
  EXPECT_NE(span, NewSpanId());
}

}  // namespace
}  // namespace sluice
