#include "engine/tokenizer/bpe.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

constexpr int32_t kAbsent = -1;
constexpr int32_t kRemoved = -2;
constexpr int32_t kEnd = -1;  // of the chain of symbols
constexpr char32_t kLowCharacters = 0x800;

// A text repeats its words, so that what a short one gave is looked up when it comes again.
constexpr size_t kShortBytes = 64;
constexpr size_t kMaxRemembered = 1 << 16;

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

uint64_t CharacterKey(char32_t left, char32_t right) {
  return static_cast<uint64_t>(left) << 32 | right;
}

// A merge is written "a b" in older files and ["a", "b"] in newer ones.
std::optional<std::pair<std::string, std::string>> ReadPair(const nlohmann::json& value) {
  if (value.is_array()) {
    if (value.size() != 2 || !value[0].is_string() || !value[1].is_string()) return std::nullopt;
    return std::make_pair(value[0].get<std::string>(), value[1].get<std::string>());
  }
  if (!value.is_string()) return std::nullopt;
  const auto& text = value.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
    return std::nullopt;
  }
  return std::make_pair(text.substr(0, space), text.substr(space + 1));
}

bool IsVersionLine(const nlohmann::json& value) {
  return value.is_string() && value.get_ref<const std::string&>().rfind("#version", 0) == 0;
}

}  // namespace

absl::StatusOr<BpeModel> BpeModel::Parse(const nlohmann::json& value, const std::string& path) {
  JsonReader reader(value, path);
  // The oldest files have no type, and are known by their merges.
  const std::string type = reader.String("type", reader.Has("merges") ? "BPE" : "");
  if (type != "BPE") reader.Refuse("type", "only \"BPE\" is supported");
  if (reader.Has("dropout") && reader.Number("dropout", 0, 0, 1) != 0) {
    reader.Refuse("dropout", "it makes encoding random, which is not supported");
  }
  for (const std::string_view affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (reader.Has(affix) && !reader.String(affix, "").empty()) {
      reader.Refuse(affix, "it is not supported");
    }
  }
  BpeModel model;
  model.fuse_unknown_ = reader.Has("fuse_unk") && reader.Bool("fuse_unk", false);
  model.byte_fallback_ = reader.Has("byte_fallback") && reader.Bool("byte_fallback", false);
  model.ignore_merges_ = reader.Has("ignore_merges") && reader.Bool("ignore_merges", false);
  if (!reader.Has("vocab") || !reader.Value("vocab").is_object()) {
    reader.Refuse("vocab", "it must be an object");
  }
  if (!reader.Has("merges") || !reader.Value("merges").is_array()) {
    reader.Refuse("merges", "it must be an array");
  }
  SLUICE_RETURN_IF_ERROR(reader.status());
  SLUICE_RETURN_IF_ERROR(model.ParseVocab(reader.Value("vocab"), path + ".vocab"));
  SLUICE_RETURN_IF_ERROR(model.ParseMerges(reader.Value("merges"), path + ".merges"));
  SLUICE_RETURN_IF_ERROR(model.ParseUnknown(&reader));
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  model.IndexCharacters();
  return model;
}

absl::Status BpeModel::ParseVocab(const nlohmann::json& value, const std::string& path) {
  JsonReader reader(value, path);
  vocab_.reserve(value.size());
  absl::flat_hash_set<int32_t> taken;
  taken.reserve(value.size());
  for (const auto& [token, unused] : value.items()) {
    const auto id = static_cast<int32_t>(reader.Int(token, 0, 0, kMaxId));
    if (!taken.insert(id).second) reader.Refuse(token, "another token has the same id");
    SLUICE_RETURN_IF_ERROR(reader.status());
    vocab_.emplace(token, id);
  }
  return absl::OkStatus();
}

absl::Status BpeModel::ParseMerges(const nlohmann::json& value, const std::string& path) {
  merges_.reserve(value.size());
  for (size_t i = 0; i < value.size(); ++i) {
    if (IsVersionLine(value[i])) continue;
    const auto pair = ReadPair(value[i]);
    if (!pair.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, "[", i, "] is neither \"a b\" nor [\"a\", \"b\"]"));
    }
    SLUICE_RETURN_IF_ERROR(AddMerge(*pair, absl::StrCat(path, "[", i, "]")));
  }
  return absl::OkStatus();
}

