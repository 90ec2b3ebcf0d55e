#include "engine/tokenizer/nfc.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/tokenizer/unicode_tables.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

// Hangul syllables are composed by arithmetic (Unicode standard, section 3.12).
constexpr char32_t kSyllable = 0xAC00;
constexpr char32_t kLeading = 0x1100;
constexpr char32_t kVowel = 0x1161;
constexpr char32_t kTrailing = 0x11A7;  // one before the first: an index of 0 means none
constexpr char32_t kLeadingCount = 19;
constexpr char32_t kVowelCount = 21;
constexpr char32_t kTrailingCount = 28;
constexpr char32_t kSyllableCount = kLeadingCount * kVowelCount * kTrailingCount;

// Nothing below it decomposes into something else than it is composed from, or combines.
constexpr char32_t kFirstCombining = 0x300;

struct Mark {
  char32_t code_point;
  uint8_t combining_class;
};

uint8_t CombiningClass(char32_t c) {
  if (c < kFirstCombining) return 0;
  const auto* const after =
      std::upper_bound(kCombining.begin(), kCombining.end(), c,
                       [](char32_t a, const CombiningRange& b) { return a < b.first; });
  if (after == kCombining.begin() || c > std::prev(after)->last) return 0;
  return std::prev(after)->combining_class;
}

void Decompose(char32_t c, std::vector<Mark>* out) {
  if (c >= kSyllable && c < kSyllable + kSyllableCount) {
    const char32_t index = c - kSyllable;
    out->push_back({kLeading + index / (kVowelCount * kTrailingCount), 0});
    out->push_back({kVowel + index / kTrailingCount % kVowelCount, 0});
    if (index % kTrailingCount != 0) out->push_back({kTrailing + index % kTrailingCount, 0});
    return;
  }
  const auto* const found =
      std::lower_bound(kDecomposition.begin(), kDecomposition.end(), c,
                       [](const Decomposition& a, char32_t b) { return a.composed < b; });
  if (found == kDecomposition.end() || found->composed != c) {
    out->push_back({c, CombiningClass(c)});
    return;
  }
  Decompose(found->first, out);
  if (found->second != 0) Decompose(found->second, out);
}

void OrderMarks(std::vector<Mark>* marks) {
  auto begin = marks->begin();
  while (begin != marks->end()) {
    if (begin->combining_class == 0) {
      ++begin;
      continue;
    }
    const auto end = std::find_if(begin, marks->end(),
                                  [](const Mark& mark) { return mark.combining_class == 0; });
    std::stable_sort(begin, end, [](const Mark& a, const Mark& b) {
      return a.combining_class < b.combining_class;
    });
    begin = end;
  }
}

// The character that the two compose to; 0 when there is none.
char32_t Composed(char32_t first, char32_t second) {
  if (first >= kLeading && first < kLeading + kLeadingCount && second >= kVowel &&
      second < kVowel + kVowelCount) {
    return kSyllable + ((first - kLeading) * kVowelCount + (second - kVowel)) * kTrailingCount;
  }
  if (first >= kSyllable && first < kSyllable + kSyllableCount &&
      (first - kSyllable) % kTrailingCount == 0 && second > kTrailing &&
      second < kTrailing + kTrailingCount) {
    return first + (second - kTrailing);
  }
  const auto pair = std::make_pair(first, second);
  const auto* const found = std::lower_bound(
      kComposition.begin(), kComposition.end(), pair,
      [](const Decomposition& a, const auto& b) { return std::make_pair(a.first, a.second) < b; });
  if (found == kComposition.end() || std::make_pair(found->first, found->second) != pair) return 0;
  return found->composed;
}

// Composes in place; returns how many marks are left at the front.
size_t ComposeMarks(std::vector<Mark>* marks) {
  std::vector<Mark>& m = *marks;
  size_t kept = 0;
  size_t starter = 0;
  bool has_starter = false;
  for (size_t i = 0; i < m.size(); ++i) {
    // A mark is blocked from the starter by a kept one of its own class or a higher one.
    const bool blocked =
        has_starter && kept > starter + 1 && m[kept - 1].combining_class >= m[i].combining_class;
    const char32_t composed =
        has_starter && !blocked ? Composed(m[starter].code_point, m[i].code_point) : 0;
    if (composed != 0) {
      m[starter].code_point = composed;
      continue;
    }
    if (m[i].combining_class == 0) {
      starter = kept;
      has_starter = true;
    }
    m[kept++] = m[i];
  }
  return kept;
}

}  // namespace

std::string ToNfc(std::string_view text) {
  // U+0300 is the first character whose UTF-8 begins with 0xCC or more.
  const bool plain =
      std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0xCC; });
  if (plain) return std::string(text);
  std::vector<Mark> marks;
  marks.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = Utf8At(text, at);
    Decompose(c.code_point, &marks);
    at += c.bytes;
  }
  OrderMarks(&marks);
  const size_t kept = ComposeMarks(&marks);
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < kept; ++i) AppendUtf8(marks[i].code_point, &result);
  return result;
}

}  // namespace sluice
