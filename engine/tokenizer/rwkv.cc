#include "engine/tokenizer/rwkv.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/tokenizer/byte_trie.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

// Bounds the work at one byte of a text. The longest in use has 128 bytes.
constexpr size_t kMaxTokenBytes = 1024;

// What the end of a text is called where no file gives it a name.
constexpr char kEndOfText[] = "<|endoftext|>";

struct RwkvModel : TokenModel {
  AddedTokens added;
  ByteTrie trie;

  absl::Status Encode(std::string_view text, std::vector<int32_t>* tokens) const override {
    SLUICE_ASSIGN_OR_RETURN(const Pieces pieces, added.Extract(text, Normalizer(), {}));
    for (const Piece& piece : pieces.pieces) {
      if (piece.token != kNoToken) {
        tokens->push_back(piece.token);
        continue;
      }
      for (size_t at = piece.begin; at < piece.end;) {
        const ByteTrie::Match match = trie.Longest(text.substr(at, piece.end - at));
        tokens->push_back(match.value);
        at += match.bytes;  // at least 1, since every byte is a token
      }
    }
    return absl::OkStatus();
  }

  std::optional<int32_t> Find(std::string_view token) const override {
    const int32_t id = trie.Find(token);
    if (id == ByteTrie::kNone) return std::nullopt;
    return id;
  }
};

// Reads what stands between the quotes.
class LiteralReader {
 public:
  LiteralReader(std::string_view body, char quote, bool is_bytes)
      : body_(body), quote_(quote), is_bytes_(is_bytes) {}

  absl::StatusOr<std::string> Read() {
    std::string result;
    while (at_ < body_.size()) {
      const char c = body_[at_++];
      if (c == quote_) return Wrong("has its quote inside");
      if (c == '\\') {
        SLUICE_RETURN_IF_ERROR(ReadEscape(&result));
      } else if (is_bytes_ && !absl::ascii_isascii(static_cast<unsigned char>(c))) {
        return Wrong("has bytes with a character beyond ASCII");
      } else {
        result.push_back(c);
      }
    }
    return result;
  }

 private:
  static absl::Status Wrong(const std::string& what) { return absl::InvalidArgumentError(what); }

  absl::Status ReadEscape(std::string* result) {
    if (at_ == body_.size()) return Wrong("ends within an escape");
    const char c = body_[at_++];
    switch (c) {
      case '\\':
      case '\'':
      case '"':
        result->push_back(c);
        return absl::OkStatus();
      case 'n':
        result->push_back('\n');
        return absl::OkStatus();
      case 'r':
        result->push_back('\r');
        return absl::OkStatus();
      case 't':
        result->push_back('\t');
        return absl::OkStatus();
      case 'x':
        return ReadNumber(2, result);
      case 'u':
      case 'U':
        if (is_bytes_) break;
        return ReadNumber(c == 'u' ? 4 : 8, result);
      default:
        break;
    }
    return Wrong(absl::StrCat("has the unknown escape ", Quoted(std::string("\\") + c)));
  }

  // A byte, or in text the character of this number.
  absl::Status ReadNumber(size_t digits, std::string* result) {
    uint32_t number = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char c = at_ < body_.size() ? body_[at_++] : ' ';
      if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) {
        return Wrong(absl::StrCat("has an escape with fewer than ", digits, " digits"));
      }
      const int digit = absl::ascii_isdigit(static_cast<unsigned char>(c))
                            ? c - '0'
                            : absl::ascii_tolower(static_cast<unsigned char>(c)) - 'a' + 10;
      number = number << 4 | static_cast<uint32_t>(digit);
    }
    if (is_bytes_) {
      result->push_back(static_cast<char>(number));
      return absl::OkStatus();
    }
    if (number > 0x10FFFF || (number >= 0xD800 && number <= 0xDFFF)) {
      return Wrong("has an escape of no character");
    }
    AppendUtf8(number, result);
    return absl::OkStatus();
  }

  std::string_view body_;
  char quote_;
  bool is_bytes_;
  size_t at_ = 0;
};

struct Line {
  int32_t id;
  std::string token;
};

absl::StatusOr<Line> ParseLine(std::string_view line) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return absl::InvalidArgumentError("is not of the form INDEX LITERAL LENGTH");
  }
  const auto number = [&](size_t begin, size_t end, int64_t* value) {
    const std::string_view digits = line.substr(begin, end - begin);
    const bool is_number = std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit);
    return is_number && absl::SimpleAtoi(absl::string_view(digits.data(), digits.size()), value);
  };
  int64_t id = 0;
  if (!number(0, first, &id) || id < 1 || id >= TokenizerConfig::kMaxTokens) {
    return absl::InvalidArgumentError(absl::StrCat("has the index ", Quoted(line.substr(0, first)),
                                                   "; it must lie in [1, ",
                                                   TokenizerConfig::kMaxTokens, ")"));
  }
  SLUICE_ASSIGN_OR_RETURN(std::string token,
                          ParsePythonLiteral(line.substr(first + 1, last - first - 1)));
  int64_t bytes = 0;
  if (!number(last + 1, line.size(), &bytes) || bytes != static_cast<int64_t>(token.size())) {
    return absl::InvalidArgumentError(absl::StrCat("gives the length ",
                                                   Quoted(line.substr(last + 1)), " to a token of ",
                                                   token.size(), " bytes"));
  }
  if (token.empty() || token.size() > kMaxTokenBytes) {
    return absl::InvalidArgumentError(absl::StrCat("has a token of ", token.size(),
                                                   " bytes; it must have 1 to ", kMaxTokenBytes));
  }
  return Line{static_cast<int32_t>(id), std::move(token)};
}