absl::Status BpeModel::AddMerge(const std::pair<std::string, std::string>& pair,
                                const std::string& path) {
  int32_t tokens[3];
  const std::string parts[3] = {pair.first, pair.second, pair.first + pair.second};
  for (size_t i = 0; i < 3; ++i) {
    const auto found = vocab_.find(parts[i]);
    if (found == vocab_.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " needs the token ", Quoted(parts[i]), ", which is not in the vocab"));
    }
    tokens[i] = found->second;
  }
  // The rank is the place in the list; of a pair that stands there twice, the last.
  const auto rank = static_cast<uint32_t>(++merge_count_);
  merges_[PairKey(tokens[0], tokens[1])] = {rank, tokens[2]};
  if (parts[0].empty() || parts[1].empty()) return absl::OkStatus();
  joined_.insert(CharacterKey(Utf8Before(parts[0], parts[0].size()).code_point,
                              Utf8At(parts[1], 0).code_point));
  return absl::OkStatus();
}

absl::Status BpeModel::ParseUnknown(JsonReader* reader) {
  if (!reader->Has("unk_token")) return absl::OkStatus();
  const auto found = vocab_.find(reader->String("unk_token", ""));
  if (found == vocab_.end()) {
    reader->Refuse("unk_token", "it is not in the vocab");
    return reader->status();
  }
  unknown_ = found->second;
  return absl::OkStatus();
}

void BpeModel::IndexCharacters() {
  low_characters_.assign(kLowCharacters, kAbsent);
  for (const auto& [token, id] : vocab_) {
    if (token.empty()) continue;
    const Utf8Char c = Utf8At(token, 0);
    if (c.bytes != token.size()) continue;
    if (c.code_point < kLowCharacters) {
      low_characters_[c.code_point] = id;
    } else {
      characters_.emplace(c.code_point, id);
    }
  }
  for (uint32_t byte = 0; byte < bytes_.size(); ++byte) {
    const auto found = vocab_.find(absl::StrFormat("<0x%02X>", byte));
    bytes_[byte] = found == vocab_.end() ? kAbsent : found->second;
  }
}

void BpeModel::Encode(std::string_view piece, Scratch* scratch,
                      std::vector<int32_t>* tokens) const {
  if (ignore_merges_) {
    const auto whole = vocab_.find(absl::string_view(piece.data(), piece.size()));
    if (whole != vocab_.end()) {
      tokens->push_back(whole->second);
      return;
    }
  }
  for (size_t begin = 0; begin < piece.size();) {
    const size_t end = piece.size() <= kShortBytes ? piece.size() : EndOfWord(piece, begin);
    EncodeWord(piece.substr(begin, end - begin), scratch, tokens);
    begin = end;
  }
}

void BpeModel::EncodeWord(std::string_view text, Scratch* scratch,
                          std::vector<int32_t>* tokens) const {
  if (text.size() > kShortBytes) {
    EncodeByMerges(text, scratch, tokens);
    return;
  }
  const absl::string_view key(text.data(), text.size());
  const auto known = scratch->memory.find(key);
  if (known != scratch->memory.end()) {
    for (size_t i = known->second.begin; i < known->second.end; ++i) {
      tokens->push_back((*tokens)[i]);
    }
    return;
  }
  const size_t begin = tokens->size();
  EncodeByMerges(text, scratch, tokens);
  if (scratch->memory.size() < kMaxRemembered) {
    scratch->memory.emplace(key, Scratch::Tokens{begin, tokens->size()});
  }
}

void BpeModel::EncodeByMerges(std::string_view text, Scratch* scratch,
                              std::vector<int32_t>* tokens) const {
  scratch->symbols.clear();
  Split(text, scratch);
  MergeAll(scratch);
  for (const Scratch::Symbol& symbol : scratch->symbols) {
    if (symbol.token != kRemoved) tokens->push_back(symbol.token);
  }
}

