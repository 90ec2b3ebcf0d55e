// SentencePiece's tokenizer.model: what is refused, and what stands around its ids. The ids
// themselves are compared with the `sentencepiece` package by
// tokenizer_sentencepiece_parity_test.py.
#include "engine/tokenizer/sentencepiece.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "engine/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/safetensors_writer.h"
#include "tests/engine/sentencepiece_writer.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<std::unique_ptr<const Tokenizer>> Load(const std::string& model,
                                                      const std::string& config = "") {
  const ScratchDirectory directory;
  directory.Write("tokenizer.model", model);
  if (!config.empty()) directory.Write("tokenizer_config.json", config);
  return Tokenizer::LoadDirectory(directory.path());
}

std::unique_ptr<const Tokenizer> Loaded(const WrittenSentencePiece& model,
                                        const std::string& config = "") {
  auto tokenizer = Load(SentencePieceBytes(model), config);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? std::move(*tokenizer) : nullptr;
}

std::vector<int32_t> Encoded(const Tokenizer& tokenizer, const std::string& text) {
  const auto ids = tokenizer.Encode(text, /*add_special_tokens=*/true);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.value_or(std::vector<int32_t>());
}

std::string Decoded(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip = true) {
  const auto text = tokenizer.Decode(ids, skip);
  EXPECT_TRUE(text.ok()) << text.status();
  StreamDecoder decoder(&tokenizer, skip);
  std::string streamed;
  for (const int32_t id : ids) streamed += decoder.Push(id);
  EXPECT_EQ(streamed + decoder.Flush(), text.value_or(""));
  return text.value_or("");
}

// "▁a" is 259, "ab" 260, "▁" 261, "a" 262, "b" 263.
WrittenSentencePiece Small() { return WithBytes({"▁a", "ab", "▁", "a", "b"}); }

TEST(SentencePiece, KnowsItsVocabulary) {
  const auto tokenizer = Loaded(Small());
  EXPECT_EQ(tokenizer->vocab_size(), 264);
  EXPECT_EQ(tokenizer->IdToToken(1), "<s>");
  EXPECT_EQ(tokenizer->IdToToken(260), "ab");
  EXPECT_EQ(tokenizer->IdToToken(3 + 0x41), "<0x41>");
  EXPECT_EQ(tokenizer->TokenToId("ab"), 260);
  EXPECT_EQ(tokenizer->TokenToId("</s>"), 2);
  EXPECT_EQ(tokenizer->TokenToId("nope"), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(0));
  EXPECT_TRUE(tokenizer->IsSpecial(2));
  EXPECT_FALSE(tokenizer->IsSpecial(3));
  EXPECT_FALSE(tokenizer->IsSpecial(260));
}

TEST(SentencePiece, MergesTheHighestScoreFirst) {
  const auto tokenizer = Loaded(Small());
  EXPECT_THAT(Encoded(*tokenizer, "ab"), ElementsAre(1, 259, 263));
  EXPECT_THAT(Encoded(*tokenizer, "bab"), ElementsAre(1, 261, 263, 260));
  EXPECT_THAT(Encoded(*tokenizer, ""), ElementsAre(1));
  EXPECT_THAT(*tokenizer->Encode("ab", /*add_special_tokens=*/false), ElementsAre(259, 263));
}

TEST(SentencePiece, TakesTheHighestSumOfAUnigramModel) {
  WrittenSentencePiece model;
  model.model_type = 1;
  model.pieces.insert(model.pieces.end(),
                      {{"▁", -2}, {"ab", -3}, {"a", -1}, {"b", -1}, {"bb", -5}, {"▁X", 0, 4}});
  const auto tokenizer = Loaded(model);
  EXPECT_THAT(Encoded(*tokenizer, "abb"), ElementsAre(1, 3, 5, 6, 6));
  // A run without pieces is one unknown token; a user-defined piece beats every score.
  EXPECT_THAT(Encoded(*tokenizer, "axyb"), ElementsAre(1, 3, 5, 0, 6));
  EXPECT_THAT(Encoded(*tokenizer, "Xa"), ElementsAre(1, 8, 5));
  EXPECT_THAT(Encoded(*tokenizer, "▁Xa"), ElementsAre(1, 3, 8, 5));
}

TEST(SentencePiece, FallsBackToBytes) {
  const auto tokenizer = Loaded(Small());
  EXPECT_THAT(Encoded(*tokenizer, "aé"), ElementsAre(1, 259, 3 + 0xC3, 3 + 0xA9));
  EXPECT_EQ(Decoded(*tokenizer, {1, 259, 3 + 0xC3, 3 + 0xA9}), "aé");
}

