// Ids and text against the `tokenizers` package, on the strings of tokenizer_golden/. Hashes stand
// for what it gave; write_goldens.py wrote them and says how.
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer.h"
#include "engine/utf8.h"
#include "gtest/gtest.h"

namespace sluice {
namespace {

constexpr size_t kBlock = 16;
constexpr size_t kMinStrings = 20'000;

std::string ReadGolden(const std::string& name) {
  const std::filesystem::path path =
      std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/engine/tokenizer_golden" / name;
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_FALSE(text.str().empty()) << path;
  return text.str();
}

class Bytes {
 public:
  explicit Bytes(std::string data) : data_(std::move(data)) {}

  uint32_t Number() {
    uint32_t number = 0;
    std::memcpy(&number, data_.data() + at_, sizeof(number));
    at_ += sizeof(number);
    return number;
  }

  std::string Text(size_t bytes) {
    at_ += bytes;
    return data_.substr(at_ - bytes, bytes);
  }

 private:
  std::string data_;
  size_t at_ = 0;
};

std::vector<std::string> ReadStrings() {
  Bytes bytes(ReadGolden("strings.bin"));
  std::vector<std::string> strings(bytes.Number());
  for (std::string& text : strings) {
    const uint32_t size = bytes.Number();
    const uint32_t repeats = bytes.Number();
    const std::string unit = bytes.Text(size);
    for (uint32_t i = 0; i < repeats; ++i) text += unit;
  }
  return strings;
}

class Fnv {
 public:
  void Number(uint32_t number) {
    for (int shift = 0; shift < 32; shift += 8) Byte(static_cast<uint8_t>(number >> shift));
  }

  void Text(std::string_view text) {
    Number(static_cast<uint32_t>(text.size()));
    for (const char c : text) Byte(static_cast<uint8_t>(c));
  }

  uint32_t Folded() const { return static_cast<uint32_t>(hash_ ^ hash_ >> 32); }

 private:
  void Byte(uint8_t byte) { hash_ = (hash_ ^ byte) * 0x100000001B3U; }

  uint64_t hash_ = 0xCBF29CE484222325U;
};

// Ids that no text gives, many of them bytes: random_ids of write_goldens.py.
std::vector<int32_t> RandomIds(uint64_t seed, uint64_t vocab) {
  uint64_t state = (seed + 1) * 0x9E3779B97F4A7C15U;
  const auto draw = [&] {
    state += 0x9E3779B97F4A7C15U;
    uint64_t z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9U;
    z = (z ^ z >> 27) * 0x94D049BB133111EBU;
    return z ^ z >> 31;
  };
  std::vector<int32_t> ids(draw() % 12);
  for (int32_t& id : ids) {
    const uint64_t below = draw() % 4 != 0 ? 259 : vocab;
    id = static_cast<int32_t>(draw() % below);
  }
  return ids;
}

// The text of the stream of `ids`, increment by increment; fails when one is not valid UTF-8.
std::string Streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip) {
  StreamDecoder decoder(&tokenizer, skip);
  std::string text;
  for (size_t i = 0; i <= ids.size(); ++i) {
    const std::string increment = i < ids.size() ? decoder.Push(ids[i]) : decoder.Flush();
    EXPECT_FALSE(FirstInvalidUtf8(increment).has_value());
    text += increment;
  }
  return text;
}

struct Variant {
  std::string name;
  nlohmann::json change;
  size_t index;
};

std::vector<Variant> Variants() {
  std::vector<Variant> variants;
  // The hashes are in the order of the file, which nlohmann's own map would lose.
  const auto file = nlohmann::ordered_json::parse(ReadGolden("variants.json"));
  for (const auto& [name, change] : file.items()) {
    variants.push_back({name, nlohmann::json::parse(change.dump()), variants.size()});
  }
  return variants;
}

std::unique_ptr<const Tokenizer> Build(const nlohmann::json& change) {
  auto file = nlohmann::json::parse(ReadGolden(change.at("base").get<std::string>() + ".json"));
  file.update(change.at("file"));
  file.at("model").update(change.at("model"));
  auto tokenizer = Tokenizer::Parse(file.dump());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? std::move(*tokenizer) : nullptr;
}

class TokenizerGolden : public testing::TestWithParam<Variant> {};

TEST_P(TokenizerGolden, GivesTheIdsAndTextOfHuggingFace) {
  const auto tokenizer = Build(GetParam().change);
  ASSERT_NE(tokenizer, nullptr);
  const std::vector<std::string> strings = ReadStrings();
  ASSERT_GE(strings.size(), kMinStrings);
  const size_t blocks = (strings.size() + kBlock - 1) / kBlock;
  Bytes hashes(ReadGolden("hashes.bin").substr(GetParam().index * blocks * sizeof(uint32_t)));
  for (size_t begin = 0; begin < strings.size(); begin += kBlock) {
    Fnv fnv;
    for (size_t i = begin; i < std::min(begin + kBlock, strings.size()); ++i) {
      const auto ids = tokenizer->Encode(strings[i], /*add_special_tokens=*/true);
      ASSERT_TRUE(ids.ok()) << ids.status();
      fnv.Number(static_cast<uint32_t>(ids->size()));
      for (const int32_t id : *ids) fnv.Number(static_cast<uint32_t>(id));
      const auto text = tokenizer->Decode(*ids, /*skip_special_tokens=*/true);
      ASSERT_TRUE(text.ok()) << text.status();
      fnv.Text(*text);
      ASSERT_EQ(Streamed(*tokenizer, *ids, /*skip=*/true), *text);
      const std::vector<int32_t> random = RandomIds(i, tokenizer->vocab_size());
      const auto broken = tokenizer->Decode(random, /*skip_special_tokens=*/false);
      ASSERT_TRUE(broken.ok()) << broken.status();
      fnv.Text(*broken);
      ASSERT_EQ(Streamed(*tokenizer, random, /*skip=*/false), *broken);
    }
    ASSERT_EQ(fnv.Folded(), hashes.Number()) << "strings " << begin << " to " << begin + kBlock;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, TokenizerGolden, testing::ValuesIn(Variants()),
                         [](const auto& variant) { return variant.param.name; });

}  // namespace
}  // namespace sluice
