#include "server/request_id.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace sluice {
namespace {

using testing::MatchesRegex;

TEST(RequestId, TheMessageComesBeforeTheMetadata) {
  const RequestId id = ResolveRequestId("mine", {{"x-request-id", "the proxy's"}});
  EXPECT_TRUE(id.status.ok()) << "what is not used is not checked";
  EXPECT_EQ(id.id, "mine");
  EXPECT_EQ(ResolveRequestId("", {{"x-request-id", "proxy-7"}}).id, "proxy-7");
}

TEST(RequestId, MakesANameWhereNoneIsGiven) {
  for (const CallMetadata& metadata : {CallMetadata{}, CallMetadata{{"x-request-id", ""}}}) {
    const RequestId id = ResolveRequestId("", metadata);
    EXPECT_TRUE(id.status.ok());
    EXPECT_THAT(id.id, MatchesRegex("r-[0-9a-f]+"));
  }
}

TEST(RequestId, RefusesWhatLogsCannotHold) {
  const std::string longest(128, 'x');
  EXPECT_TRUE(ResolveRequestId("", {{"x-request-id", longest}}).status.ok());
  const std::string longer = longest + "x";
  for (const std::string& value : {longer, std::string("two words"), std::string("caf\xC3\xA9")}) {
    const RequestId id = ResolveRequestId("", {{"x-request-id", value}});
    EXPECT_EQ(id.status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(id.status.message(),
              "x-request-id metadata must be at most 128 bytes of printable ASCII without spaces");
    EXPECT_THAT(id.id, MatchesRegex("r-[0-9a-f]+")) << "it is logged under some name";
  }
  EXPECT_EQ(ResolveRequestId("a\nb", {}).status.message(),
            "request_id must be at most 128 bytes of printable ASCII without spaces");
  EXPECT_EQ(ResolveRequestId("", {{"x-request-id", "a"}, {"x-request-id", "b"}}).status.message(),
            "x-request-id metadata is there twice");
}

}  // namespace
}  // namespace sluice