// Puts the tokens of the file into `entries`.
absl::Status ParseLines(std::string_view file, const std::string& source,
                        std::vector<TokenizerParts::Entry>* entries) {
  int64_t number = 0;
  while (!file.empty()) {
    ++number;
    const size_t end = std::min(file.find('\n'), file.size());
    std::string_view line = file.substr(0, end);
    file.remove_prefix(std::min(end + 1, file.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    const auto wrong = [&](absl::string_view what) {
      return absl::InvalidArgumentError(absl::StrCat(source, ": line ", number, " ", what));
    };
    auto parsed = ParseLine(line);
    if (!parsed.ok()) return wrong(parsed.status().message());
    const auto index = static_cast<size_t>(parsed->id);
    if (index >= entries->size()) entries->resize(index + 1);
    TokenizerParts::Entry& entry = (*entries)[index];
    if (entry.exists) return wrong(absl::StrCat("has the index ", index, " of an earlier line"));
    entry = {parsed->token, parsed->token, true};
  }
  return absl::OkStatus();
}

absl::StatusOr<ByteTrie> BuildTrie(const std::vector<TokenizerParts::Entry>& entries,
                                   const std::string& source) {
  std::vector<std::pair<std::string_view, int32_t>> strings;
  for (size_t id = 0; id < entries.size(); ++id) {
    if (entries[id].exists) strings.emplace_back(entries[id].content, static_cast<int32_t>(id));
  }
  std::sort(strings.begin(), strings.end());
  for (size_t i = 1; i < strings.size(); ++i) {
    if (strings[i].first != strings[i - 1].first) continue;
    return absl::InvalidArgumentError(absl::StrCat(source, ": the indices ", strings[i - 1].second,
                                                   " and ", strings[i].second,
                                                   " have the same token"));
  }
  ByteTrie trie(std::move(strings));
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    if (trie.Find(std::string_view(&c, 1)) != ByteTrie::kNone) continue;
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: the byte 0x%02x is no token; each of the 256 bytes must be one", source, byte));
  }
  return trie;
}

// Id 0 is called what tokenizer_config.json calls it, else its bos_token, and text that has the
// name then has the token.
void NameEndOfText(const TokenizerConfig& config, TokenizerParts* parts,
                   std::vector<AddedToken>* looked_for) {
  TokenizerParts::Entry& entry = parts->entries[0];
  if (!entry.exists) {
    entry.content = config.bos_token.value_or(kEndOfText);
    entry.decoded = entry.content;
    const bool named = config.bos_token.has_value() && !entry.content.empty() &&
                       !parts->ids.contains(entry.content);
    if (named) {
      AddedToken token{};
      token.content = entry.content;
      token.normalized = entry.content;
      token.special = true;
      parts->ids.emplace(entry.content, 0);
      looked_for->push_back(std::move(token));
    }
  }
  entry.exists = true;
  entry.special = true;
  entry.skipped = true;
}

}  // namespace

absl::StatusOr<std::string> ParsePythonLiteral(std::string_view literal) {
  const bool is_bytes = !literal.empty() && literal[0] == 'b';
  if (is_bytes) literal.remove_prefix(1);
  const char quote = literal.empty() ? '\0' : literal[0];
  if (literal.size() < 2 || (quote != '\'' && quote != '"') || literal.back() != quote) {
    return absl::InvalidArgumentError("has no literal in quotes: '..', \"..\", b'..' or b\"..\"");
  }
  const std::string_view body = literal.substr(1, literal.size() - 2);
  if (FirstInvalidUtf8(body).has_value()) {
    return absl::InvalidArgumentError("has a literal that is not valid UTF-8");
  }
  return LiteralReader(body, quote, is_bytes).Read();
}

std::vector<std::string> RwkvVocabularyNames(const TokenizerConfig& config) {
  std::vector<std::string> names = {"rwkv_vocab_v20230424.txt"};
  // Other tokenizers have a vocab.txt too.
  if (absl::StartsWithIgnoreCase(config.tokenizer_class, "rwkv")) names.emplace_back("vocab.txt");
  return names;
}

absl::StatusOr<std::unique_ptr<const TokenizerParts>> ParseRwkv(std::string_view file,
                                                                const std::string& source,
                                                                const TokenizerConfig& config) {
  auto parts = std::make_unique<TokenizerParts>();
  auto model = std::make_unique<RwkvModel>();
  SLUICE_RETURN_IF_ERROR(ParseLines(file, source, &parts->entries));
  SLUICE_ASSIGN_OR_RETURN(model->trie, BuildTrie(parts->entries, source));
  SLUICE_RETURN_IF_ERROR(config.AddTokensTo(parts.get()));
  std::vector<AddedToken> looked_for = config.added_tokens;
  NameEndOfText(config, parts.get(), &looked_for);
  SLUICE_ASSIGN_OR_RETURN(model->added, AddedTokens::Create(std::move(looked_for), config.source));
  parts->model = std::move(model);
  SLUICE_ASSIGN_OR_RETURN(parts->post_processor, config.AroundText(*parts, false, false));
  parts->decoder = Decoder({{.kind = DecoderStep::Kind::kBytes, .pattern = "", .content = ""}});
  return parts;
}

}  // namespace sluice
