#include "engine/tokenizer.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sluice {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Merges "ab" and "abc"; bytes fall back where they have tokens.
json SmallFile() {
  return json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true},
      {"id": 9, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true},
      {"id": 10, "content": "<t>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": false}],
    "normalizer": null, "pre_tokenizer": null,
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [9], "tokens": ["<s>"]}}},
    "decoder": {"type": "ByteFallback"},
    "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
      "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
      "byte_fallback": true, "ignore_merges": false,
      "vocab": {"<unk>": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "abc": 5, "<0xC3>": 6, "<0xA9>": 7,
                "<0x+9>": 8},
      "merges": [["a", "b"], ["ab", "c"]]}})");
}

// `file` with `value` at `pointer`.
json With(json file, const char* pointer, json value) {
  file[json::json_pointer(pointer)] = std::move(value);
  return file;
}

json With(const char* pointer, json value) { return With(SmallFile(), pointer, std::move(value)); }

std::unique_ptr<const Tokenizer> Parsed(const json& file) {
  auto tokenizer = Tokenizer::Parse(file.dump());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? std::move(*tokenizer) : nullptr;
}

std::vector<int32_t> Encoded(const Tokenizer& tokenizer, const std::string& text) {
  const auto ids = tokenizer.Encode(text, /*add_special_tokens=*/false);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.value_or(std::vector<int32_t>());
}

std::string Decoded(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  const auto text = tokenizer.Decode(ids, /*skip_special_tokens=*/false);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.value_or("");
}

TEST(Tokenizer, KnowsItsVocabulary) {
  const auto tokenizer = Parsed(SmallFile());
  EXPECT_EQ(tokenizer->vocab_size(), 11);
  EXPECT_EQ(tokenizer->IdToToken(5), "abc");
  EXPECT_EQ(tokenizer->IdToToken(9), "<s>");
  EXPECT_EQ(tokenizer->IdToToken(11), "");
  EXPECT_EQ(tokenizer->IdToToken(-1), "");
  EXPECT_EQ(tokenizer->TokenToId("abc"), 5);
  EXPECT_EQ(tokenizer->TokenToId("<s>"), 9);
  EXPECT_EQ(tokenizer->TokenToId("zzz"), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(9));
  EXPECT_FALSE(tokenizer->IsSpecial(10));
  EXPECT_FALSE(tokenizer->IsSpecial(5));
  EXPECT_FALSE(tokenizer->IsSpecial(99));
}

TEST(Tokenizer, MergesAndAddsSpecialTokensWhenAsked) {
  const auto tokenizer = Parsed(SmallFile());
  EXPECT_THAT(Encoded(*tokenizer, "abcab<s>a"), ElementsAre(5, 4, 9, 1));
  EXPECT_THAT(*tokenizer->Encode("ab", /*add_special_tokens=*/true), ElementsAre(9, 4));
  EXPECT_THAT(*tokenizer->Encode("", /*add_special_tokens=*/true), ElementsAre(9));
  EXPECT_THAT(Encoded(*tokenizer, ""), IsEmpty());
}

// The expected ids are those of the tokenizers package.
TEST(Tokenizer, GivesUnknownsAndBytesInTheOrderOfHuggingFace) {
  const auto tokenizer = Parsed(SmallFile());
  EXPECT_THAT(Encoded(*tokenizer, "xy\u00E9"), ElementsAre(0, 6, 7, 0));
  EXPECT_THAT(Encoded(*tokenizer, "ax\u00E9b"), ElementsAre(1, 6, 7, 0, 2));
  EXPECT_THAT(Encoded(*tokenizer, "xyab"), ElementsAre(0, 0, 4));
  EXPECT_THAT(Encoded(*Parsed(With("/model/fuse_unk", nullptr)), "xy"), ElementsAre(0, 0));
  const auto fused = Parsed(With("/model/fuse_unk", true));
  EXPECT_THAT(Encoded(*fused, "xy\u00E9"), ElementsAre(6, 7, 0));
  EXPECT_THAT(Encoded(*fused, "xyab"), ElementsAre(0, 4));
  json file = With("/model/byte_fallback", false);
  file["model"]["unk_token"] = nullptr;
  EXPECT_THAT(Encoded(*Parsed(file), "axb"), ElementsAre(4));
}

