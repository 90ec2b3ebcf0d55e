#include "server/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/engine/safetensors_writer.h"
#include "tests/server/key_entry.h"
#include "tests/server/test_server.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kPeer[] = "ipv4:192.0.2.1:5";
constexpr char kTraceparent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

class GateTest : public testing::Test {
 protected:
  // A gate that asks for keys.
  std::unique_ptr<Gate> KeyedGate(const std::vector<std::string>& entries,
                                  const GateOptions& options = {}) {
    const std::string path = directory_.Write("keys.json", KeyFile(entries));
    keys_ = *ApiKeyFile::Open(path, absl::Hours(1), [](const auto&) {});
    return std::make_unique<Gate>(options, keys_.get(), &refusals_);
  }

  // The reason of the last refusal.
  std::string_view Reason() const { return RefusalReasonName(refusals_.refusals().back().reason); }

  RecordingRefusals refusals_;

 private:
  ScratchDirectory directory_;
  std::unique_ptr<ApiKeyFile> keys_;
};

Pass EnterWith(Gate* gate, const std::string& key, CallMethod method = CallMethod::kGenerate) {
  const std::string value = "Bearer " + key;
  return gate->Enter(method, {{"authorization", value}}, kPeer);
}

TEST_F(GateTest, WithoutKeysEveryoneIsLetIn) {
  Gate gate({}, nullptr, &refusals_);
  const Pass pass = gate.Enter(CallMethod::kGenerate, {{"authorization", "Bearer any"}}, kPeer);
  EXPECT_TRUE(pass.status.ok());
  EXPECT_EQ(pass.origin.peer, kPeer);
  EXPECT_EQ(pass.origin.tenant, "");
  EXPECT_EQ(gate.calls_of("192.0.2.1"), 1);
}

