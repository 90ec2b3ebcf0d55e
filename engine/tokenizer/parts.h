// What every tokenizer is made of, whichever file it was read from.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "engine/tokenizer/decoder.h"
#include "engine/tokenizer/post_processor.h"

namespace sluice {

// From text to tokens, with the tokens that are looked for in a text as given. Immutable.
class TokenModel {
 public:
  virtual ~TokenModel() = default;

  // Appends the tokens of `text`, which is valid UTF-8 of at most 1 GiB. ResourceExhausted when the
  // file's patterns take too long on it.
  virtual absl::Status Encode(std::string_view text, std::vector<int32_t>* tokens) const = 0;

  // The id of a token of the vocabulary. Added tokens are in TokenizerParts::ids.
  virtual std::optional<int32_t> Find(std::string_view token) const = 0;
};

struct TokenizerParts {
  struct Entry {
    std::string content;  // as the file has it
    std::string decoded;  // as the decoder is given it
    bool exists = false;
    bool special = false;  // by its content
    bool skipped = false;  // by what the decoder is given: Hugging Face compares that
  };

  std::unique_ptr<const TokenModel> model;
  PostProcessor post_processor;
  Decoder decoder;
  std::vector<Entry> entries;                     // by id
  absl::flat_hash_map<std::string, int32_t> ids;  // of the added tokens

  const Entry* Find(int32_t id) const {
    if (id < 0 || id >= static_cast<int64_t>(entries.size()) || !entries[id].exists) return nullptr;
    return &entries[id];
  }
};

}  // namespace sluice
