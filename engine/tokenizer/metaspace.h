// Metaspace: spaces written as a visible character, U+2581 in the models in use.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace sluice {

struct Metaspace {
  enum class Prepend { kFirst, kAlways, kNever };

  std::string replacement;  // one character
  Prepend prepend;
  bool split;
};

// Reads the object that stands for it as pre-tokenizer and as decoder.
absl::StatusOr<Metaspace> ParseMetaspace(const nlohmann::json& value, const std::string& path);

}  // namespace sluice
