#include "server/api_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/server/key_entry.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::Not;

ApiKeys Parsed(const std::string& text) {
  auto keys = ApiKeys::Parse(text, "file");
  EXPECT_TRUE(keys.ok()) << keys.status();
  return keys.ok() ? *std::move(keys) : ApiKeys();
}

std::string Error(const std::string& text) {
  const auto keys = ApiKeys::Parse(text, "file");
  if (keys.ok()) return "OK";
  EXPECT_EQ(keys.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(keys.status().message());
}

std::string ErrorOf(const std::string& more) { return Error(KeyFile({KeyEntry("t", "k", more)})); }

TEST(ApiKeys, HashesAsSha256sumDoes) {
  EXPECT_EQ(HashDigits("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(ApiKeys, FindsAKeyByItsHash) {
  std::vector<std::string> entries;
  entries.reserve(100);
  for (int i = 0; i < 100; ++i) {
    entries.push_back(KeyEntry(absl::StrCat("tenant", i), absl::StrCat("key", i)));
  }
  const ApiKeys keys = Parsed(KeyFile(entries));
  ASSERT_EQ(keys.size(), 100U);
  for (int i = 0; i < 100; ++i) {
    const ApiKey* key = keys.Find(absl::StrCat("key", i));
    ASSERT_NE(key, nullptr);
    EXPECT_EQ(key->tenant, absl::StrCat("tenant", i));
  }
  EXPECT_EQ(keys.Find("key100"), nullptr);
  EXPECT_EQ(keys.Find(""), nullptr);
  EXPECT_EQ(keys.Find(HashDigits("key1")), nullptr) << "the file's own content opens nothing";
  EXPECT_EQ(Parsed(KeyFile({})).Find("key"), nullptr);
}

TEST(ApiKeys, AKeyMayDoEverythingUnlessItsEntrySaysOtherwise) {
  const ApiKeys keys = Parsed(KeyFile({KeyEntry("t", "k")}));
  const ApiKey& key = *keys.Find("k");
  for (size_t i = 0; i < kCallMethodNames.size(); ++i) {
    EXPECT_TRUE(key.Allows(static_cast<CallMethod>(i)));
  }
  EXPECT_EQ(key.requests_per_second, 0);
  EXPECT_EQ(key.max_requests, 0);
  EXPECT_EQ(key.limits.max_prompt_tokens, ClientLimits().max_prompt_tokens);
  EXPECT_EQ(key.limits.max_output_tokens, ClientLimits().max_output_tokens);
  EXPECT_EQ(key.not_after, absl::InfiniteFuture());
  EXPECT_EQ(key.name, "");
}

TEST(ApiKeys, ReadsEveryField) {
  const ApiKeys keys = Parsed(KeyFile({KeyEntry(
      "acme", "k",
      R"(,"name":"ci","methods":["Score","GetModel"],"requests_per_second":0.5,"max_requests":64,
         "max_prompt_tokens":8192,"max_output_tokens":4096,"not_after":"2031-05-06T07:08:09Z")")}));
  const ApiKey& key = *keys.Find("k");
  EXPECT_EQ(key.name, "ci");
  EXPECT_EQ(key.tenant, "acme");
  EXPECT_TRUE(key.Allows(CallMethod::kScore));
  EXPECT_TRUE(key.Allows(CallMethod::kGetModel));
  EXPECT_FALSE(key.Allows(CallMethod::kGenerate));
  EXPECT_EQ(key.requests_per_second, 0.5);
  EXPECT_EQ(key.max_requests, 64);
  EXPECT_EQ(key.limits.max_prompt_tokens, 8192);
  EXPECT_EQ(key.limits.max_output_tokens, 4096);
  EXPECT_EQ(absl::FormatTime(key.not_after, absl::UTCTimeZone()), "2031-05-06T07:08:09+00:00");
}

TEST(ApiKeys, NamesThePlaceAndTheLimitOfWhatItRefuses) {
  EXPECT_THAT(Error("{"), HasSubstr("file is not valid JSON"));
  EXPECT_THAT(Error("[]"), HasSubstr("file is not {\"keys\": [...]}"));
  EXPECT_THAT(Error("{}"), HasSubstr("file is not {\"keys\": [...]}"));
  EXPECT_THAT(Error(R"({"keys":[],"tenants":[]})"), HasSubstr("nothing beside it"));
  EXPECT_THAT(Error(R"({"keys":[5]})"), HasSubstr("keys[0] is not an object"));
  EXPECT_THAT(Error(R"({"keys":[{"tenant":"a"}]})"), HasSubstr("keys[0].sha256 must be"));
  EXPECT_THAT(Error(KeyFile({KeyEntry("a", "1"), KeyEntry("b", "2"), KeyEntry("c", "1")})),
              HasSubstr("keys[2].sha256 is there twice"));
  EXPECT_THAT(Error(KeyFile({KeyEntry("a", "")})), HasSubstr("that of an empty key"));
  EXPECT_THAT(Error(KeyFile({KeyEntry("", "k")})), HasSubstr("keys[0]: tenant is \"\""));
  EXPECT_THAT(Error(KeyFile({KeyEntry("two words", "k")})), HasSubstr("1 to 64 of [a-zA-Z0-9._-]"));
  EXPECT_THAT(Error(KeyFile({KeyEntry(std::string(65, 'a'), "k")})), HasSubstr("1 to 64"));
  EXPECT_EQ(Error(KeyFile({KeyEntry(std::string(64, 'a'), "k")})), "OK");
  EXPECT_THAT(Error(KeyFile({KeyEntry("other", "k")})), HasSubstr("metrics call by this name"));
  EXPECT_THAT(ErrorOf(R"(,"name":"a b")"), HasSubstr("keys[0]: name is \"a b\""));
  EXPECT_THAT(ErrorOf(R"(,"tenant":"u")"), HasSubstr("\"tenant\" twice"));
  EXPECT_THAT(ErrorOf(R"(,"methods":[])"), HasSubstr("at least one method"));
  EXPECT_THAT(ErrorOf(R"(,"methods":null)"), HasSubstr("methods is null"));
  EXPECT_THAT(ErrorOf(R"(,"methods":["Generate","Delete"])"), HasSubstr("it may hold Generate,"));
  EXPECT_THAT(ErrorOf(R"(,"methods":[1])"), HasSubstr("it may hold Generate,"));
  EXPECT_THAT(ErrorOf(R"(,"requests_per_second":0)"), HasSubstr("from 0.001 to 1e+06"));
  EXPECT_THAT(ErrorOf(R"(,"requests_per_second":-1)"), HasSubstr("requests_per_second is -1"));
  EXPECT_THAT(ErrorOf(R"(,"requests_per_second":"5")"), HasSubstr("must be a number"));
  EXPECT_THAT(ErrorOf(R"(,"max_requests":0)"), HasSubstr("max_requests is 0"));
  EXPECT_THAT(ErrorOf(R"(,"max_requests":1000001)"), HasSubstr("from 1 to 1000000"));
  EXPECT_THAT(ErrorOf(R"(,"max_prompt_tokens":1.5)"), HasSubstr("max_prompt_tokens is 1.5"));
  EXPECT_THAT(ErrorOf(R"(,"max_output_tokens":16777217)"), HasSubstr("from 1 to 16777216"));
  EXPECT_THAT(ErrorOf(R"(,"not_after":"tomorrow")"), HasSubstr("it must be a time as in"));
  EXPECT_THAT(ErrorOf(R"(,"not_after":5)"), HasSubstr("must be a string"));
}

TEST(ApiKeys, DoesNotRepeatWhatMayBeAKey) {
  for (const std::string& text :
       {KeyFile({KeyEntry("t", "k", R"(,"key":"sl_secret")")}),
        std::string(R"({"keys":[{"tenant":"t","sha256":"sl_secret"}]})"),
        std::string(R"({"keys":["sl_secret"]})"), std::string(R"({"keys":[]} sl_secret)")}) {
    EXPECT_NE(Error(text), "OK");
    EXPECT_THAT(Error(text), Not(HasSubstr("sl_secret")));
  }
  EXPECT_THAT(Error(KeyFile({KeyEntry("t", "k", R"(,"key":"sl_secret")")})),
              HasSubstr("keys[0]: unknown field \"key\""));
}

TEST(ApiKeys, DoesNotRepeatALongNameThatMayBeAKey) {
  const std::string secret = "sl_" + std::string(40, 'x');
  const std::string field = ",\"" + secret + "\":1";
  EXPECT_THAT(ErrorOf(field), HasSubstr("keys[0]: unknown field \"sl_xxxxxxxxxxxxxxxxxxxxx...\""));
  EXPECT_THAT(ErrorOf(field + field), HasSubstr("sl_xxxxxxxxxxxxxxxxxxxxx...\" twice"));
  EXPECT_THAT(ErrorOf(",\"" + secret + "\":NaN"), HasSubstr("sl_xxxxxxxxxxxxxxxxxxxxx...\""));
}

TEST(ApiKeys, HoldsSoManyKeysAndNoMore) {
  std::vector<std::string> entries;
  entries.reserve(ApiKeys::kMaxKeys + 1);
  for (size_t i = 0; i < ApiKeys::kMaxKeys; ++i) {
    entries.push_back(KeyEntry("t", std::to_string(i)));
  }
  const std::string file = KeyFile(entries);
  EXPECT_LT(static_cast<int64_t>(file.size()), ApiKeys::kMaxFileBytes);
  const ApiKeys keys = Parsed(file);
  EXPECT_NE(keys.Find("0"), nullptr);
  EXPECT_NE(keys.Find("9999"), nullptr);
  entries.push_back(KeyEntry("t", "one more"));
  EXPECT_THAT(Error(KeyFile(entries)), HasSubstr("10001 entries; the limit is 10000"));
}

}  // namespace
}  // namespace sluice
