// Unicode normalization form C.
#pragma once

#include <string>
#include <string_view>

namespace sluice {

// Canonical decomposition, ordering and composition (Unicode standard, section 3.11), with the
// character data of the `tokenizers` package. `text` is valid UTF-8. O(n log n).
std::string ToNfc(std::string_view text);

}  // namespace sluice
