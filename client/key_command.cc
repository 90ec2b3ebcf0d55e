#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <string>

#include "client/api_key.h"
#include "client/command.h"

namespace sluice {
namespace {

constexpr size_t kMaxNameBytes = 64;  // as the server has it
// Metrics call by this name the tenants that are too many to be named; the server refuses it.
constexpr char kReservedTenant[] = "other";

bool IsName(const std::string& text) {
  constexpr char kAllowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return text.size() <= kMaxNameBytes && text.find_first_not_of(kAllowed) == std::string::npos;
}

}  // namespace

int RunKey(absl::Span<const std::string> args, const Environment& environment) {
  std::string tenant;
  std::string name;
  Invocation line = {"key", "--tenant NAME [--name NAME]",
                     "Makes a random API key and prints two lines: the key, which is for whoever\n"
                     "calls and is stored nowhere, and its entry in the server's key file, which\n"
                     "holds the key's SHA-256 alone. Works without a server."};
  line.options.Section("Options");
  line.options.Text("tenant", "NAME", &tenant,
                    "Whose key it is: 1 to 64 of [a-zA-Z0-9._-], not \"other\". Logs and metrics "
                    "show it.");
  line.options.Text("name", "NAME", &name,
                    "Of the key among its tenant's, likewise. Logs show it. Default: none.");
  const std::optional<int> over = ParseOrExplain(args, &line, environment);
  if (over.has_value()) return *over;
  if (!line.operands.empty()) return UsageError(line, "takes no operand", environment);
  if (tenant.empty() || !IsName(tenant)) {
    return UsageError(line, "--tenant must be 1 to 64 of [a-zA-Z0-9._-]", environment);
  }
  if (tenant == kReservedTenant) {
    return UsageError(
        line,
        "--tenant must not be \"other\": metrics call by this name those that are too "
        "many to be named",
        environment);
  }
  if (!IsName(name)) {
    return UsageError(line, "--name must be at most 64 of [a-zA-Z0-9._-]", environment);
  }
  const std::string key = NewApiKey();
  nlohmann::ordered_json entry;
  if (!name.empty()) entry["name"] = name;
  entry["tenant"] = tenant;
  entry["sha256"] = Sha256Digits(key);
  environment.out << key << "\n" << entry.dump() << "\n";
  return FinishOutput(environment);
}

}  // namespace sluice
