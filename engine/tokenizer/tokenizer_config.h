// `tokenizer_config.json`: what Hugging Face's tokenizers put around the vocabulary file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/parts.h"

namespace sluice {

struct TokenizerConfig {
  // Ids and vocabularies of the files that this stands beside end here, as vocab_size in
  // config.json does.
  static constexpr int32_t kMaxTokens = 1'000'000;

  // Without the file: all defaults. InvalidArgument naming what is refused. Keys that are about
  // other things, such as chat templates, are passed over.
  static absl::StatusOr<TokenizerConfig> Read(const std::filesystem::path& directory);
  // The file's text; `source` names it in messages.
  static absl::StatusOr<TokenizerConfig> Parse(std::string_view text, const std::string& source);

  // Puts added_tokens into the entries and ids of `parts`, where the vocabulary is already.
  // InvalidArgument when an id is another token's.
  absl::Status AddTokensTo(TokenizerParts* parts) const;

  // What puts bos_token and eos_token around a text if add_bos_token and add_eos_token, or else the
  // defaults, say so. InvalidArgument when such a token is not in the vocabulary.
  absl::StatusOr<PostProcessor> AroundText(const TokenizerParts& parts, bool default_add_bos,
                                           bool default_add_eos) const;

  bool exists = false;
  std::string source = "tokenizer_config.json";  // names it in messages
  std::string tokenizer_class;
  std::optional<bool> add_bos_token;
  std::optional<bool> add_eos_token;
  std::optional<std::string> bos_token;
  std::optional<std::string> eos_token;
  std::optional<std::string> unk_token;
  // Of LlamaTokenizer: whether every part of a text between special tokens is taken for a text of
  // its own, as the first versions did, or the first part alone is.
  bool legacy = true;
  bool add_prefix_space = true;
  std::vector<AddedToken> added_tokens;  // added_tokens_decoder, by id
};

}  // namespace sluice