// Where a token that begins at or behind `begin` must end: between two characters that no merge
// joins. Merges on the two sides are then independent, which keeps the queues of a text that is one
// piece short. Characters without a token of their own may act at a distance, so there is no end
// beside them.
size_t BpeModel::EndOfWord(std::string_view piece, size_t begin) const {
  Utf8Char left = Utf8At(piece, begin);
  bool left_has_token = TokenOfCharacter(left.code_point) != kAbsent;
  size_t at = begin + left.bytes;
  while (at < piece.size()) {
    const Utf8Char right = Utf8At(piece, at);
    const bool right_has_token = TokenOfCharacter(right.code_point) != kAbsent;
    if (left_has_token && right_has_token &&
        !joined_.contains(CharacterKey(left.code_point, right.code_point))) {
      return at;
    }
    left = right;
    left_has_token = right_has_token;
    at += right.bytes;
  }
  return at;
}

int32_t BpeModel::TokenOfCharacter(char32_t code_point) const {
  if (code_point < kLowCharacters) return low_characters_[code_point];
  const auto found = characters_.find(code_point);
  return found == characters_.end() ? kAbsent : found->second;
}

void BpeModel::Split(std::string_view piece, Scratch* scratch) const {
  const auto add = [&](int32_t token) { scratch->symbols.push_back({token, 0, 0}); };
  bool unknown_waits = false;
  for (size_t at = 0; at < piece.size();) {
    const Utf8Char c = Utf8At(piece, at);
    const std::string_view character = piece.substr(at, c.bytes);
    at += c.bytes;
    const int32_t token = TokenOfCharacter(c.code_point);
    if (token != kAbsent) {
      if (unknown_waits) add(*unknown_);
      unknown_waits = false;
      add(token);
      continue;
    }
    // A waiting unknown is not added before the bytes: Hugging Face has this order.
    if (byte_fallback_ && FallBackToBytes(character, scratch)) continue;
    if (!unknown_.has_value()) continue;
    if (unknown_waits && !fuse_unknown_) add(*unknown_);
    unknown_waits = true;
  }
  if (unknown_waits) add(*unknown_);
}

bool BpeModel::FallBackToBytes(std::string_view character, Scratch* scratch) const {
  const auto token_of = [&](char c) { return bytes_[static_cast<uint8_t>(c)]; };
  const bool all = std::all_of(character.begin(), character.end(),
                               [&](char c) { return token_of(c) != kAbsent; });
  if (!all) return false;
  for (const char c : character) scratch->symbols.push_back({token_of(c), 0, 0});
  return true;
}

// Puts the merge of symbol `left` and the next one into the queue, if there is one.
void BpeModel::Propose(int32_t left, Scratch* scratch) const {
  const Scratch::Symbol& symbol = scratch->symbols[left];
  if (symbol.next == kEnd) return;
  const auto merge = merges_.find(PairKey(symbol.token, scratch->symbols[symbol.next].token));
  if (merge == merges_.end()) return;
  const uint64_t order =
      static_cast<uint64_t>(merge->second.rank) << 32 | static_cast<uint32_t>(left);
  scratch->queue.push_back({order, merge->second.token});
  std::push_heap(scratch->queue.begin(), scratch->queue.end(), std::greater<>());
}

void BpeModel::MergeAll(Scratch* scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch->symbols;
  const auto count = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols[i].previous = i - 1;
    symbols[i].next = i + 1 < count ? i + 1 : kEnd;
  }
  for (int32_t i = 0; i < count; ++i) Propose(i, scratch);
  while (!scratch->queue.empty()) {
    const Scratch::Candidate top = scratch->queue.front();
    std::pop_heap(scratch->queue.begin(), scratch->queue.end(), std::greater<>());
    scratch->queue.pop_back();
    const auto at = static_cast<int32_t>(top.order & UINT32_MAX);
    Scratch::Symbol& left = symbols[at];
    if (left.token == kRemoved || left.next == kEnd) continue;
    // The pair may have changed since it was put into the queue.
    Scratch::Symbol& right = symbols[left.next];
    const auto merge = merges_.find(PairKey(left.token, right.token));
    if (merge == merges_.end() || merge->second.token != top.token) continue;
    left.token = top.token;
    left.next = right.next;
    right.token = kRemoved;
    if (left.next != kEnd) symbols[left.next].previous = at;
    if (left.previous != kEnd) Propose(left.previous, scratch);
    Propose(at, scratch);
  }
}

}  // namespace sluice
