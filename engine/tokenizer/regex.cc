#include "engine/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/tokenizer/regex_syntax.h"
#include "engine/utf8.h"
#include "kernels/check.h"

namespace sluice {
namespace {

constexpr size_t kMaxPatternBytes = 64 * 1024;

// Backtracking of one attempt: for the patterns in use, at most once a byte.
constexpr size_t kMatchLimit = 1'000'000;
constexpr size_t kMatchLimitPerByte = 8;
constexpr size_t kJitStackMinBytes = 32 * 1024;
constexpr size_t kJitStackMaxBytes = 8 * 1024 * 1024;

// So many starts are tried between two looks at the clock: an attempt that scans to the end of the
// text and fails, at every start, is the worst that a pattern can ask for.
constexpr size_t kStartsPerLook = 256;

struct ContextDeleter {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

template <typename T>
using Owned = std::unique_ptr<T, ContextDeleter>;

// Called by PCRE2 on the thread that matches.
pcre2_jit_stack* ThreadStack(void* /*unused*/) {
  thread_local const Owned<pcre2_jit_stack> stack(
      pcre2_jit_stack_create(kJitStackMinBytes, kJitStackMaxBytes, nullptr));
  return stack.get();
}

std::string ErrorText(int code) {
  PCRE2_UCHAR8 text[256] = {};
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

// What a thread matches in, whatever the pattern: none has groups that capture.
struct Matcher {
  Matcher()
      : context(pcre2_match_context_create(nullptr)), data(pcre2_match_data_create(1, nullptr)) {
    SLUICE_CHECK(context != nullptr && data != nullptr);
    pcre2_jit_stack_assign(context.get(), ThreadStack, nullptr);
  }

  Owned<pcre2_match_context> context;
  Owned<pcre2_match_data> data;
};

}  // namespace

void Regex::CodeDeleter::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the regular expression ", Quoted(pattern),
                                                   " has ", pattern.size(), " bytes; the limit is ",
                                                   kMaxPatternBytes));
  }
  SLUICE_ASSIGN_OR_RETURN(const std::string translated, TranslateRegex(pattern));
  const Owned<pcre2_compile_context> context(pcre2_compile_context_create(nullptr));
  SLUICE_CHECK(context != nullptr);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE at = 0;
  Regex regex;
  regex.code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                                  translated.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE |
                                      PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT,
                                  &error, &at, context.get()));
  if (regex.code_ == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("the regular expression ", Quoted(pattern),
                                                   " is refused: ", ErrorText(error)));
  }
  uint32_t matches_empty = 0;
  pcre2_pattern_info(regex.code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0) {
    return absl::InvalidArgumentError(absl::StrCat("the regular expression ", Quoted(pattern),
                                                   " can match nothing, which is not supported"));
  }
  // Where the processor has no JIT, matching is interpreted: slower, and with the same results.
  pcre2_jit_compile(regex.code_.get(), PCRE2_JIT_COMPLETE);
  return regex;
}

absl::Status Regex::FindAll(std::string_view text, MatchDeadline deadline,
                            std::vector<TextRange>* matches) const {
  thread_local const Matcher matcher;
  const size_t backtracking =
      kMatchLimit + std::min<size_t>(text.size(), 1 << 28) * kMatchLimitPerByte;
  pcre2_set_match_limit(matcher.context.get(), static_cast<uint32_t>(backtracking));
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(matcher.data.get());
  size_t at = 0;
  while (at < text.size()) {
    size_t limit = std::min(text.size(), at + kStartsPerLook);
    while (limit < text.size() && (text[limit] & 0xC0) == 0x80) ++limit;
    pcre2_set_offset_limit(matcher.context.get(), limit);
    const int result =
        pcre2_match(code_.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                    matcher.data.get(), matcher.context.get());
    if (result > 0) {
      matches->push_back({found[0], found[1]});
      at = found[1];
      continue;
    }
    if (result != PCRE2_ERROR_NOMATCH) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the tokenizer's regular expression gives up at byte ", at,
                       " of the text: ", ErrorText(result)));
    }
    if (limit == text.size()) break;
    if (std::chrono::steady_clock::now() > deadline) {
      return absl::ResourceExhaustedError(
          "the tokenizer's regular expressions take too long on this text");
    }
    // The limit itself has been tried as a start.
    at = limit + Utf8At(text, limit).bytes;
  }
  return absl::OkStatus();
}

}  // namespace sluice
