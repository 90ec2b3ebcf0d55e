#include "server/request_id.h"

#include "absl/strings/str_cat.h"
#include "engine/sequence.h"

namespace sluice {
namespace {

constexpr char kRequestIdKey[] = "x-request-id";

RequestId Checked(const std::string& id, const char* field) {
  RequestId result;
  result.id = IdForLogs(id);
  if (id.empty() || IsFitForLogs(id)) return result;
  result.status = absl::InvalidArgumentError(absl::StrCat(
      field, " must be at most ", kMaxRequestIdBytes, " bytes of printable ASCII without spaces"));
  return result;
}

}  // namespace

RequestId ResolveRequestId(const std::string& named, const CallMetadata& metadata) {
  if (!named.empty()) return Checked(named, "request_id");
  if (metadata.count(kRequestIdKey) > 1) {
    return {IdForLogs(""), absl::InvalidArgumentError("x-request-id metadata is there twice")};
  }
  const std::string id(OnlyValue(metadata, kRequestIdKey).value_or(""));
  return Checked(id, "x-request-id metadata");
}

}  // namespace sluice
