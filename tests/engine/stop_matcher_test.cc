#include "engine/stop_matcher.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sluice {
namespace {

// All that comes through when `text` arrives in pieces of `size` bytes.
std::string Through(StopMatcher* matcher, const std::string& text, size_t size) {
  std::string passed;
  for (size_t at = 0; at < text.size(); at += size) passed += matcher->Push(text.substr(at, size));
  return passed + matcher->Flush();
}

TEST(StopMatcher, LetsEverythingThroughWithoutStops) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Push("all of it"), "all of it");
  EXPECT_FALSE(matcher.matched().has_value());
}

TEST(StopMatcher, HoldsBackWhatMayBeginAStop) {
  StopMatcher matcher({"\n\n"});
  EXPECT_EQ(matcher.Push("one\n"), "one");
  EXPECT_EQ(matcher.Push("two"), "\ntwo");
  EXPECT_EQ(matcher.Push("\n"), "");
  EXPECT_EQ(matcher.Flush(), "\n");
}

TEST(StopMatcher, EndsBeforeTheStopAndLetsNothingMoreThrough) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.Push("text EN"), "text ");
  EXPECT_EQ(matcher.Push("D and more"), "");
  EXPECT_EQ(matcher.matched(), "END");
  EXPECT_EQ(matcher.Push("nothing"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcher, GivesTheSameForAnyPieces) {
  const std::vector<std::vector<std::string>> sets = {
      {"abc", "b"}, {"aab"}, {"bcd", "abcd"}, {"aa", "aaa"}, {"abab", "ba"}};
  for (const std::string text : {"xaababcdab", "aaaa", "abcabcd", "xyz", "ababab"}) {
    for (const auto& stops : sets) {
      StopMatcher by_byte(stops);
      const std::string expected = Through(&by_byte, text, 1);
      for (size_t size = 2; size <= text.size(); ++size) {
        StopMatcher matcher(stops);
        EXPECT_EQ(Through(&matcher, text, size), expected) << text << " in pieces of " << size;
        EXPECT_EQ(matcher.matched(), by_byte.matched());
      }
    }
  }
}

TEST(StopMatcher, TakesTheLongestOfThoseThatAreCompleteAtTheSameByte) {
  StopMatcher matcher({"d", "bcd"});
  EXPECT_EQ(matcher.Push("abcd"), "a");
  EXPECT_EQ(matcher.matched(), "bcd");
}

}  // namespace
}  // namespace sluice