TEST(Tokenizer, ReadsMergesAsTextToo) {
  json file = With("/model/merges", json::array({"#version: 0.2", "a b", "ab c"}));
  EXPECT_THAT(Encoded(*Parsed(file), "abc"), ElementsAre(5));
}

TEST(Tokenizer, IgnoresMergesForWholePieces) {
  json file = With("/model/merges", json::array({json::array({"a", "b"})}));
  EXPECT_THAT(Encoded(*Parsed(file), "abc"), ElementsAre(4, 3));
  file["model"]["ignore_merges"] = true;
  EXPECT_THAT(Encoded(*Parsed(file), "abc"), ElementsAre(5));
  EXPECT_THAT(Encoded(*Parsed(file), "abca"), ElementsAre(4, 3, 1));
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const auto ids = Parsed(SmallFile())->Encode("ab\xC3(", /*add_special_tokens=*/false);
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ids.status().message()), HasSubstr("at byte 2"));
}

TEST(Tokenizer, RefusesToDecodeUnknownIds) {
  const auto tokenizer = Parsed(SmallFile());
  for (const int32_t id : {11, -1, INT32_MAX, INT32_MIN}) {
    const auto text = tokenizer->Decode({1, id}, /*skip_special_tokens=*/true);
    EXPECT_EQ(text.status().code(), absl::StatusCode::kOutOfRange);
    EXPECT_THAT(std::string(text.status().message()), HasSubstr(std::to_string(id)));
  }
}

TEST(Tokenizer, SkipsSpecialTokensWhenAsked) {
  const auto tokenizer = Parsed(SmallFile());
  EXPECT_EQ(*tokenizer->Decode({9, 1, 10}, /*skip_special_tokens=*/true), "a<t>");
  EXPECT_EQ(*tokenizer->Decode({9, 1, 10}, /*skip_special_tokens=*/false), "<s>a<t>");
}

// As the tokenizers package: one broken byte breaks the whole run of bytes.
TEST(Tokenizer, ReplacesBrokenBytes) {
  const auto tokenizer = Parsed(SmallFile());
  EXPECT_EQ(Decoded(*tokenizer, {6, 7}), "\u00E9");
  EXPECT_EQ(Decoded(*tokenizer, {6}), "\uFFFD");
  EXPECT_EQ(Decoded(*tokenizer, {6, 7, 6}), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(Decoded(*tokenizer, {6, 7, 1, 7}), "\u00E9a\uFFFD");
  EXPECT_EQ(Decoded(*tokenizer, {8}), "\t");
}

TEST(Tokenizer, JoinsTokensWithSpacesWithoutADecoder) {
  EXPECT_EQ(Decoded(*Parsed(With("/decoder", nullptr)), {1, 2, 4}), "a b ab");
}

TEST(Tokenizer, EncodesLongRunsInNearlyLinearTime) {
  // A quadratic merge would need hours for it.
  const auto ids = Encoded(*Parsed(SmallFile()), std::string(2'000'000, 'a') + "b");
  EXPECT_EQ(ids.size(), 2'000'000U);
  EXPECT_EQ(ids.back(), 4);
}

TEST(Tokenizer, MayBeUsedByThreadsAtOnce) {
  const json pre_tokenizer = json::parse(R"({"type": "Split", "pattern": {"Regex": "a+|[^a]+"},
                                             "behavior": "Isolated", "invert": false})");
  const auto tokenizer = Parsed(With("/pre_tokenizer", pre_tokenizer));
  std::string text;
  for (int i = 0; i < 500; ++i) text += "abcaab\u00E9x";
  const std::vector<int32_t> expected = Encoded(*tokenizer, text);
  std::vector<std::vector<int32_t>> results(4);
  std::vector<std::thread> threads;
  threads.reserve(results.size());
  for (auto& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) result = Encoded(*tokenizer, text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST(StreamDecoder, HoldsBackBytesUntilTheirRunEnds) {
  const auto tokenizer = Parsed(SmallFile());
  StreamDecoder decoder(tokenizer.get());
  EXPECT_EQ(decoder.Push(4), "ab");
  EXPECT_EQ(decoder.Push(6), "");
  EXPECT_EQ(decoder.Push(7), "");
  EXPECT_EQ(decoder.Push(1), "\u00E9a");
  EXPECT_EQ(decoder.Push(6), "");
  EXPECT_EQ(decoder.Flush(), "\uFFFD");
  EXPECT_EQ(decoder.Flush(), "");
}

TEST(StreamDecoder, HoldsBackBytesUntilTheirCharacterIsComplete) {
  json file =
      With("/model/vocab", json::parse(R"({"<unk>": 0, "\u00C3": 1, "\u00A9": 2, "a": 3})"));
  file["model"]["merges"] = json::array();
  file["added_tokens"] = json::array();
  file["post_processor"] = nullptr;
  file["decoder"] = {{"type", "ByteLevel"}};
  const auto tokenizer = Parsed(file);
  StreamDecoder decoder(tokenizer.get());
  EXPECT_EQ(decoder.Push(1), "");
  EXPECT_EQ(decoder.Push(2), "\u00E9");
  EXPECT_EQ(decoder.Push(1), "");
  EXPECT_EQ(decoder.Push(3), "\uFFFDa");
  EXPECT_EQ(decoder.Push(1), "");
  EXPECT_EQ(decoder.Flush(), "\uFFFD");
}

TEST(StreamDecoder, SkipsSpecialAndUnknownIdsAndIsAsNewAfterFlush) {
  json decode = json::parse(R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
      {"type": "Strip", "content": "a", "start": 1, "stop": 0}]})");
  const auto tokenizer = Parsed(With("/decoder", decode));
  StreamDecoder decoder(tokenizer.get());
  EXPECT_EQ(decoder.Push(9), "");
  EXPECT_EQ(decoder.Push(99), "");
  EXPECT_EQ(decoder.Push(-5), "");
  EXPECT_EQ(decoder.Push(1), "");
  EXPECT_EQ(decoder.Push(1), "a");
  EXPECT_EQ(decoder.Flush(), "");
  StreamDecoder moved = std::move(decoder);
  EXPECT_EQ(moved.Push(1), "");
  EXPECT_EQ(moved.Push(2), "b");
  StreamDecoder all(tokenizer.get(), /*skip_special_tokens=*/false);
  EXPECT_EQ(all.Push(9), "<s>");
}