// As SentencePiece: one U+FFFD for each byte that is part of no character.
TEST(SentencePiece, ReplacesBrokenBytes) {
  const auto tokenizer = Loaded(Small());
  EXPECT_EQ(Decoded(*tokenizer, {3 + 0xE4, 3 + 0xB8, 262}), "\uFFFD\uFFFDa");
  EXPECT_EQ(Decoded(*tokenizer, {3 + 0xE4, 3 + 0xB8, 3 + 0xAD, 3 + 0xE4}), "中\uFFFD");
  EXPECT_EQ(Decoded(*tokenizer, {3 + 0xF0, 3 + 0x9F, 3 + 0x98}), "\uFFFD\uFFFD\uFFFD");
  StreamDecoder decoder(tokenizer.get());
  EXPECT_EQ(decoder.Push(3 + 0xE4), "");
  EXPECT_EQ(decoder.Push(3 + 0xB8), "");
  EXPECT_EQ(decoder.Push(3 + 0xAD), "中");
  EXPECT_EQ(decoder.Push(3 + 0xE4), "");
  EXPECT_EQ(decoder.Flush(), "\uFFFD");
}

TEST(SentencePiece, TakesTheSpaceInFrontOffAgain) {
  const auto tokenizer = Loaded(Small());
  EXPECT_EQ(Decoded(*tokenizer, {1, 259, 259, 2}), "a a");
  EXPECT_EQ(Decoded(*tokenizer, {261, 261, 262}), " a");
  EXPECT_EQ(Decoded(*tokenizer, {262, 261}), "a ");
  EXPECT_EQ(Decoded(*tokenizer, {1, 259, 2}, /*skip=*/false), "<s> a</s>");
  WrittenSentencePiece model = Small();
  model.remove_extra_whitespaces = true;
  EXPECT_EQ(Decoded(*Loaded(model), {261, 261, 259, 259}), "a a");
  EXPECT_THAT(Encoded(*Loaded(model), "  a  b "), ElementsAre(1, 259, 261, 263));
  model.remove_extra_whitespaces = false;
  model.add_dummy_prefix = false;
  EXPECT_EQ(Decoded(*Loaded(model), {261, 262}), " a");
  EXPECT_THAT(Encoded(*Loaded(model), "a"), ElementsAre(1, 262));
}

TEST(SentencePiece, CutsTextAtSpecialTokens) {
  EXPECT_THAT(Encoded(*Loaded(Small()), "a<s>a</s> b"),
              ElementsAre(1, 259, 1, 259, 2, 261, 261, 263));
  // Without `legacy` only what begins the text has a space put in front.
  const auto tokenizer =
      Loaded(Small(), R"({"legacy": false, "tokenizer_class": "LlamaTokenizer"})");
  EXPECT_THAT(Encoded(*tokenizer, "a<s>a</s> b"), ElementsAre(1, 259, 1, 262, 2, 261, 263));
  EXPECT_THAT(Encoded(*tokenizer, "<s>a"), ElementsAre(1, 1, 262));
  const auto bare = Loaded(Small(), R"({"legacy": false, "add_prefix_space": false})");
  EXPECT_THAT(Encoded(*bare, "a"), ElementsAre(1, 262));
}

TEST(SentencePiece, ReadsTheConfigurationBesideIt) {
  const auto tokenizer = Loaded(Small(), R"({
    "add_bos_token": false, "add_eos_token": true, "chat_template": "x", "legacy": null,
    "bos_token": null, "eos_token": {"__type": "AddedToken", "content": "<e>", "special": true},
    "added_tokens_decoder": {"264": {"content": "<e>", "special": true},
                             "266": {"content": "<tool>", "rstrip": true}, "1": {"content": "<s>"}}})");
  EXPECT_EQ(tokenizer->vocab_size(), 267);
  EXPECT_EQ(tokenizer->IdToToken(265), "");
  EXPECT_EQ(tokenizer->TokenToId("<e>"), 264);
  EXPECT_TRUE(tokenizer->IsSpecial(264));
  EXPECT_FALSE(tokenizer->IsSpecial(266));
  EXPECT_THAT(Encoded(*tokenizer, "a<tool> a<e>"), ElementsAre(259, 266, 259, 264, 264));
  EXPECT_EQ(Decoded(*tokenizer, {259, 266, 259, 264}), "a<tool> a");
  EXPECT_EQ(tokenizer->Decode({265}, true).status().code(), absl::StatusCode::kOutOfRange);
}

