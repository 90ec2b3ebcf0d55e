#include "engine/tokenizer/regex.h"

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/regex_syntax.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

MatchDeadline Later() { return std::chrono::steady_clock::now() + std::chrono::minutes(5); }

std::vector<std::string> Matches(std::string_view pattern, const std::string& text) {
  const auto regex = Regex::Compile(pattern);
  EXPECT_TRUE(regex.ok()) << regex.status();
  std::vector<TextRange> ranges;
  const absl::Status status = regex->FindAll(text, Later(), &ranges);
  EXPECT_TRUE(status.ok()) << status;
  std::vector<std::string> matches;
  matches.reserve(ranges.size());
  for (const TextRange& r : ranges) matches.push_back(text.substr(r.begin, r.end - r.begin));
  return matches;
}

TEST(Regex, FindsWhatOnigurumaFinds) {
  EXPECT_THAT(Matches("^a|a$", "aa\naa"), ElementsAre("a", "a", "a", "a"));
  EXPECT_THAT(Matches(R"(\s)", "\u180E \u0085"), ElementsAre(" ", "\u0085"));
  EXPECT_THAT(Matches(R"([^\S\n]+)", "a \n\tb"), ElementsAre(" ", "\t"));
  EXPECT_THAT(Matches(R"(\d+)", "1\u06632"), ElementsAre("1\u06632"));
  EXPECT_THAT(Matches(R"(\x41|\x{42}|\u0043)", "ABCD"), ElementsAre("A", "B", "C"));
  // Assigned after the Unicode version of PCRE2 10.42.
  EXPECT_THAT(Matches(R"(\p{L}+)", "a\U0002EBF0"), ElementsAre("a\U0002EBF0"));
  EXPECT_THAT(Matches(R"(\P{L}+)", "1\U0002EBF0"), ElementsAre("1"));
}

TEST(Regex, FindsMatchesThatAreFarApart) {
  const std::string gap(10'000, 'x');
  EXPECT_THAT(Matches("a+", gap + "aa" + gap + "a"), ElementsAre("aa", "a"));
  std::string wide;
  for (int i = 0; i < 5'000; ++i) wide += "\u4E2D";
  EXPECT_THAT(Matches("a", wide + "a" + wide), ElementsAre("a"));
  EXPECT_THAT(Matches("a", wide), IsEmpty());
}

TEST(Regex, RefusesWhatMayMeanSomethingElse) {
  const std::vector<std::string_view> patterns = {
      R"(\w)",   R"(\b)",   R"(\h)",   R"(\X)",  R"((a)\1)",  "(?<n>a)", "(?i)a",
      "(?#a)",   "(*UTF)a", "[[:a:]]", "[a&&b]", "[]a]",      R"([\D])", R"([\P{L}])",
      "a{2}+",   "a{2}?",   "a{,2}",   "a{x}",   R"(\p{Cn})", R"(\pL)",  R"(\p{Han})",
      R"(\xFF)", R"(\u12)", R"([\b])", "[a",
  };
  for (const std::string_view pattern : patterns) {
    const auto translated = TranslateRegex(pattern);
    ASSERT_FALSE(translated.ok()) << pattern;
    EXPECT_EQ(translated.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(translated.status().message()), HasSubstr("is not supported"));
  }
}

TEST(Regex, RefusesWhatDoesNotCompileOrMatchesNothing) {
  for (const std::string_view pattern : {"(a", "a**", "[b-a]", "a)", "(?<=a+)b"}) {
    EXPECT_EQ(Regex::Compile(pattern).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_THAT(std::string(Regex::Compile("a*").status().message()), HasSubstr("match nothing"));
  const std::string large(100'000, 'a');
  EXPECT_THAT(std::string(Regex::Compile(large).status().message()), HasSubstr("limit is 65536"));
}

TEST(Regex, GivesUpOnEndlessBacktracking) {
  const auto regex = Regex::Compile("(?:a|aa|a?a)+b");
  ASSERT_TRUE(regex.ok()) << regex.status();
  std::vector<TextRange> ranges;
  const absl::Status status = regex->FindAll(std::string(5'000, 'a') + "cb", Later(), &ranges);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("gives up at byte 0"));
}

TEST(Regex, GivesUpAtTheDeadline) {
  const auto regex = Regex::Compile(R"(\s+$)");
  ASSERT_TRUE(regex.ok()) << regex.status();
  std::vector<TextRange> ranges;
  const MatchDeadline soon = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  const absl::Status status = regex->FindAll(std::string(1 << 20, ' ') + "a", soon, &ranges);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("too long"));
}

}  // namespace
}  // namespace sluice