TEST_F(GateTest, BoundsTheMetadataOfACall) {
  GateOptions options;
  options.max_metadata_bytes = 100;
  Gate gate(options, nullptr, &refusals_);
  // Two entries of 1 + 17 + 32 bytes.
  const std::string fits(17, 'v');
  EXPECT_TRUE(gate.Enter(CallMethod::kScore, {{"a", fits}, {"b", fits}}, kPeer).status.ok());
  EXPECT_TRUE(refusals_.refusals().empty());
  const std::string large(18, 'v');
  const Pass pass = gate.Enter(CallMethod::kScore, {{"a", fits}, {"b", large}}, kPeer);
  EXPECT_EQ(pass.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(pass.status.message(), "metadata: 101 bytes; the limit is 100");
  EXPECT_EQ(Reason(), "limit");
  EXPECT_EQ(gate.calls_of("192.0.2.1"), 0);
}

TEST_F(GateTest, AKeyTellsTheTenantAndItsLimits) {
  const auto gate = KeyedGate(
      {KeyEntry("acme", "k", R"(,"name":"ci","max_prompt_tokens":7,"max_output_tokens":8)")});
  const Pass pass = EnterWith(gate.get(), "k");
  ASSERT_TRUE(pass.status.ok()) << pass.status;
  EXPECT_EQ(pass.origin.tenant, "acme");
  EXPECT_EQ(pass.origin.key, "ci");
  EXPECT_EQ(pass.limits.max_prompt_tokens, 7);
  EXPECT_EQ(pass.limits.max_output_tokens, 8);
  EXPECT_EQ(gate->calls_of("tenant:acme"), 1);
}

TEST_F(GateTest, TakesTheKeyFromEitherHeader) {
  const auto gate = KeyedGate({KeyEntry("acme", "k")});
  for (const CallMetadata& metadata : {
           CallMetadata{{"authorization", "Bearer k"}},
           CallMetadata{{"authorization", "bearer k"}},
           CallMetadata{{"x-api-key", "k"}},
           // A proxy's own business does not stand in the way of a key that is named as such.
           CallMetadata{{"authorization", "Basic abc"}, {"x-api-key", "k"}},
       }) {
    EXPECT_TRUE(gate->Enter(CallMethod::kScore, metadata, kPeer).status.ok());
  }
}

TEST_F(GateTest, AllThatIsWrongWithAKeyLooksTheSame) {
  const auto gate =
      KeyedGate({KeyEntry("acme", "k"),
                 KeyEntry("acme", "expired", R"(,"not_after":"2020-01-01T00:00:00Z")")});
  const CallMetadata wrong[] = {
      {},
      {{"authorization", "Bearer wrong"}},
      {{"authorization", "Bearer expired"}},
      {{"authorization", "Bearer "}},
      {{"authorization", "Bearer  k"}},
      {{"authorization", "k"}},
      {{"authorization", "Basic k"}},
      {{"authorization", "Bearer k"}, {"authorization", "Bearer k"}},
      {{"x-api-key", "k"}, {"x-api-key", "wrong"}},
      {{"x-api-key", "wrong"}, {"authorization", "Bearer k"}},
      {{"x-api-key", ""}, {"authorization", "Bearer k"}},
  };
  for (const CallMetadata& metadata : wrong) {
    const Pass pass = gate->Enter(CallMethod::kGenerate, metadata, kPeer);
    EXPECT_EQ(pass.status.code(), absl::StatusCode::kUnauthenticated);
    EXPECT_EQ(pass.status.message(),
              "no valid API key; send it as metadata \"authorization: Bearer KEY\" or "
              "\"x-api-key: KEY\"");
    EXPECT_EQ(pass.origin.tenant, "");
  }
  EXPECT_EQ(refusals_.refusals().size(), std::size(wrong));
  EXPECT_EQ(Reason(), "key");
}

TEST_F(GateTest, AKeyMayBeKeptToSomeMethods) {
  const auto gate = KeyedGate({KeyEntry("acme", "k", R"(,"methods":["Score"])")});
  EXPECT_TRUE(EnterWith(gate.get(), "k", CallMethod::kScore).status.ok());
  const Pass pass = EnterWith(gate.get(), "k", CallMethod::kGenerate);
  EXPECT_EQ(pass.status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(pass.status.message(), "this API key of tenant acme may not call Generate");
  EXPECT_EQ(Reason(), "method");
  EXPECT_EQ(refusals_.refusals().back().origin.tenant, "acme");
}

TEST_F(GateTest, HoldsAnAddressToItsRate) {
  Gate gate({/*client_rate=*/0.001, 0}, nullptr, &refusals_);
  EXPECT_TRUE(gate.Enter(CallMethod::kGetModel, {}, "ipv4:192.0.2.1:5").status.ok());
  const Pass pass = gate.Enter(CallMethod::kGetModel, {}, "ipv4:192.0.2.1:6");
  EXPECT_EQ(pass.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(pass.status.message()),
              HasSubstr("more often than 0.001 times a second"));
  EXPECT_GT(pass.retry_after, absl::Seconds(900));
  EXPECT_LE(pass.retry_after, absl::Seconds(1000));
  EXPECT_EQ(Reason(), "rate");
  EXPECT_TRUE(gate.Enter(CallMethod::kGetModel, {}, "ipv4:192.0.2.2:5").status.ok());
}

TEST_F(GateTest, HoldsAnAddressToItsCallsAtOnce) {
  Gate gate({0, /*max_client_requests=*/2}, nullptr, &refusals_);
  const auto enter = [&gate] { return gate.Enter(CallMethod::kGenerate, {}, kPeer); };
  auto first = std::make_unique<Pass>(enter());
  const Pass second = enter();
  EXPECT_TRUE(second.status.ok());
  const Pass third = enter();
  EXPECT_EQ(third.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(third.status.message()), HasSubstr("has 2 calls under way"));
  EXPECT_EQ(third.retry_after, absl::ZeroDuration());
  EXPECT_EQ(Reason(), "concurrency");
  EXPECT_EQ(gate.calls_of("192.0.2.1"), 2) << "one that was refused does not count";
  first.reset();
  EXPECT_TRUE(enter().status.ok());
}

TEST_F(GateTest, ACallRefusedForItsRateIsNotUnderWay) {
  Gate gate({/*client_rate=*/0.001, 5}, nullptr, &refusals_);
  const Pass first = gate.Enter(CallMethod::kGenerate, {}, kPeer);
  const Pass second = gate.Enter(CallMethod::kGenerate, {}, kPeer);
  EXPECT_FALSE(second.status.ok());
  EXPECT_EQ(gate.calls_of("192.0.2.1"), 1);
}

TEST_F(GateTest, ATenantsKeysShareWhatTheyDoNotStateThemselves) {
  const auto gate =
      KeyedGate({KeyEntry("acme", "a"), KeyEntry("acme", "b"),
                 KeyEntry("acme", "own", R"(,"max_requests":2)"), KeyEntry("zen", "c")},
                {0, /*max_client_requests=*/1});
  const Pass first = EnterWith(gate.get(), "a");
  EXPECT_TRUE(first.status.ok());
  EXPECT_FALSE(EnterWith(gate.get(), "b").status.ok()) << "the tenant has one under way";
  EXPECT_TRUE(EnterWith(gate.get(), "c").status.ok()) << "another tenant";
  const Pass own = EnterWith(gate.get(), "own");
  const Pass own_too = EnterWith(gate.get(), "own");
  EXPECT_TRUE(own.status.ok() && own_too.status.ok()) << "more than the flag allows";
  EXPECT_THAT(std::string(EnterWith(gate.get(), "own").status.message()),
              HasSubstr("has 2 calls under way"));
}

TEST_F(GateTest, AKeysOwnRateReplacesTheServers) {
  const auto gate = KeyedGate(
      {KeyEntry("acme", "slow", R"(,"requests_per_second":0.001)"), KeyEntry("acme", "other")});
  EXPECT_TRUE(EnterWith(gate.get(), "slow").status.ok());
  EXPECT_FALSE(EnterWith(gate.get(), "slow").status.ok());
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(EnterWith(gate.get(), "other").status.ok());
}

TEST_F(GateTest, ATenantCannotPassForAnAddressOrAKey) {
  // Names are told apart by what they are of.
  const auto gate = KeyedGate({KeyEntry("192.0.2.1", "k")}, {0, 1});
  const Pass pass = EnterWith(gate.get(), "k");
  EXPECT_EQ(gate->calls_of("192.0.2.1"), 0);
  EXPECT_EQ(gate->calls_of("tenant:192.0.2.1"), 1);
}

TEST_F(GateTest, CarriesTheTraceAndTheRequestsName) {
  Gate gate({}, nullptr, &refusals_);
  const Pass pass = gate.Enter(CallMethod::kGenerate,
                               {{"traceparent", kTraceparent}, {"x-request-id", "me"}}, kPeer);
  EXPECT_EQ(pass.origin.trace_id, "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(pass.origin.parent_span_id, "b7ad6b7169203331");
  EXPECT_EQ(pass.origin.span_id.size(), 16U);
  EXPECT_NE(pass.origin.span_id, pass.origin.parent_span_id);
  EXPECT_EQ(pass.request_id.id, "me");
  const Pass untraced = gate.Enter(CallMethod::kGenerate, {{"traceparent", "nonsense"}}, kPeer);
  EXPECT_TRUE(untraced.status.ok()) << "an invalid one is no error";
  EXPECT_EQ(untraced.origin.trace_id, "");
  EXPECT_EQ(untraced.origin.span_id, "");
}

TEST_F(GateTest, ARefusalIsToldWithItsNameAndOrigin) {
  const auto gate = KeyedGate({});
  gate->Enter(CallMethod::kTokenize, {{"traceparent", kTraceparent}, {"x-request-id", "me"}},
              kPeer);
  ASSERT_EQ(refusals_.refusals().size(), 1U);
  const Refusal refusal = refusals_.refusals()[0];
  EXPECT_EQ(refusal.method, CallMethod::kTokenize);
  EXPECT_EQ(refusal.request_id, "me");
  EXPECT_EQ(refusal.origin.peer, kPeer);
  EXPECT_EQ(refusal.origin.trace_id, "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(refusal.status.code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(GateTest, CallsFromManyThreadsAllComeBack) {
  const auto gate = KeyedGate({KeyEntry("a", "1"), KeyEntry("b", "2", R"(,"max_requests":3)")},
                              {/*client_rate=*/1e6, /*max_client_requests=*/2});
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&gate, t] {
      const std::string key = std::to_string(1 + t % 2);
      for (int i = 0; i < 1000; ++i) EnterWith(gate.get(), key);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(gate->calls_of("tenant:a"), 0);
  EXPECT_EQ(gate->calls_of("key:" + HashDigits("2")), 0);
}

}  // namespace
}  // namespace sluice
