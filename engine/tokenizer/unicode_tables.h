// What the `tokenizers` package knows of Unicode, as far as it differs from what we would otherwise
// use or is needed at all. Rows are sorted by their first member.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace sluice {

struct CodePointRange {
  char32_t first;
  char32_t last;  // included
};

// Characters that the package's regular expressions (Unicode 16) count to a general category and
// PCRE2 10.42 (Unicode 14) does not.
struct CategoryAddition {
  const char* category;
  char32_t first;
  char32_t last;  // included
};

// One step of canonical decomposition: `composed` is `first` followed by `second`, which is 0 when
// there is none. Hangul syllables are left out, since theirs is arithmetic.
struct Decomposition {
  char32_t composed;
  char32_t first;
  char32_t second;
};

struct CombiningRange {
  char32_t first;
  char32_t last;  // included
  uint8_t combining_class;
};

extern const absl::Span<const CodePointRange> kWord;     // `\w` beside an added token
extern const absl::Span<const CodePointRange> kNumeric;  // what the Digits pre-tokenizer splits on
extern const absl::Span<const CategoryAddition> kAdded;
extern const absl::Span<const Decomposition> kDecomposition;  // sorted by `composed`
extern const absl::Span<const Decomposition> kComposition;    // sorted by (`first`, `second`)
extern const absl::Span<const CombiningRange> kCombining;     // classes other than 0

}  // namespace sluice
