// SentencePiece's `tokenizer.model`, used as Hugging Face's LlamaTokenizer uses it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/tokenizer/parts.h"
#include "engine/tokenizer/tokenizer_config.h"

namespace sluice {

// `source` names the file in messages. A text is cut at the added tokens and at bos, eos and
// unknown token; what is between them gives the ids of the `sentencepiece` package. Bos is put in
// front, and eos is not, unless the configuration says otherwise. InvalidArgument naming what is
// refused: see SentencePieceFile, and other classes of tokenizers than LlamaTokenizer.
absl::StatusOr<std::unique_ptr<const TokenizerParts>> ParseSentencePiece(
    std::string_view file, const std::string& source, const TokenizerConfig& config);

}  // namespace sluice