TEST(SentencePiece, EncodesLongRunsInNearlyLinearTime) {
  // A quadratic merge would need hours for it.
  const auto ids = Encoded(*Loaded(Small()), std::string(2'000'000, 'a') + "b");
  EXPECT_EQ(ids.size(), 2'000'001U);
  EXPECT_EQ(ids.back(), 260);
}

struct ConfigRefusal {
  const char* config;
  const char* named;  // what the message must name
};

constexpr ConfigRefusal kConfigRefusals[] = {
    {R"({"tokenizer_class": "T5Tokenizer"})", "tokenizer_class is \"T5Tokenizer\""},
    {R"({"bos_token": "<begin>"})", "bos_token is \"<begin>\""},
    {R"({"add_bos_token": 1})", "add_bos_token is 1"},
    {R"({"add_eos_token": true, "eos_token": "<e>"})", "eos_token is \"<e>\""},
    {R"({"eos_token": {"special": true}})", "eos_token"},
    {R"({"added_tokens_decoder": []})", "added_tokens_decoder"},
    {R"({"added_tokens_decoder": {"x": {"content": "a"}}})", "the key \"x\""},
    {R"({"added_tokens_decoder": {"-1": {"content": "a"}}})", "the key \"-1\""},
    {R"({"added_tokens_decoder": {"1000000": {"content": "a"}}})", "ids lie in [0, 1000000)"},
    {R"({"added_tokens_decoder": {"259": {"content": "b"}}})", "the vocabulary has"},
    {R"({"added_tokens_decoder": {"300": {"content": ""}}})", "1 to 1024"},
    {R"({"added_tokens_decoder": {"300": {"content": "x"}, "301": {"content": "x"}}})", "twice"},
    {R"({"added_tokens_decoder": {"300": {"content": "x", "bold": true}}})", "bold"},
    {"[]", "tokenizer_config.json"},
    {"{", "tokenizer_config.json"},
};

TEST(SentencePiece, RefusesAConfigurationByName) {
  for (const ConfigRefusal& refusal : kConfigRefusals) {
    const auto tokenizer = Load(SentencePieceBytes(Small()), refusal.config);
    ASSERT_FALSE(tokenizer.ok()) << refusal.config;
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(tokenizer.status().message()),
                AllOf(HasSubstr("tokenizer_config.json"), HasSubstr(refusal.named)));
  }
}

void ExpectRefusal(const std::string& model, const std::string& named) {
  const auto tokenizer = Load(model);
  ASSERT_FALSE(tokenizer.ok()) << named;
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(tokenizer.status().message()),
              AllOf(HasSubstr("tokenizer.model"), HasSubstr(named)));
}

void ExpectPieceRefusal(const WrittenPiece& piece, const std::string& named) {
  WrittenSentencePiece model;
  model.pieces.push_back(piece);
  ExpectRefusal(SentencePieceBytes(model), named);
}

TEST(SentencePiece, RefusesPiecesByName) {
  ExpectPieceRefusal({"", 0, 1}, "pieces[3]: piece has 0 bytes");
  ExpectPieceRefusal({std::string(1025, 'a'), 0, 1}, "1 to 1024");
  ExpectPieceRefusal({"\xFF", 0, 1}, "pieces[3]: piece is not valid UTF-8");
  ExpectPieceRefusal({"a", std::numeric_limits<float>::quiet_NaN(), 1}, "pieces[3]: score");
  ExpectPieceRefusal({"a", std::numeric_limits<float>::infinity(), 1}, "pieces[3]: score");
  ExpectPieceRefusal({"a", 0, 5}, "pieces[3]: type is 5");
  ExpectPieceRefusal({"a", 0, 7}, "type is 7");
  ExpectPieceRefusal({"a", 0, 2}, "has 2 pieces of the type 2 (unknown)");
  ExpectPieceRefusal({"<s>", 0, 1}, "\"<s>\" is there twice");
  ExpectPieceRefusal({"<0x41>", 0, 6}, "though byte_fallback is false");
}

TEST(SentencePiece, RefusesModelsByName) {
  WrittenSentencePiece model;
  model.model_type = 4;
  ExpectRefusal(SentencePieceBytes(model), "trainer_spec: model_type is 4");
  model = WrittenSentencePiece();
  model.pieces.clear();
  ExpectRefusal(SentencePieceBytes(model), "has 0 pieces of the type 2 (unknown)");
  model = Small();
  model.pieces.erase(model.pieces.begin() + 20);
  ExpectRefusal(SentencePieceBytes(model), "255 of the 256 bytes");
  model = Small();
  model.pieces[20].text = "<0x1g>";
  ExpectRefusal(SentencePieceBytes(model), "is no byte");
  model = Small();
  model.more = WireBytes(5, WireBytes(2, "xxxxx"));
  ExpectRefusal(SentencePieceBytes(model), "denormalizer_spec: precompiled_charsmap");
  model.more = WireNumber(1, 5);
  ExpectRefusal(SentencePieceBytes(model), "the field 1 has the type 0, not 2");
  model.more = WireBytes(3, WireFloat(3, 1));
  ExpectRefusal(SentencePieceBytes(model), "normalizer_spec: the field 3 has the type 5, not 0");
  ExpectRefusal("this is no model", "is no protocol buffer");
}