struct Refusal {
  const char* pointer;
  const char* value;
  const char* named;  // what the message must name
};

class TokenizerRefusal : public testing::TestWithParam<Refusal> {};

TEST_P(TokenizerRefusal, NamesWhatItDoesNotDo) {
  const Refusal& refusal = GetParam();
  const auto tokenizer = Tokenizer::Parse(With(refusal.pointer, json::parse(refusal.value)).dump());
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(tokenizer.status().message()),
              AllOf(HasSubstr("tokenizer.json"), HasSubstr(refusal.named)));
}

constexpr Refusal kFileRefusals[] = {
    {"/version", R"("2.0")", "version"},
    {"/truncation", R"({"max_length": 5})", "truncation"},
    {"/padding", "{}", "padding"},
    {"/new_part", "1", "new_part"},
    {"/model", "null", "model"},
    {"/model/type", R"("Unigram")", "Unigram"},
    {"/model/dropout", "0.1", "dropout"},
    {"/model/continuing_subword_prefix", R"("##")", "continuing_subword_prefix"},
    {"/model/end_of_word_suffix", R"("</w>")", "end_of_word_suffix"},
    {"/model/unk_token", R"("nope")", "unk_token"},
    {"/model/later", "1", "later"},
    {"/model/vocab", "[]", "vocab"},
    {"/model/vocab/a", "-1", "model.vocab: a is -1"},
    {"/model/vocab/a", "2", "another token has the same id"},
    {"/model/vocab/a", "99999999", "16777216"},
    {"/model/vocab/a", R"("x")", "model.vocab"},
    {"/model/merges", "{}", "merges"},
    {"/model/merges/0", R"("a b c")", "model.merges[0]"},
    {"/model/merges/0", R"(["a"])", "model.merges[0]"},
    {"/model/merges/1", R"(["a", "z"])", "model.merges[1] needs the token \"z\""},
    {"/model/merges/1", R"(["b", "a"])", "model.merges[1] needs the token \"ba\""},
    {"/added_tokens", "{}", "added_tokens"},
    {"/added_tokens/1/id", "17", "added_tokens[1]: id is 17"},
    {"/added_tokens/0/id", "1", "the id 0"},
    {"/added_tokens/1/content", R"("")", "added_tokens[1]: content"},
    {"/added_tokens/2/content", R"("<s>")", "added_tokens[2]"},
    {"/added_tokens/1/lstrip", "1", "lstrip"},
    {"/added_tokens/1/bold", "true", "bold"},
};

constexpr Refusal kPartRefusals[] = {
    {"/normalizer", R"({"type": "Lowercase"})", "Lowercase"},
    {"/normalizer", R"({"type": "NFC", "form": 1})", "form"},
    {"/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKC"}]})",
     "normalizer.normalizers[1]: type is \"NFKC\""},
    {"/normalizer", R"({"type": "Replace", "pattern": {"String": ""}, "content": ""})",
     "normalizer.pattern"},
    {"/pre_tokenizer", R"({"type": "Whitespace"})", "Whitespace"},
    {"/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [{"type": "Punctuation"}]})",
     "pre_tokenizer.pretokenizers[0]: type is \"Punctuation\""},
    {"/pre_tokenizer", R"({"type": "ByteLevel", "add_prefix_space": 1})", "add_prefix_space"},
    {"/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "\\w+"}, "behavior": "Isolated", "invert": false})",
     "pre_tokenizer.pattern.Regex"},
    {"/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Dropped", "invert": false})",
     "Dropped"},
    {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "__"})", "replacement"},
    {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})",
     "last"},
    {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": false})",
     "add_prefix_space"},
    {"/pre_tokenizer",
     R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"},
         {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"}]})",
     "prepend_scheme is \"first\""},
    {"/post_processor", R"({"type": "BertProcessing"})", "BertProcessing"},
    {"/post_processor/single/0/SpecialToken/id", R"("<e>")", "single[0].SpecialToken: id"},
    {"/post_processor/single/1/Sequence/id", R"("B")", "single[1].Sequence: id"},
    {"/post_processor/single/1", R"({"SpecialToken": {"id": "<s>"}})", "single"},
    {"/post_processor/special_tokens/<s>/ids/0", "77", "post_processor adds the id 77"},
    {"/decoder", R"({"type": "WordPiece"})", "WordPiece"},
    {"/decoder", R"({"type": "Strip", "content": " ", "start": 1, "stop": 1})", "stop"},
    {"/decoder", R"({"type": "Replace", "pattern": {"Regex": "a"}, "content": ""})", "pattern"},
    {"/decoder",
     R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteFallback"}]})",
     "decoder.decoders[1]"},
};

