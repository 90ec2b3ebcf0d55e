#include "engine/tokenizer/regex_syntax.h"

#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/tokenizer/unicode_tables.h"

namespace sluice {
namespace {

// White_Space, and all but it. PCRE2's own `\s` has U+180E besides.
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f})"
    R"(\x{3000})";
constexpr std::string_view kNotSpaces =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff})"
    R"(\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";

constexpr std::string_view kCategories[] = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "N",  "Nd", "Nl", "No", "M", "P",  "Pc", "Pd",
    "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp"};

// What may follow "(" to make a group that both engines know.
constexpr std::string_view kGroups[] = {"?:", "?=", "?!", "?<=", "?<!", "?>", "?i:"};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (at_ < pattern_.size()) SLUICE_RETURN_IF_ERROR(Next());
    return std::move(out_);
  }

 private:
  bool Looking(std::string_view text) const {
    return absl::StartsWith({pattern_.data() + at_, pattern_.size() - at_},
                            {text.data(), text.size()});
  }

  char Peek(size_t ahead) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }

  absl::Status Refuse(std::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat("the regular expression ", Quoted(pattern_),
                                                   " has ", Quoted(what), " at byte ", at_,
                                                   ", which is not supported"));
  }

  void Take(size_t bytes) {
    out_.append(pattern_.substr(at_, bytes));
    at_ += bytes;
  }

  absl::Status Next() {
    switch (pattern_[at_]) {
      case '\\':
        return Escape(/*in_class=*/false);
      case '[':
        return Class();
      case '(':
        return Group();
      case '*':
      case '+':
      case '?':
        Take(Peek(1) == '?' || Peek(1) == '+' ? 2 : 1);
        return absl::OkStatus();
      case '{':
        return Interval();
      case '^':
      case '$':
        absl::StrAppend(&out_, "(?m:", std::string(1, pattern_[at_]), ")");
        ++at_;
        return absl::OkStatus();
      default:
        Take(1);
        return absl::OkStatus();
    }
  }

  absl::Status Group() {
    Take(1);
    if (Peek(0) == '*') return Refuse("(*");
    if (Peek(0) != '?') return absl::OkStatus();
    for (const std::string_view group : kGroups) {
      if (!Looking(group)) continue;
      Take(group.size());
      return absl::OkStatus();
    }
    return Refuse(absl::StrCat("(", std::string(pattern_.substr(at_, 3))));
  }

  // {n}, {n,} and {n,m}. Ruby reads "{n}?" and "{n,m}+" in its own way, so both are refused.
  absl::Status Interval() {
    size_t bytes = 1;
    while (absl::ascii_isdigit(Peek(bytes))) ++bytes;
    const bool lower = bytes > 1;
    const bool exact = Peek(bytes) == '}';
    if (Peek(bytes) == ',') ++bytes;
    while (absl::ascii_isdigit(Peek(bytes))) ++bytes;
    if (!lower || Peek(bytes) != '}') return Refuse("{");
    const char after = Peek(bytes + 1);
    if (after == '+' || (exact && after == '?')) {
      return Refuse(pattern_.substr(at_, bytes + 2));
    }
    Take(bytes + 1 + (after == '?' ? 1 : 0));
    return absl::OkStatus();
  }

  absl::Status Class() {
    Take(1);
    if (Peek(0) == '^') Take(1);
    if (Peek(0) == ']') return Refuse("]");
    while (at_ < pattern_.size() && Peek(0) != ']') {
      if (Peek(0) == '[') return Refuse("[");
      if (Looking("&&")) return Refuse("&&");
      if (Peek(0) == '\\') {
        SLUICE_RETURN_IF_ERROR(Escape(/*in_class=*/true));
      } else {
        Take(1);
      }
    }
    if (at_ == pattern_.size()) return Refuse("[");
    Take(1);
    return absl::OkStatus();
  }

  // Writes `inside`, which is the inside of a class, where a class or an item of one stands.
  void Set(bool in_class, std::string_view inside, size_t bytes) {
    at_ += bytes;
    if (!in_class) out_.push_back('[');
    out_.append(inside);
    if (!in_class) out_.push_back(']');
  }

  absl::Status Escape(bool in_class) {
    const char c = Peek(1);
    if (c == 's' || c == 'S') {
      Set(in_class, c == 's' ? kSpaces : kNotSpaces, 2);
      return absl::OkStatus();
    }
    if (c == 'd' || (c == 'D' && !in_class)) return Category(in_class, c == 'D', "Nd", 2);
    if (c == 'p' || (c == 'P' && !in_class)) return Property(in_class);
    if (c == 'u' || c == 'x') return CodePoint();
    const bool control = c == 'r' || c == 'n' || c == 't' || c == 'f';
    if (control || absl::ascii_ispunct(c) || c == ' ') {
      Take(2);
      return absl::OkStatus();
    }
    return Refuse(pattern_.substr(at_, 2));
  }

  absl::Status Property(bool in_class) {
    const size_t close = pattern_.find('}', at_);
    if (Peek(2) != '{' || close == std::string_view::npos) return Refuse(pattern_.substr(at_, 3));
    const std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
    for (const std::string_view category : kCategories) {
      if (name == category) return Category(in_class, Peek(1) == 'P', category, close + 1 - at_);
    }
    return Refuse(pattern_.substr(at_, close + 1 - at_));
  }

  absl::Status Category(bool in_class, bool negated, std::string_view category, size_t bytes) {
    std::string inside = absl::StrCat(negated ? "^" : "", "\\p{", std::string(category), "}");
    for (const CategoryAddition& added : kAdded) {
      if (added.category != category) continue;
      absl::StrAppendFormat(&inside, "\\x{%x}-\\x{%x}", static_cast<uint32_t>(added.first),
                            static_cast<uint32_t>(added.last));
    }
    Set(in_class, inside, bytes);
    return absl::OkStatus();
  }

  // \uHHHH, \x{H...} and, below 0x80 where a byte is a character, \xHH.
  absl::Status CodePoint() {
    const bool braces = Peek(1) == 'x' && Peek(2) == '{';
    const size_t first = braces ? 3 : 2;
    const size_t wanted = Peek(1) == 'u' ? 4 : 2;
    size_t digits = 0;
    while (absl::ascii_isxdigit(Peek(first + digits)) && (braces || digits < wanted)) ++digits;
    const size_t bytes = first + digits + (braces ? 1 : 0);
    const bool whole = braces ? Peek(first + digits) == '}' && digits > 0 : digits == wanted;
    const bool is_byte = Peek(1) == 'x' && !braces && Peek(2) > '7';
    if (!whole || is_byte) return Refuse(pattern_.substr(at_, bytes));
    absl::StrAppend(&out_, "\\x{", std::string(pattern_.substr(at_ + first, digits)), "}");
    at_ += bytes;
    return absl::OkStatus();
  }

  std::string_view pattern_;
  std::string out_;
  size_t at_ = 0;
};

}  // namespace

absl::StatusOr<std::string> TranslateRegex(std::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace sluice
