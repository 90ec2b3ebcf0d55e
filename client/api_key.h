// API keys, as who calls a server holds them: a line in a file.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace sluice {

// A new one: "sl_" and 43 characters of base64url, which are 32 random bytes.
std::string NewApiKey();

// What the server's key file has in its place: 64 hexadecimal digits.
std::string Sha256Digits(const std::string& key);

// The key that stands in a file, without the line's end. NotFound and InvalidArgument name the file
// and never what is in it: a key is 1 to 1024 bytes of printable ASCII without spaces.
absl::StatusOr<std::string> ReadApiKey(const std::string& path);

}  // namespace sluice