INSTANTIATE_TEST_SUITE_P(File, TokenizerRefusal, testing::ValuesIn(kFileRefusals));
INSTANTIATE_TEST_SUITE_P(Parts, TokenizerRefusal, testing::ValuesIn(kPartRefusals));

TEST(TokenizerFile, IsUntrusted) {
  const std::string deep = "{\"normalizer\":" + std::string(100'000, '[');
  const std::vector<std::string> files = {"",
                                          "{",
                                          "[]",
                                          "null",
                                          "{}",
                                          deep,
                                          "{\"model\": \"\\ud800\"}",
                                          "{\"model\": \"\xFF\"}",
                                          SmallFile().dump() + "x"};
  for (const std::string& file : files) {
    EXPECT_EQ(Tokenizer::Parse(file).status().code(), absl::StatusCode::kInvalidArgument) << file;
  }
  const std::string whole = SmallFile().dump();
  for (size_t size = 0; size < whole.size(); size += 7) {
    EXPECT_FALSE(Tokenizer::Parse(whole.substr(0, size)).ok());
  }
}

TEST(TokenizerFile, IsLoadedByPath) {
  const std::filesystem::path path =
      std::filesystem::path(testing::TempDir()) / "tokenizer_test.json";
  std::ofstream(path) << SmallFile().dump();
  const auto tokenizer = Tokenizer::Load(path);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 11);
  std::ofstream(path) << "{}";
  EXPECT_THAT(std::string(Tokenizer::Load(path).status().message()), HasSubstr(path.string()));
  std::filesystem::remove(path);
  EXPECT_EQ(Tokenizer::Load(path).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace sluice
