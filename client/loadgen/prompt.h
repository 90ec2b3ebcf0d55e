// What a request of a load begins with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sluice {

struct Prompt {
  std::optional<std::string> text;  // else token_ids
  std::vector<uint32_t> token_ids;
  std::optional<int64_t> max_tokens;  // of the answer, where the prompt file says so
};

}  // namespace sluice
