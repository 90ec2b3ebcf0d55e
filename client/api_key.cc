#include "client/api_key.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "kernels/check.h"

namespace sluice {
namespace {

constexpr char kPrefix[] = "sl_";  // by which scanners for lost secrets can know one
constexpr size_t kRandomBytes = 32;
constexpr size_t kMaxKeyBytes = 1024;
constexpr int64_t kMaxFileBytes = 4096;

absl::string_view View(const unsigned char* bytes, size_t count) {
  return {reinterpret_cast<const char*>(bytes), count};
}

}  // namespace

std::string NewApiKey() {
  std::array<unsigned char, kRandomBytes> bytes = {};
  SLUICE_CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
  return absl::StrCat(kPrefix, absl::WebSafeBase64Escape(View(bytes.data(), bytes.size())));
}

std::string Sha256Digits(const std::string& key) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash = {};
  unsigned int bytes = 0;
  SLUICE_CHECK(EVP_Digest(key.data(), key.size(), hash.data(), &bytes, EVP_sha256(), nullptr) == 1);
  return absl::BytesToHexString(View(hash.data(), bytes));
}

absl::StatusOr<std::string> ReadApiKey(const std::string& path) {
  SLUICE_ASSIGN_OR_RETURN(std::string key, ReadWholeFile(path, kMaxFileBytes));
  absl::StripTrailingAsciiWhitespace(&key);
  // gRPC ends the process for metadata that it cannot send.
  const bool fit = !key.empty() && key.size() <= kMaxKeyBytes &&
                   std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (fit) return key;
  return absl::InvalidArgumentError(absl::StrCat(path, " must hold one line, an API key of 1 to ",
                                                 kMaxKeyBytes,
                                                 " bytes of printable ASCII without spaces"));
}

}  // namespace sluice
