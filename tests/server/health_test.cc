#include "server/health.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/server/fake_engine.h"
#include "tests/server/test_server.h"

namespace sluice {
namespace {

constexpr const char* kServices[] = {"", "sluice.v1.GenerationService", "sluice.v1.ModelService"};

void ExpectAll(const std::shared_ptr<grpc::Channel>& channel, const std::string& expected) {
  for (const char* service : kServices) {
    EXPECT_EQ(CheckHealth(channel, service), expected) << "'" << service << "'";
  }
}

// Whether health comes to say so within some seconds.
bool Becomes(const std::shared_ptr<grpc::Channel>& channel, const std::string& expected) {
  for (int i = 0; i < 1000; ++i) {
    if (CheckHealth(channel, "") == expected) return true;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return false;
}

TEST(Health, ServesFromLoadedUntilDraining) {
  const TestServer server;
  const auto channel = server.NewChannel();
  FakeEngine engine;
  Health health(server.server->health());
  ExpectAll(channel, "NOT_SERVING");
  health.StartServing(&engine, absl::Seconds(30));
  ExpectAll(channel, "SERVING");
  health.StartDraining();
  ExpectAll(channel, "NOT_SERVING");
}

TEST(Health, SaysTheSameOnEveryServerThatIsAdded) {
  const TestServer server;
  const auto other = std::make_unique<TestServer>();
  const auto channel = other->NewChannel();
  FakeEngine engine;
  Health health(server.server->health());
  health.Add(other->server->health());
  ExpectAll(channel, "NOT_SERVING");
  health.StartServing(&engine, absl::Seconds(30));
  ExpectAll(channel, "SERVING");
  health.Remove(other->server->health());
  health.StartDraining();
  ExpectAll(channel, "SERVING");
  ExpectAll(server.NewChannel(), "NOT_SERVING");
}

TEST(Health, AnAddedServerSaysWhatIsSoAlready) {
  const TestServer server;
  const TestServer other;
  FakeEngine engine;
  Health health(server.server->health());
  health.StartServing(&engine, absl::Seconds(30));
  health.Add(other.server->health());
  ExpectAll(other.NewChannel(), "SERVING");
}

TEST(Health, UnknownServicesAreNotFound) {
  const TestServer server;
  const Health health(server.server->health());
  EXPECT_EQ(CheckHealth(server.NewChannel(), "no.such.Service"), "NOT_FOUND");
}

TEST(Health, AStuckStepIsSeenAndForgiven) {
  const TestServer server;
  const auto channel = server.NewChannel();
  FakeEngine engine;
  Health health(server.server->health());
  health.StartServing(&engine, absl::Milliseconds(200));
  engine.SetStepAge(absl::Milliseconds(150));
  absl::SleepFor(absl::Milliseconds(200));
  ExpectAll(channel, "SERVING");
  engine.SetStepAge(absl::Milliseconds(201));
  EXPECT_TRUE(Becomes(channel, "NOT_SERVING"));
  ExpectAll(channel, "NOT_SERVING");
  engine.SetStepAge(absl::ZeroDuration());
  EXPECT_TRUE(Becomes(channel, "SERVING"));
}

TEST(Health, DrainingIsForGood) {
  const TestServer server;
  const auto channel = server.NewChannel();
  FakeEngine engine;
  engine.SetStepAge(absl::Seconds(5));
  Health health(server.server->health());
  health.StartServing(&engine, absl::Milliseconds(100));
  EXPECT_TRUE(Becomes(channel, "NOT_SERVING"));
  health.StartDraining();
  engine.SetStepAge(absl::ZeroDuration());
  absl::SleepFor(absl::Milliseconds(150));
  ExpectAll(channel, "NOT_SERVING");
}

}  // namespace
}  // namespace sluice
