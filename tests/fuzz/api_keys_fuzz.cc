// A file of API keys of any bytes: refused without repeating a hash, or read. What is behind a zero
// byte is a key that a call brings: it finds the entry of its hash, which is within its limits, or
// none.
#include "server/api_keys.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/strings/ascii.h"
#include "kernels/check.h"

namespace sluice {
namespace {

constexpr size_t kHashDigits = 64;

bool IsHash(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return absl::ascii_isxdigit(c); });
}

// Of each run of digits one hash is looked for, which finds the run if it is repeated whole.
void CheckRefusal(const absl::Status& status, std::string_view file) {
  SLUICE_CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  const std::string_view message(status.message().data(), status.message().size());
  for (size_t at = 0; at + kHashDigits <= file.size();) {
    const std::string_view digits = file.substr(at, kHashDigits);
    const bool is_hash = IsHash(digits);
    SLUICE_CHECK(!is_hash || message.find(digits) == std::string_view::npos);
    at += is_hash ? kHashDigits : 1;
  }
}

void CheckKey(const ApiKey& key) {
  SLUICE_CHECK(!key.tenant.empty() && key.tenant.size() <= 64 && key.tenant != "other");
  SLUICE_CHECK(key.name.size() <= 64 && key.methods.any());
  SLUICE_CHECK(key.id.size() == kHashDigits && IsHash(key.id));
  SLUICE_CHECK(key.requests_per_second >= 0 && key.requests_per_second <= 1e6);
  SLUICE_CHECK(key.max_requests >= 0 && key.max_requests <= 1'000'000);
  SLUICE_CHECK(key.limits.max_prompt_tokens >= 1 && key.limits.max_output_tokens >= 1);
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const std::string_view file = input.substr(0, zero);
  const std::string_view given =
      zero == std::string_view::npos ? std::string_view() : input.substr(zero + 1);
  const auto keys = sluice::ApiKeys::Parse(file, "keys.json");
  if (!keys.ok()) {
    sluice::CheckRefusal(keys.status(), file);
    return 0;
  }
  SLUICE_CHECK(keys->size() <= sluice::ApiKeys::kMaxKeys);
  SLUICE_CHECK(keys->Find("") == nullptr);
  const sluice::ApiKey* found = keys->Find(given);
  if (found == nullptr) return 0;
  sluice::CheckKey(*found);
  SLUICE_CHECK(found->hash == sluice::HashKey(given));
  return 0;
}