TEST(SentencePiece, RefusesFilesThatAreCutOff) {
  const std::string whole = SentencePieceBytes(Small());
  for (size_t size = 0; size < whole.size(); size += 11) {
    EXPECT_FALSE(Load(whole.substr(0, size)).ok()) << size;
  }
  EXPECT_TRUE(Load(whole + WireNumber(200, 1) + WireBytes(4, "self test")).ok());
}

std::string LittleEndian(uint32_t number) {
  std::string bytes;
  for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(number >> shift));
  return bytes;
}

std::string Charsmap(const std::vector<uint32_t>& units, const std::string& texts) {
  std::string bytes = LittleEndian(static_cast<uint32_t>(4 * units.size()));
  for (const uint32_t unit : units) bytes += LittleEndian(unit);
  return bytes + texts;
}

// A double array with the one rule "b" to `offset`: the root's child is the unit 'b', whose value
// is the unit beside it.
std::vector<uint32_t> OneRule(uint32_t offset) {
  std::vector<uint32_t> units(256, 0);
  units['b'] = 1U << 10 | 1U << 8 | 'b';
  units['b' ^ 1] = 1U << 31 | offset;
  return units;
}

TEST(SentencePiece, AppliesTheRulesOfTheFile) {
  WrittenSentencePiece model = Small();
  model.charsmap = Charsmap(OneRule(0), std::string("a  a\0", 5));
  EXPECT_THAT(Encoded(*Loaded(model), "b"), ElementsAre(1, 259, 261, 259));
  model.remove_extra_whitespaces = true;
  EXPECT_THAT(Encoded(*Loaded(model), "b"), ElementsAre(1, 259, 261, 259));
  model.charsmap = Charsmap(OneRule(4), std::string("a  a\0", 5));
  EXPECT_THAT(Encoded(*Loaded(model), "bab"), ElementsAre(1, 259));
}

TEST(SentencePiece, RefusesBrokenRules) {
  const auto refuse = [](const std::string& charsmap, const std::string& named) {
    WrittenSentencePiece model;
    model.charsmap = charsmap;
    ExpectRefusal(SentencePieceBytes(model), "precompiled_charsmap " + named);
  };
  refuse("abc", "is shorter");
  refuse(Charsmap({}, std::string(1, '\0')), "has an array of 0 bytes");
  refuse(Charsmap({0, 0}, ""), "has an array of 8 bytes");
  refuse(std::string("\x03\0\0\0abcd\0", 9), "has an array of 3 bytes");
  refuse(std::string("\xFF\xFF\xFF\xFF\0", 5), "has an array of 4294967295 bytes");
  refuse(Charsmap({0}, "a"), "has no zero byte");
  refuse(Charsmap({0}, std::string("\xFF\0", 2)), "has text that is not valid UTF-8");
  refuse(Charsmap({0}, std::string(257, 'a') + std::string(1, '\0')), "makes a text of 257 bytes");
  refuse(Charsmap(OneRule(2), std::string("a\0", 2)), "has the offset 2");
  refuse(Charsmap(OneRule(1), std::string("\xC3\xA9\0", 3)), "has the offset 1");
}

// What SentencePiece itself reads beyond the array for.
TEST(SentencePiece, NeverLeavesTheArrayOfRules) {
  for (const uint32_t unit : {0xFFFFFFFFU & ~(1U << 31), 1U << 30 | 1U << 9, 1U << 8 | 'b'}) {
    WrittenSentencePiece model = Small();
    std::vector<uint32_t> units(256, unit);
    model.charsmap = Charsmap(units, std::string("a\0", 2));
    const auto tokenizer = Loaded(model);
    EXPECT_THAT(Encoded(*tokenizer, "bbb"), ElementsAre(1, 261, 263, 263, 263));
    units[0] = unit;
    units['b'] = 1U << 10 | 1U << 8 | 'b';
    model.charsmap = Charsmap(units, std::string("a\0", 2));
    EXPECT_EQ(Encoded(*Loaded(model), "bbb").size(), 5U);
  }
}

}  // namespace
}  // namespace sluice
