// RWKV's world vocabulary: literals, lines, what is refused. Ids of many strings are compared with
// a reference by tokenizer_rwkv_parity_test.py.
#include "engine/tokenizer/rwkv.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/safetensors_writer.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Ids 1 to 256, as the real file has them.
std::string ByteLines() {
  std::string lines;
  for (int byte = 0; byte < 256; ++byte) {
    absl::StrAppend(&lines, byte + 1, absl::StrFormat(" b'\\x%02x' 1\n", byte));
  }
  return lines;
}

// Tokens of two bytes and more, and a part of a character.
std::string SmallFile() {
  return ByteLines() +
         "257 'ab' 2\n258 \"it's\" 4\n259 '中' 3\n260 '中文' 6\n261 b'\\xe4\\xb8' 2\n"
         "262 '\\n\\n' 2\n263 '  ' 2\n264 '😀' 4\n300 '\\u3000' 3\n";
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> Load(const std::string& vocabulary,
                                                      const std::string& config = "",
                                                      const std::string& name = "") {
  const ScratchDirectory directory;
  directory.Write(name.empty() ? "rwkv_vocab_v20230424.txt" : name, vocabulary);
  if (!config.empty()) directory.Write("tokenizer_config.json", config);
  return Tokenizer::LoadDirectory(directory.path());
}

std::unique_ptr<const Tokenizer> Loaded(const std::string& vocabulary,
                                        const std::string& config = "") {
  auto tokenizer = Load(vocabulary, config);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? std::move(*tokenizer) : nullptr;
}

std::vector<int32_t> Encoded(const Tokenizer& tokenizer, const std::string& text) {
  const auto ids = tokenizer.Encode(text, /*add_special_tokens=*/true);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.value_or(std::vector<int32_t>());
}

TEST(Rwkv, KnowsItsVocabulary) {
  const auto tokenizer = Loaded(SmallFile());
  EXPECT_EQ(tokenizer->vocab_size(), 301);
  EXPECT_EQ(tokenizer->IdToToken(257), "ab");
  EXPECT_EQ(tokenizer->IdToToken(261), "\xE4\xB8");
  EXPECT_EQ(tokenizer->IdToToken(299), "");
  EXPECT_EQ(tokenizer->TokenToId("\xE4\xB8"), 261);
  EXPECT_EQ(tokenizer->TokenToId("zz"), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(0));
  EXPECT_FALSE(tokenizer->IsSpecial(257));
}

TEST(Rwkv, TakesTheLongestToken) {
  const auto tokenizer = Loaded(SmallFile());
  EXPECT_THAT(Encoded(*tokenizer, "abit's"), ElementsAre(257, 258));
  EXPECT_THAT(Encoded(*tokenizer, "ait'"), ElementsAre('a' + 1, 'i' + 1, 't' + 1, '\'' + 1));
  EXPECT_THAT(Encoded(*tokenizer, "中文中"), ElementsAre(260, 259));
  EXPECT_THAT(Encoded(*tokenizer, "且"), ElementsAre(261, 0x94 + 1));
  EXPECT_THAT(Encoded(*tokenizer, "\n\n\n   \u3000😀"),
              ElementsAre(262, '\n' + 1, 263, ' ' + 1, 300, 264));
  EXPECT_THAT(Encoded(*tokenizer, ""), IsEmpty());
  EXPECT_THAT(Encoded(*tokenizer, "<|endoftext|>").front(), '<' + 1);
}

TEST(Rwkv, DecodesBytesThatMakeNoCharacter) {
  const auto tokenizer = Loaded(SmallFile());
  EXPECT_EQ(*tokenizer->Decode({261, 0xAD + 1, 257, 0}, true), "中ab");
  EXPECT_EQ(*tokenizer->Decode({261, 257, 261}, true), "\uFFFDab\uFFFD");
  EXPECT_EQ(*tokenizer->Decode({257, 0}, false), "ab<|endoftext|>");
  EXPECT_EQ(tokenizer->Decode({299}, true).status().code(), absl::StatusCode::kOutOfRange);
  StreamDecoder decoder(tokenizer.get());
  EXPECT_EQ(decoder.Push(261), "");
  EXPECT_EQ(decoder.Push(0xAD + 1), "中");
  EXPECT_EQ(decoder.Push(261), "");
  EXPECT_EQ(decoder.Push(257), "\uFFFDab");
  EXPECT_EQ(decoder.Push(0), "");
  EXPECT_EQ(decoder.Push(261), "");
  EXPECT_EQ(decoder.Flush(), "\uFFFD");
}

TEST(Rwkv, NamesTheEndOfTextAsTheConfigurationDoes) {
  const auto by_bos = Loaded(SmallFile(), R"({"bos_token": "<s>", "eos_token": "\n\n"})");
  EXPECT_THAT(Encoded(*by_bos, "ab<s>\n\n"), ElementsAre(257, 0, 262));
  EXPECT_EQ(by_bos->TokenToId("<s>"), 0);
  const auto by_id = Loaded(SmallFile(), R"({"add_bos_token": true, "bos_token": "<end>",
      "added_tokens_decoder": {"0": {"content": "<end>", "special": true},
                               "310": {"content": "<tool>"}}})");
  EXPECT_EQ(by_id->vocab_size(), 311);
  EXPECT_THAT(Encoded(*by_id, "ab<end><tool>"), ElementsAre(0, 257, 0, 310));
  EXPECT_EQ(*by_id->Decode({0, 257, 310, 0}, true), "ab<tool>");
}

