#include "server/config_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// What is wrong with the defaults after a change.
std::string Error(const std::function<void(ServerConfig*)>& change) {
  ServerConfig config;
  config.engine.model_dir = "/m";
  change(&config);
  const absl::Status status = CheckServerConfig(config);
  return status.ok() ? "OK" : std::string(status.message());
}

std::string AdminError(const std::string& address) {
  return Error([&](ServerConfig* config) { config->admin_listen = address; });
}

TEST(ConfigChecks, TheDefaultsAreFine) {
  EXPECT_EQ(Error([](ServerConfig*) {}), "OK");
}

TEST(ConfigChecks, RefusesLimitsOutOfRange) {
  EXPECT_EQ(Error([](auto* config) { config->max_connections = 0; }),
            "--max-connections=0 is outside [1, 1000000]");
  EXPECT_EQ(Error([](auto* config) { config->max_connections = 1'000'001; }),
            "--max-connections=1000001 is outside [1, 1000000]");
  EXPECT_THAT(Error([](auto* config) { config->max_message_bytes = -1; }),
              StartsWith("--max-message-bytes=-1 is outside [0, "));
  EXPECT_THAT(Error([](auto* config) { config->max_message_bytes = int64_t{1} << 31; }),
              StartsWith("--max-message-bytes=2147483648 is outside"));
  EXPECT_THAT(Error([](auto* config) { config->max_metadata_bytes = 1023; }),
              StartsWith("--max-metadata-bytes=1023 is outside [1024, "));
  EXPECT_THAT(Error([](auto* config) { config->handshake_limit = absl::InfiniteDuration(); }),
              StartsWith("--handshake-limit=inf is outside"));
  EXPECT_THAT(Error([](auto* config) { config->handshake_limit = absl::ZeroDuration(); }),
              StartsWith("--handshake-limit=0 is outside"));
  EXPECT_THAT(Error([](auto* config) { config->engine.max_waiting_tokens = 0; }),
              StartsWith("--max-waiting-tokens is 0"));
  EXPECT_THAT(Error([](auto* config) { config->engine.max_queue_time = absl::ZeroDuration(); }),
              StartsWith("--max-queue-time is 0"));
}

TEST(ConfigChecks, ConnectionsMayLiveForEver) {
  const auto set = [](absl::Duration limit) {
    return Error([limit](auto* config) { config->max_connection_idle = limit; });
  };
  EXPECT_EQ(set(absl::InfiniteDuration()), "OK");
  EXPECT_EQ(set(absl::Hours(24)), "OK");
  EXPECT_THAT(set(absl::Hours(25)), StartsWith("--max-connection-idle=25h is outside"));
  EXPECT_THAT(set(absl::Milliseconds(999)), StartsWith("--max-connection-idle=999ms is outside"));
  EXPECT_THAT(Error([](auto* config) { config->max_connection_age = absl::ZeroDuration(); }),
              StartsWith("--max-connection-age=0 is outside"));
}

TEST(ConfigChecks, ACertificateNeedsItsKey) {
  EXPECT_THAT(Error([](auto* config) { config->tls_cert = "/c"; }),
              StartsWith("--tls-cert needs --tls-key"));
  EXPECT_THAT(Error([](auto* config) { config->tls_key = "/k"; }),
              StartsWith("--tls-key needs --tls-cert"));
  EXPECT_THAT(Error([](auto* config) { config->tls_client_ca = "/ca"; }),
              StartsWith("--tls-client-ca needs --tls-cert"));
  EXPECT_EQ(Error([](auto* config) {
              config->tls_cert = "/c";
              config->tls_key = "/k";
            }),
            "OK");
}

TEST(ConfigChecks, TheAdminServiceIsForThisMachineAlone) {
  for (const char* address : {"unix:/a", "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1"}) {
    EXPECT_EQ(AdminError(address), "OK") << address;
  }
  for (const char* address :
       {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "host:1", "127.0.0.1.evil.example:1", "[::2]:1"}) {
    EXPECT_THAT(AdminError(address), HasSubstr("the admin service needs --tls-client-ca"))
        << address;
  }
  EXPECT_THAT(AdminError("127.0.0.1"), StartsWith("--admin-listen=127.0.0.1: not host:port"));
}

TEST(ConfigChecks, KeysWithoutTlsAreForThisMachine) {
  ServerConfig config;
  config.listen = "0.0.0.0:50051";
  EXPECT_FALSE(ShowsKeysInPlaintext(config));
  config.api_keys = "keys";
  EXPECT_TRUE(ShowsKeysInPlaintext(config));
  for (const char* here : {"127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/sluice"}) {
    config.listen = here;
    EXPECT_FALSE(ShowsKeysInPlaintext(config)) << here;
  }
  config.listen = "10.0.0.1:1";
  config.tls_cert = "cert";
  EXPECT_FALSE(ShowsKeysInPlaintext(config));
}

TEST(ConfigChecks, UnlessItsCallersShowACertificate) {
  EXPECT_EQ(Error([](auto* config) {
              config->admin_listen = "0.0.0.0:1";
              config->tls_cert = "/c";
              config->tls_key = "/k";
              config->tls_client_ca = "/ca";
            }),
            "OK");
  EXPECT_THAT(Error([](auto* config) {
                config->admin_listen = "0.0.0.0:1";
                config->tls_cert = "/c";
                config->tls_key = "/k";
              }),
              HasSubstr("--tls-client-ca"));
}

}  // namespace
}  // namespace sluice
