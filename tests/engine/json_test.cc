#include "engine/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

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

}  // namespace
}  // namespace sluice
