// RWKV's world vocabulary: tokens of bytes, of which each time the longest that the text goes on
// with is taken.
//
// A line of the file is `INDEX LITERAL LENGTH`: the token's id, from 1 on; its bytes as a literal
// of Python, of str ('..', "..") or of bytes (b'..', b".."); and the number of its bytes. Id 0 is
// not in the file and stands for the end of a text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/parts.h"
#include "engine/tokenizer/tokenizer_config.h"

namespace sluice {

// The names that the vocabulary may have in a model directory.
std::vector<std::string> RwkvVocabularyNames(const TokenizerConfig& config);

// `source` names the file in messages. InvalidArgument with line, what is wrong and the limit when
// the file is broken, or lacks one of the 256 bytes as a token, so that some text had no tokens.
absl::StatusOr<std::unique_ptr<const TokenizerParts>> ParseRwkv(std::string_view file,
                                                                const std::string& source,
                                                                const TokenizerConfig& config);

// The bytes that a literal of Python stands for, as above. InvalidArgument saying what is wrong
// with it: quotes, an escape that repr() does not write, a surrogate, text that is not UTF-8.
absl::StatusOr<std::string> ParsePythonLiteral(std::string_view literal);

}  // namespace sluice
