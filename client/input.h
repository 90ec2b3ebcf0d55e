// What a command works on: a text or token ids, from the command line, a file or standard input.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/request.h"

namespace sluice {

struct InputOptions {
  std::string file;
  std::string token_ids;  // a list or a file, as for ReadTokenIds
};

// Says what is wrong if the operands and options do not name exactly one input; empty if they do.
std::string CheckOneInput(absl::Span<const std::string> operands, const InputOptions& options);

// Sets the request's text or token_ids. An operand is the text itself, or "-" for standard input.
// NotFound and InvalidArgument name the file.
absl::Status ReadInput(absl::Span<const std::string> operands, const InputOptions& options,
                       std::istream& in, Request* request);

// Reads "1,2,3", or a JSON file that holds [1, 2, 3] or {"token_ids": [1, 2, 3]}.
absl::StatusOr<std::vector<int64_t>> ReadTokenIds(absl::string_view list_or_file);

}  // namespace sluice
