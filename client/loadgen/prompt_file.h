// Prompts from a file.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/loadgen/prompt.h"

namespace sluice {

// A file whose name ends in .jsonl holds an object a line, {"text": "..."} or
// {"token_ids": [1, 2]}, each with "max_tokens" if it wants; any other file a prompt a line. Empty
// lines are passed over. NotFound if there is no such file; InvalidArgument names the line, or says
// that there is no prompt in it.
absl::StatusOr<std::vector<Prompt>> ReadPromptFile(const std::string& path);

}  // namespace sluice
