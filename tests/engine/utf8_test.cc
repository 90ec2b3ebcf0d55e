#include "engine/utf8.h"

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace sluice {
namespace {

std::string Lossy(const std::vector<std::string>& pushes) {
  LossyUtf8 lossy;
  std::string text;
  for (const std::string& bytes : pushes) lossy.Push(bytes, &text);
  lossy.Flush(&text);
  return text;
}

const std::string kBroken = "\xEF\xBF\xBD";  // NOLINT(runtime/string)

TEST(Utf8, FindsTheFirstByteThatIsNoCharacter) {
  EXPECT_EQ(FirstInvalidUtf8(""), std::nullopt);
  EXPECT_EQ(FirstInvalidUtf8(std::string("a\0b", 3)), std::nullopt);
  EXPECT_EQ(FirstInvalidUtf8("a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80z"), std::nullopt);
  const std::vector<std::pair<std::string, size_t>> broken = {
      {"\x80", 0},                      // a continuation alone
      {"ab\xFFz", 2},                   // never a byte of UTF-8
      {"\xC0\xAF", 0},                  // overlong, two bytes
      {"\xE0\x80\xAF", 0},              // overlong, three bytes
      {"\xF0\x80\x80\xAF", 0},          // overlong, four bytes
      {"\xED\xA0\x80", 0},              // a surrogate
      {"\xF4\x90\x80\x80", 0},          // above U+10FFFF
      {"\xF5\x80\x80\x80", 0},          // a lead that would be above it
      {"12345678\xC3", 8},              // cut off, behind eight plain bytes
      {"\xE4\xB8\xAD\xE4\xB8", 3},      // cut off after two of three
      {"\xF0\x9F\x98\x80\xF0\x9F", 4},  // cut off after two of four
      {"\xE4\xB8z", 0},                 // interrupted
  };
  for (const auto& [text, at] : broken) EXPECT_EQ(FirstInvalidUtf8(text), at);
}

TEST(Utf8, WritesAndReadsEveryScalarValue) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, &text);
    ASSERT_EQ(FirstInvalidUtf8(text), std::nullopt);
    ASSERT_EQ(Utf8At(text, 0).code_point, c);
    ASSERT_EQ(Utf8At(text, 0).bytes, text.size());
    ASSERT_EQ(Utf8Before("x" + text, text.size() + 1).code_point, c);
  }
}

TEST(LossyUtf8, ReplacesEachMaximalBrokenPartOnce) {
  EXPECT_EQ(Lossy({"a\xC3\xA9"}), "a\xC3\xA9");
  EXPECT_EQ(Lossy({"\xC3"}), kBroken);
  EXPECT_EQ(Lossy({"\xC3z"}), kBroken + "z");
  EXPECT_EQ(Lossy({"\xFF\xFE"}), kBroken + kBroken);
  EXPECT_EQ(Lossy({"\xE4\xB8z"}), kBroken + "z");
  EXPECT_EQ(Lossy({"\xF0\x9F\x98"}), kBroken);
  EXPECT_EQ(Lossy({"\xED\xA0\x80"}), kBroken + kBroken + kBroken);
  EXPECT_EQ(Lossy({"\xC3\xC3\xA9"}), kBroken + "\xC3\xA9");
}

TEST(LossyUtf8, HoldsBackWhatIsIncomplete) {
  LossyUtf8 lossy;
  std::string text;
  lossy.Push("a\xF0\x9F", &text);
  EXPECT_EQ(text, "a");
  lossy.Push("\x98", &text);
  EXPECT_EQ(text, "a");
  lossy.Push("\x80", &text);
  EXPECT_EQ(text, "a\xF0\x9F\x98\x80");
  lossy.Flush(&text);
  EXPECT_EQ(text, "a\xF0\x9F\x98\x80");
}

}  // namespace
}  // namespace sluice