TEST(Rwkv, IsFoundUnderTheOtherNameIfTheClassSaysSo) {
  EXPECT_TRUE(Load(SmallFile(), R"({"tokenizer_class": "Rwkv6Tokenizer"})", "vocab.txt").ok());
  EXPECT_EQ(
      Load(SmallFile(), R"({"tokenizer_class": "BertTokenizer"})", "vocab.txt").status().code(),
      absl::StatusCode::kNotFound);
}

TEST(Rwkv, EncodesLongRunsInLinearTime) {
  const std::string longest(1024, 'a');
  const auto tokenizer = Loaded(SmallFile() + "400 '" + longest + "' 1024\n");
  EXPECT_EQ(Encoded(*tokenizer, std::string(1'024'000, 'a')).size(), 1000U);
  EXPECT_EQ(Encoded(*tokenizer, std::string(1'000'000, ' ')).size(), 500'000U);
}

TEST(PythonLiteral, StandsForItsBytes) {
  EXPECT_EQ(*ParsePythonLiteral("'a'"), "a");
  EXPECT_EQ(*ParsePythonLiteral("\"'\""), "'");
  EXPECT_EQ(*ParsePythonLiteral(R"('\'"')"), "'\"");
  EXPECT_EQ(*ParsePythonLiteral(R"("\"")"), "\"");
  EXPECT_EQ(*ParsePythonLiteral(R"('\\n\n\r\t')"), "\\n\n\r\t");
  EXPECT_EQ(*ParsePythonLiteral(R"('\x00\x7f\x80\xe9')"), std::string("\0\x7F\xC2\x80\xC3\xA9", 6));
  EXPECT_EQ(*ParsePythonLiteral(R"(b'\x80\xE9a')"), "\x80\xE9\x61");
  EXPECT_EQ(*ParsePythonLiteral(R"('\u4e2d\U0001f600')"), "中😀");
  EXPECT_EQ(*ParsePythonLiteral("b\"'\""), "'");
  EXPECT_EQ(*ParsePythonLiteral("' '"), " ");
  EXPECT_EQ(*ParsePythonLiteral("''"), "");
}

TEST(PythonLiteral, IsRefusedWithAReason) {
  const auto refuse = [](const std::string& literal, const std::string& why) {
    const auto bytes = ParsePythonLiteral(literal);
    ASSERT_FALSE(bytes.ok()) << literal;
    EXPECT_EQ(bytes.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(bytes.status().message()), HasSubstr(why)) << literal;
  };
  for (const char* literal :
       {"", "b", "'", "b'", "a", "'a", "a'", "'a\"", "r'a'", "bb'a'", "1", "B'a'"}) {
    refuse(literal, "no literal in quotes");
  }
  refuse("'a'b'", "quote inside");
  refuse("'''a'''", "quote inside");
  refuse("'\\'", "ends within an escape");
  refuse("'\\q'", "unknown escape \"\\\\q\"");
  refuse("'\\0'", "unknown escape");
  refuse("b'\\u0041'", "unknown escape");
  refuse("'\\x4'", "fewer than 2 digits");
  refuse("'\\xg1'", "fewer than 2 digits");
  refuse("'\\u12'", "fewer than 4 digits");
  refuse("'\\U0001f60'", "fewer than 8 digits");
  refuse("'\\ud800'", "no character");
  refuse("'\\U00110000'", "no character");
  refuse("'\\UFFFFFFFF'", "no character");
  refuse("b'é'", "beyond ASCII");
  refuse("'\xFF'", "not valid UTF-8");
}

TEST(RwkvFile, IsRefusedWithTheLine) {
  const auto refuse = [](const std::string& lines, const std::string& named) {
    const auto tokenizer = Load(ByteLines() + lines);
    ASSERT_FALSE(tokenizer.ok()) << lines;
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(tokenizer.status().message()),
                AllOf(HasSubstr("rwkv_vocab_v20230424.txt"), HasSubstr(named)));
  };
  refuse("257\n", "line 257 is not of the form INDEX LITERAL LENGTH");
  refuse("257 'ab'\n", "line 257 is not of the form");
  refuse("\n", "line 257 is not of the form");
  refuse("257 'ab' 2\nx 'cd' 2\n", "line 258 has the index \"x\"");
  refuse("0 'ab' 2", "[1, 1000000)");
  refuse("-5 'ab' 2", "has the index \"-5\"");
  refuse("1000000 'ab' 2", "[1, 1000000)");
  refuse("99999999999999999999 'ab' 2", "[1, 1000000)");
  refuse("256 'ab' 2", "has the index 256 of an earlier line");
  refuse("257 'ab' 3", "gives the length \"3\" to a token of 2 bytes");
  refuse("257 'ab' x", "gives the length \"x\"");
  refuse("257 'ab' -2", "gives the length \"-2\"");
  refuse("257 ab 2", "line 257 has no literal in quotes");
  refuse("257 '' 0", "a token of 0 bytes; it must have 1 to 1024");
  refuse("257 '" + std::string(1025, 'a') + "' 1025", "1 to 1024");
  refuse("300 'a' 1", "the indices 98 and 300 have the same token");
}

TEST(RwkvFile, MustHaveEveryByte) {
  EXPECT_THAT(std::string(Load(SmallFile().substr(ByteLines().find("10 "))).status().message()),
              HasSubstr("the byte 0x00 is no token"));
  EXPECT_THAT(std::string(Load("").status().message()), HasSubstr("the byte 0x00 is no token"));
  std::string lines = ByteLines();
  lines.resize(lines.rfind("256 "));
  EXPECT_THAT(std::string(Load(lines).status().message()), HasSubstr("the byte 0xff is no token"));
}

TEST(RwkvFile, MayEndItsLinesAsWindowsDoes) {
  EXPECT_TRUE(Load(ByteLines() + "257 'ab' 2\r\n258 'cd' 2").ok());
}

}  // namespace
}  // namespace sluice
