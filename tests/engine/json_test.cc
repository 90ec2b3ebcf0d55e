#include "engine/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace sluice {
namespace {

TEST(TagInfinities, ReplacesTheBareWordAlone) {
  EXPECT_EQ(TagInfinities(R"({"a": [0.0, Infinity], "b":Infinity})"),
            R"({"a": [0.0, {"__float__":"Infinity"}], "b":{"__float__":"Infinity"}})");
  EXPECT_EQ(TagInfinities("Infinity"), R"({"__float__":"Infinity"})");
}

TEST(TagInfinities, LeavesStringsAlone) {
  for (const char* text :
       {"", R"({"Infinity": "to Infinity"})", R"(["\"Infinity", "\\", 1])", R"(["a\)", "Infinit"}) {
    EXPECT_EQ(TagInfinities(text), text);
  }
  EXPECT_EQ(TagInfinities(R"(["\\",Infinity])"), R"(["\\",{"__float__":"Infinity"}])");
}

TEST(TagInfinities, MakesNoJsonOfOtherWords) {
  for (const char* text : {"[-Infinity]", "[NaN]", "[Infinity8]", "[+Infinity]"}) {
    EXPECT_FALSE(ParseJson(TagInfinities(text), "the text").ok()) << text;
  }
  EXPECT_TRUE(ParseJson(TagInfinities("[Infinity]"), "the text").ok());
}

std::string Refusal(const char* text) {
  return std::string(ParseJson(text, "the file").status().message());
}

// Python writes them, and no reader of JSON says more than where it stopped.
TEST(ParseJson, NamesNumbersThatJsonHasNot) {
  EXPECT_EQ(Refusal(R"({"a": 1, "b": NaN})"),
            "the file is not valid JSON at byte 15: JSON has no NaN, the value of \"b\"");
  EXPECT_EQ(Refusal(R"({"a": [0.5, -Infinity]})"),
            "the file is not valid JSON at byte 14: JSON has no -Infinity, the value of \"a\"");
  EXPECT_EQ(Refusal("Infinity"), "the file is not valid JSON at byte 1: JSON has no Infinity");
  EXPECT_EQ(Refusal(R"({"a": Nan})"), "the file is not valid JSON at byte 7");
  EXPECT_EQ(Refusal("{"), "the file is not valid JSON at byte 2");
}

}  // namespace
}  // namespace sluice
