// What holds of every tokenizer and text, for the targets that make either of them of any bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer.h"
#include "engine/utf8.h"
#include "kernels/check.h"

namespace sluice {

// The stream of `ids`, all in the vocabulary, gives the text of Decode in increments that are valid
// UTF-8.
inline void CheckDecoding(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  const auto text = tokenizer.Decode(ids, /*skip_special_tokens=*/true);
  SLUICE_CHECK(text.ok() && !FirstInvalidUtf8(*text).has_value());
  StreamDecoder decoder(&tokenizer);
  std::string streamed;
  for (const int32_t id : ids) {
    const std::string increment = decoder.Push(id);
    SLUICE_CHECK(!FirstInvalidUtf8(increment).has_value());
    streamed += increment;
  }
  SLUICE_CHECK(streamed + decoder.Flush() == *text);
}

// The ids of `text`, all in the vocabulary and fit for decoding. None when the text is refused,
// which is for being no UTF-8 or for taking the patterns of the file too long.
inline std::optional<std::vector<int32_t>> CheckEncoding(const Tokenizer& tokenizer,
                                                         std::string_view text) {
  auto ids = tokenizer.Encode(text, /*add_special_tokens=*/true);
  if (!ids.ok()) {
    const bool invalid = FirstInvalidUtf8(text).has_value();
    SLUICE_CHECK(ids.status().code() == (invalid ? absl::StatusCode::kInvalidArgument
                                                 : absl::StatusCode::kResourceExhausted));
    return std::nullopt;
  }
  for (const int32_t id : *ids) SLUICE_CHECK(id >= 0 && id < tokenizer.vocab_size());
  CheckDecoding(tokenizer, *ids);
  return *std::move(ids);
}

}  // namespace sluice
