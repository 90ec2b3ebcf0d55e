#include "server/server_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/flags/reflection.h"

namespace sluice {
namespace {

using testing::HasSubstr;

// Flags are global: each test starts from their defaults.
class ServerConfigTest : public testing::Test {
 protected:
  static std::string Error(const std::vector<std::string>& arguments) {
    const absl::FlagSaver saver;
    const auto result = ParseCommandLine(arguments);
    return result.ok() ? "OK" : std::string(result.status().message());
  }

 private:
  absl::FlagSaver saver_;
};

TEST_F(ServerConfigTest, DefaultsServeOnLoopback) {
  const auto result = ParseCommandLine({"--model=/m"});
  ASSERT_TRUE(result.ok()) << result.status();
  const ServerConfig& config = result->config;
  EXPECT_EQ(result->action, CommandLine::Action::kServe);
  EXPECT_EQ(config.engine.model_dir, "/m");
  EXPECT_EQ(config.listen, "127.0.0.1:50051");
  EXPECT_EQ(config.metrics_listen, "127.0.0.1:9464");
  EXPECT_EQ(config.drain_limit, absl::Seconds(30));
  EXPECT_EQ(config.stuck_after, absl::Seconds(30));
  EXPECT_EQ(config.api_keys, "");
  EXPECT_EQ(config.reload_interval, absl::Seconds(10));
  EXPECT_EQ(config.client_rate, 0);
  EXPECT_EQ(config.max_client_requests, 512);
  EXPECT_EQ(config.log_format, LogFormat::kText);
}

TEST_F(ServerConfigTest, FlagDefaultsAreTheEnginesOwn) {
  const EngineConfig expected;
  const EngineConfig actual = ParseCommandLine({"--model=/m"})->config.engine;
  EXPECT_EQ(actual.device, expected.device);
  EXPECT_EQ(actual.dtype, expected.dtype);
  EXPECT_EQ(actual.weight_type, expected.weight_type);
  EXPECT_EQ(actual.threads, expected.threads);
  EXPECT_EQ(actual.deterministic, expected.deterministic);
  EXPECT_EQ(actual.state_type, expected.state_type);
  EXPECT_EQ(actual.state_ring, expected.state_ring);
  EXPECT_EQ(actual.state_slots, expected.state_slots);
  EXPECT_EQ(actual.max_waiting, expected.max_waiting);
  EXPECT_EQ(actual.max_waiting_tokens, expected.max_waiting_tokens);
  EXPECT_EQ(actual.max_queue_time, expected.max_queue_time);
  EXPECT_EQ(actual.max_prompt_tokens, expected.max_prompt_tokens);
  EXPECT_EQ(actual.max_output_tokens, expected.max_output_tokens);
  EXPECT_EQ(actual.max_text_bytes, expected.max_text_bytes);
  EXPECT_EQ(actual.max_step_tokens, expected.max_step_tokens);
  EXPECT_EQ(actual.memory_fraction, expected.memory_fraction);
  EXPECT_EQ(actual.stall_limit, expected.stall_limit);
}

TEST_F(ServerConfigTest, FlagDefaultsAreTheConfigsOwn) {
  const ServerConfig expected;
  const ServerConfig actual = ParseCommandLine({"--model=/m"})->config;
  EXPECT_EQ(actual.admin_listen, expected.admin_listen);
  EXPECT_EQ(actual.max_connections, expected.max_connections);
  EXPECT_EQ(actual.max_streams, expected.max_streams);
  EXPECT_EQ(actual.max_message_bytes, expected.max_message_bytes);
  EXPECT_EQ(actual.max_metadata_bytes, expected.max_metadata_bytes);
  EXPECT_EQ(actual.keepalive, expected.keepalive);
  EXPECT_EQ(actual.max_connection_idle, expected.max_connection_idle);
  EXPECT_EQ(actual.max_connection_age, expected.max_connection_age);
  EXPECT_EQ(actual.handshake_limit, expected.handshake_limit);
  EXPECT_EQ(actual.tls_cert, "");
  EXPECT_EQ(actual.reload_interval, expected.reload_interval);
  EXPECT_EQ(actual.max_client_requests, expected.max_client_requests);
  EXPECT_EQ(actual.reflection, expected.reflection);
  EXPECT_EQ(actual.drain_limit, expected.drain_limit);
}

TEST_F(ServerConfigTest, LimitsOfConnectionsAndTheQueueReachTheConfig) {
  const auto good = ParseCommandLine(
      {"--model=/m", "--admin-listen=unix:/a", "--max-waiting-tokens=21", "--max-queue-time=22s",
       "--max-connections=23", "--max-message-bytes=24", "--max-metadata-bytes=2500",
       "--max-connection-idle=26s", "--max-connection-age=27s", "--handshake-limit=28s",
       "--tls-cert=/c", "--tls-key=/k", "--tls-client-ca=/ca", "--reflection=false"});
  ASSERT_TRUE(good.ok()) << good.status();
  const ServerConfig& config = good->config;
  EXPECT_EQ(config.admin_listen, "unix:/a");
  EXPECT_EQ(config.engine.max_waiting_tokens, 21);
  EXPECT_EQ(config.engine.max_queue_time, absl::Seconds(22));
  EXPECT_EQ(config.max_connections, 23);
  EXPECT_EQ(config.max_message_bytes, 24);
  EXPECT_EQ(config.max_metadata_bytes, 2500);
  EXPECT_EQ(config.max_connection_idle, absl::Seconds(26));
  EXPECT_EQ(config.max_connection_age, absl::Seconds(27));
  EXPECT_EQ(config.handshake_limit, absl::Seconds(28));
  EXPECT_EQ(config.tls_cert, "/c");
  EXPECT_EQ(config.tls_key, "/k");
  EXPECT_EQ(config.tls_client_ca, "/ca");
  EXPECT_FALSE(config.reflection);
}

TEST_F(ServerConfigTest, EveryFlagReachesTheConfig) {
  const auto result = ParseCommandLine({"--model",
                                        "/m",
                                        "--model-name=n",
                                        "--listen=[::1]:1",
                                        "--metrics_listen=",
                                        "--device=cpu",
                                        "--dtype=bfloat16",
                                        "--weight-type=fp8",
                                        "--threads=2",
                                        "--deterministic=false",
                                        "--state-type=int8",
                                        "--state-ring=16",
                                        "--slots=3",
                                        "--max-waiting=4",
                                        "--max-prompt-tokens=5",
                                        "--max-output-tokens=6",
                                        "--max-text-bytes=7",
                                        "--max-step-tokens=65",
                                        "--memory-fraction=0.5",
                                        "--max-streams=9",
                                        "--keepalive=10s",
                                        "--api-keys=/k",
                                        "--reload-interval=13s",
                                        "--client-rate=1.5",
                                        "--max-client-requests=14",
                                        "--stall-limit=11s",
                                        "--drain-limit=0s",
                                        "--stuck-after=12s",
                                        "--log-format=json",
                                        "--log-level=error"});
  ASSERT_TRUE(result.ok()) << result.status();
  const ServerConfig& config = result->config;
  EXPECT_EQ(config.engine.model_name, "n");
  EXPECT_EQ(config.listen, "[::1]:1");
  EXPECT_EQ(config.metrics_listen, "");
  EXPECT_EQ(config.engine.device, "cpu");
  EXPECT_EQ(config.engine.dtype, "bfloat16");
  EXPECT_EQ(config.engine.weight_type, "fp8");
  EXPECT_EQ(config.engine.threads, 2);
  EXPECT_EQ(config.engine.deterministic, "false");
  EXPECT_EQ(config.engine.state_type, "int8");
  EXPECT_EQ(config.engine.state_ring, 16);
  EXPECT_EQ(config.engine.state_slots, 3);
  EXPECT_EQ(config.engine.max_waiting, 4);
  EXPECT_EQ(config.engine.max_prompt_tokens, 5);
  EXPECT_EQ(config.engine.max_output_tokens, 6);
  EXPECT_EQ(config.engine.max_text_bytes, 7);
  EXPECT_EQ(config.engine.max_step_tokens, 65);
  EXPECT_EQ(config.engine.memory_fraction, 0.5);
  EXPECT_EQ(config.max_streams, 9);
  EXPECT_EQ(config.keepalive, absl::Seconds(10));
  EXPECT_EQ(config.engine.stall_limit, absl::Seconds(11));
  EXPECT_EQ(config.api_keys, "/k");
  EXPECT_EQ(config.reload_interval, absl::Seconds(13));
  EXPECT_EQ(config.client_rate, 1.5);
  EXPECT_EQ(config.max_client_requests, 14);
  EXPECT_EQ(config.drain_limit, absl::ZeroDuration());
  EXPECT_EQ(config.stuck_after, absl::Seconds(12));
  EXPECT_EQ(config.log_format, LogFormat::kJson);
  EXPECT_EQ(config.log_level, LogLevel::kError);
}

TEST_F(ServerConfigTest, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(Error({"--model=/m", "--no-such-flag=1"}),
            "unknown flag --no-such-flag; --help lists all");
  EXPECT_THAT(Error({"/m"}), HasSubstr("unexpected argument '/m'"));
  EXPECT_THAT(Error({"--model=/m", "-v"}), HasSubstr("unexpected argument '-v'"));
  EXPECT_THAT(Error({"--model=/m", "--"}), HasSubstr("unexpected argument '--'"));
  // Abseil's own flags would read files and the environment.
  EXPECT_THAT(Error({"--model=/m", "--fromenv=listen"}), HasSubstr("unknown flag --fromenv"));
  EXPECT_THAT(Error({"--model=/m", "--flagfile=/etc/passwd"}),
              HasSubstr("unknown flag --flagfile"));
}

TEST_F(ServerConfigTest, RefusesValuesByTheFlagsName) {
  EXPECT_THAT(Error({}), HasSubstr("--model is required"));
  EXPECT_EQ(Error({"--model"}), "--model needs a value");
  EXPECT_THAT(Error({"--model=/m", "--slots=many"}), HasSubstr("--slots=many: not valid"));
  EXPECT_THAT(Error({"--model=/m", "--slots=5000"}), HasSubstr("--slots is 5000"));
  EXPECT_THAT(Error({"--model=/m", "--weight-type=int4"}),
              HasSubstr("--weight-type is \"int4\"; it must be checkpoint or fp8"));
  EXPECT_THAT(Error({"--model=/m", "--memory-fraction=nan"}),
              HasSubstr("--memory-fraction is nan"));
  EXPECT_THAT(Error({"--model=/m", "--max-waiting=-1"}), HasSubstr("--max-waiting is -1"));
  EXPECT_THAT(Error({"--model=/m", "--listen=localhost"}), HasSubstr("--listen=localhost"));
  EXPECT_THAT(Error({"--model=/m", "--listen=:1:70000"}), HasSubstr("0 to 65535"));
  EXPECT_THAT(Error({"--model=/m", "--metrics-listen=x"}), HasSubstr("--metrics-listen=x"));
  EXPECT_THAT(Error({"--model=/m", "--max-streams=0"}), HasSubstr("--max-streams=0"));
  EXPECT_THAT(Error({"--model=/m", "--keepalive=0s"}), HasSubstr("--keepalive=0 is outside"));
  EXPECT_THAT(Error({"--model=/m", "--reload-interval=10ms"}), HasSubstr("--reload-interval=10ms"));
  EXPECT_THAT(Error({"--model=/m", "--client-rate=-1"}),
              HasSubstr("--client-rate=-1 is neither 0"));
  EXPECT_THAT(Error({"--model=/m", "--client-rate=nan"}), HasSubstr("--client-rate=nan"));
  EXPECT_THAT(Error({"--model=/m", "--client-rate=1e7"}), HasSubstr("[0.001, 1000000]"));
  EXPECT_THAT(Error({"--model=/m", "--max-client-requests=-1"}),
              HasSubstr("--max-client-requests=-1 is outside"));
  EXPECT_THAT(Error({"--model=/m", "--drain-limit=-1s"}), HasSubstr("--drain-limit=-1s"));
  EXPECT_THAT(Error({"--model=/m", "--drain-limit=inf"}), HasSubstr("--drain-limit=inf"));
  EXPECT_THAT(Error({"--model=/m", "--stuck-after=1ms"}), HasSubstr("--stuck-after=1ms"));
  EXPECT_THAT(Error({"--model=/m", "--stall-limit=0s"}), HasSubstr("--stall-limit"));
  EXPECT_THAT(Error({"--model=/m", "--log-format=xml"}), HasSubstr("--log-format=xml"));
  EXPECT_THAT(Error({"--model=/m", "--log-level=all"}), HasSubstr("--log-level=all"));
  EXPECT_THAT(Error({"--model=/m", "--device=tpu"}), HasSubstr("--device"));
}

TEST_F(ServerConfigTest, UnixSocketsNeedNoPort) {
  EXPECT_EQ(Error({"--model=/m", "--listen=unix:/tmp/s"}), "OK");
}

TEST_F(ServerConfigTest, HelpAndVersionNeedNoModel) {
  EXPECT_EQ(ParseCommandLine({"--help"})->action, CommandLine::Action::kHelp);
  EXPECT_EQ(ParseCommandLine({"--slots=1", "--version"})->action, CommandLine::Action::kVersion);
}

TEST_F(ServerConfigTest, HelpAndStartListEveryFlag) {
  ASSERT_TRUE(ParseCommandLine({"--model=/m", "--slots=7"}).ok());
  const auto values = FlagValues();
  size_t defined = 0;
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (flag->Filename().find("server/server_config.cc") != std::string::npos) ++defined;
  }
  EXPECT_EQ(values.size(), defined) << "a flag is defined but not listed";
  const std::string help = HelpText();
  for (const auto& [flag, value] : values) {
    EXPECT_THAT(help, HasSubstr("  " + flag));
    if (flag == "--slots") {
      EXPECT_EQ(value, "7");
    }
  }
}

}  // namespace
}  // namespace sluice
