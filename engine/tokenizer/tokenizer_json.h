// Hugging Face's `tokenizer.json`.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/tokenizer/parts.h"

namespace sluice {

// `source` names the file in messages. InvalidArgument naming what is refused.
absl::StatusOr<std::unique_ptr<const TokenizerParts>> ParseTokenizerJson(std::string_view json,
                                                                         const std::string& source);

}  // namespace sluice
