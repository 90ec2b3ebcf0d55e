// What a call brings beside its message, of any bytes, through the gate, with and without API keys:
// let in or refused with a code and a reason, named for the logs by what is fit for them, and no
// longer counted once it is over. The first byte chooses the method, the first line is the peer,
// every further one a header: "traceparent: 00-...".
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "engine/sequence.h"
#include "kernels/check.h"
#include "server/api_key_file.h"
#include "server/client_address.h"
#include "server/gate.h"
#include "tests/engine/safetensors_writer.h"

namespace sluice {
namespace {

// The hashes of "k" and "l".
constexpr const char* kKeys = R"({"keys": [
  {"tenant": "acme", "methods": ["Generate"], "max_requests": 1, "requests_per_second": 1000000,
   "sha256": "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"},
  {"tenant": "late", "not_after": "2001-01-01T00:00:00Z",
   "sha256": "acac86c0e609ca906f632b0e2dacccb2b77d22b0621f20ebece1a4835b93f6f0"}]})";

class Observer final : public RefusalObserver {
 public:
  void OnRefusal(const Refusal& refusal) override { last = refusal; }

  std::optional<Refusal> last;
};

std::unique_ptr<ApiKeyFile> Keys() {
  const ScratchDirectory directory;
  const auto path = directory.Write("keys.json", kKeys);
  auto keys = ApiKeyFile::Open(path, absl::Hours(24), [](const auto& /*result*/) {});
  SLUICE_CHECK(keys.ok());
  return *std::move(keys);
}

bool IsLowerHex(std::string_view text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

void CheckOrigin(const Origin& origin) {
  if (origin.trace_id.empty()) {
    SLUICE_CHECK(origin.parent_span_id.empty());
    return;
  }
  SLUICE_CHECK(IsLowerHex(origin.trace_id, 32) && IsLowerHex(origin.parent_span_id, 16));
  SLUICE_CHECK(IsLowerHex(origin.span_id, 16));
}

void CheckPass(const Pass& pass, bool has_keys) {
  SLUICE_CHECK(IsFitForLogs(pass.request_id.id));
  SLUICE_CHECK(pass.request_id.status.ok() ||
               pass.request_id.status.code() == absl::StatusCode::kInvalidArgument);
  CheckOrigin(pass.origin);
  const absl::StatusCode code = pass.status.code();
  SLUICE_CHECK(code == absl::StatusCode::kOk || !pass.status.message().empty());
  if (!has_keys) {
    SLUICE_CHECK(code == absl::StatusCode::kOk && pass.origin.tenant.empty());
    return;
  }
  SLUICE_CHECK(code == absl::StatusCode::kUnauthenticated ||
               (pass.origin.tenant == "acme" &&
                (code == absl::StatusCode::kOk || code == absl::StatusCode::kPermissionDenied ||
                 code == absl::StatusCode::kResourceExhausted)));
}

CallMetadata Parse(const std::vector<absl::string_view>& lines) {
  CallMetadata metadata;
  for (const absl::string_view line : lines) {
    const size_t colon = std::min(line.find(": "), line.size());
    const size_t value = std::min(colon + 2, line.size());
    metadata.emplace(grpc::string_ref(line.data(), colon),
                     grpc::string_ref(line.data() + value, line.size() - value));
  }
  return metadata;
}

void Enter(Gate* gate, Observer* observer, bool has_keys, CallMethod method,
           const CallMetadata& metadata, const std::string& peer) {
  const std::string client = has_keys ? "tenant:acme" : ClientOfPeer(peer);
  observer->last.reset();
  {
    const Pass pass = gate->Enter(method, metadata, peer);
    CheckPass(pass, has_keys);
    SLUICE_CHECK(observer->last.has_value() == !pass.status.ok());
    // All that the first asks for is there for a call while it is under way.
    const Pass second = gate->Enter(method, metadata, peer);
    SLUICE_CHECK(!has_keys || !second.status.ok());
  }
  SLUICE_CHECK(gate->calls_of(client) == 0);
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static sluice::Observer observer;
  static const std::unique_ptr<sluice::ApiKeyFile> keys = sluice::Keys();
  static sluice::Gate with_keys({}, keys.get(), &observer);
  static sluice::Gate without_keys({}, nullptr, &observer);
  if (size == 0) return 0;
  const auto method = static_cast<sluice::CallMethod>(data[0] % sluice::kCallMethodNames.size());
  const std::vector<absl::string_view> lines =
      absl::StrSplit(absl::string_view(reinterpret_cast<const char*>(data) + 1, size - 1), '\n');
  const std::string peer(lines[0]);
  const sluice::CallMetadata metadata = sluice::Parse({lines.begin() + 1, lines.end()});
  sluice::Enter(&with_keys, &observer, true, method, metadata, peer);
  sluice::Enter(&without_keys, &observer, false, method, metadata, peer);
  return 0;
}
