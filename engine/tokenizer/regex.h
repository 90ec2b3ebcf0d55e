// Regular expressions of a tokenizer file, matched by PCRE2 within bounds of time and memory.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct pcre2_real_code_8;

namespace sluice {

// Bytes [begin, end) of a text.
struct TextRange {
  size_t begin;
  size_t end;
};

// What a file's patterns may not take longer than for one text, whatever they and the text are.
using MatchDeadline = std::chrono::steady_clock::time_point;

// A compiled pattern; may be used by any number of threads at once.
class Regex {
 public:
  // InvalidArgument when the pattern is longer than 64 KiB, is not supported (regex_syntax.h), is
  // refused by PCRE2, or can match nothing at all.
  static absl::StatusOr<Regex> Compile(std::string_view pattern);

  // Appends the matches in `text`, which is valid UTF-8, from left to right; none overlap.
  // ResourceExhausted when PCRE2's limits (match count, 8 MiB of stack) or the deadline are passed.
  absl::Status FindAll(std::string_view text, MatchDeadline deadline,
                       std::vector<TextRange>* matches) const;

 private:
  struct CodeDeleter {
    void operator()(pcre2_real_code_8* code) const;
  };

  std::unique_ptr<pcre2_real_code_8, CodeDeleter> code_;
};

}  // namespace sluice
