#include "engine/tokenizer/metaspace.h"

#include <nlohmann/json.hpp>

#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/utf8.h"

namespace sluice {

absl::StatusOr<Metaspace> ParseMetaspace(const nlohmann::json& value, const std::string& path) {
  JsonReader reader(value, path);
  reader.Ignore({"type", "str_rep"});
  Metaspace metaspace;
  metaspace.replacement = reader.String("replacement", "");
  const std::string& replacement = metaspace.replacement;
  if (replacement.empty() || Utf8At(replacement, 0).bytes != replacement.size()) {
    reader.Refuse("replacement", "it must be one character");
  }
  metaspace.split = !reader.Has("split") || reader.Bool("split", true);
  const std::string prepend = reader.String("prepend_scheme", "always");
  if (prepend == "first") {
    metaspace.prepend = Metaspace::Prepend::kFirst;
  } else if (prepend == "always") {
    metaspace.prepend = Metaspace::Prepend::kAlways;
  } else {
    metaspace.prepend = Metaspace::Prepend::kNever;
    if (prepend != "never") {
      reader.Refuse("prepend_scheme", "it must be \"first\", \"always\" or \"never\"");
    }
  }
  // Older files have this key. Hugging Face refuses the same contradiction.
  const bool prefix = !reader.Has("add_prefix_space") || reader.Bool("add_prefix_space", true);
  if (!prefix && metaspace.prepend != Metaspace::Prepend::kNever) {
    reader.Refuse("add_prefix_space", "prepend_scheme says otherwise");
  }
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  return metaspace;
}

}  // namespace sluice
