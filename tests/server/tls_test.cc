// The real gRPC server over TLS, with certificates that change.
#include "server/tls.h"

#include <gmock/gmock.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "sluice/v1/generation.grpc.pb.h"
#include "sluice/v1/model.grpc.pb.h"
#include "tests/server/fake_engine.h"
#include "tests/server/raw_connection.h"
#include "tests/server/test_certificates.h"
#include "tests/server/test_server.h"

namespace sluice {
namespace {

using testing::HasSubstr;

grpc::Status GetModel(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  v1::GetModelResponse response;
  return v1::ModelService::NewStub(channel)->GetModel(&context, {}, &response);
}

class TlsTest : public testing::Test {
 protected:
  TlsTest() {
    std::filesystem::create_directories(folder_);
    WritePair(authority_.Issue("first"));
    ReplaceFile(folder_ + "/ca", authority_.pem());
  }
  ~TlsTest() override {
    server_ = nullptr;
    tls_ = nullptr;
    std::filesystem::remove_all(folder_);
  }

  void WritePair(const KeyPair& pair) {
    ReplaceFile(folder_ + "/cert", pair.cert);
    ReplaceFile(folder_ + "/key", pair.key);
  }

  void Start(bool mutual) {
    const CertificateFiles files = {folder_ + "/cert", folder_ + "/key",
                                    mutual ? folder_ + "/ca" : ""};
    auto tls = Tls::Open(files, absl::Milliseconds(10), [this](const auto& expires) {
      const std::lock_guard<std::mutex> lock(mutex_);
      (expires.ok() ? reloads_ : failures_) += 1;
      if (!expires.ok()) failure_ = std::string(expires.status().message());
      changed_.notify_all();
    });
    ASSERT_TRUE(tls.ok()) << tls.status();
    tls_ = *std::move(tls);
    server_ = std::make_unique<TestServer>(config_, tls_->NewCredentials());
    server_->handle.Set(&engine_);
  }

  std::shared_ptr<grpc::Channel> NewChannel(const KeyPair* client = nullptr) const {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = authority_.pem();
    if (client != nullptr) {
      options.pem_cert_chain = client->cert;
      options.pem_private_key = client->key;
    }
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address(), grpc::SslCredentials(options), arguments);
  }
  const std::string& address() const { return server_->server->address(); }

  // Waits until so many changes were read, or could not be used.
  bool WaitForReloads(int count) { return WaitFor(&reloads_, count); }
  bool WaitForFailures(int count) { return WaitFor(&failures_, count); }
  // Waits until a new connection is shown this name.
  bool IsShown(const std::string& name) const {
    for (int i = 0; i < 3000; ++i) {
      if (ShakeHands(address()).name == name) return true;
      absl::SleepFor(absl::Milliseconds(10));
    }
    return false;
  }

  const std::string folder_ = testing::TempDir() + "tls_test";
  const TestAuthority authority_;
  ServerConfig config_ = LoopbackConfig();
  FakeEngine engine_;
  std::unique_ptr<Tls> tls_;
  std::unique_ptr<TestServer> server_;

  std::mutex mutex_;
  std::condition_variable changed_;
  int reloads_ = 0;
  int failures_ = 0;
  std::string failure_;

 private:
  bool WaitFor(const int* counter, int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return *counter >= count; });
  }
};

TEST_F(TlsTest, ServesThoseWhoSpeakTls) {
  Start(/*mutual=*/false);
  EXPECT_TRUE(GetModel(NewChannel()).ok()) << GetModel(NewChannel()).error_message();
  const auto plaintext = grpc::CreateChannel(address(), grpc::InsecureChannelCredentials());
  EXPECT_EQ(GetModel(plaintext).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_GT(tls_->expires(), absl::Now());
}

TEST_F(TlsTest, SpeaksTls12AndNothingOlder) {
  Start(/*mutual=*/false);
  EXPECT_EQ(ShakeHands(address()).version, "TLSv1.3");
  EXPECT_EQ(ShakeHands(address(), {TLS1_2_VERSION}).version, "TLSv1.2");
  EXPECT_FALSE(ShakeHands(address(), {TLS1_1_VERSION}).ok);
  EXPECT_FALSE(ShakeHands(address(), {TLS1_VERSION}).ok);
}

TEST_F(TlsTest, MutualTlsTakesThoseWhomTheAuthorityKnows) {
  Start(/*mutual=*/true);
  const KeyPair known = authority_.Issue("client");
  EXPECT_TRUE(GetModel(NewChannel(&known)).ok());
  EXPECT_EQ(GetModel(NewChannel()).error_code(), grpc::StatusCode::UNAVAILABLE);
  const TestAuthority other;
  const KeyPair stranger = other.Issue("client");
  EXPECT_EQ(GetModel(NewChannel(&stranger)).error_code(), grpc::StatusCode::UNAVAILABLE);
  const KeyPair late = authority_.Issue("client", -absl::Hours(1));
  EXPECT_EQ(GetModel(NewChannel(&late)).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(ShakeHands(address(), {0, &known}).ok);
  EXPECT_FALSE(ShakeHands(address()).ok);
  EXPECT_FALSE(ShakeHands(address(), {0, &stranger}).ok);
}

TEST_F(TlsTest, AHandshakeThatIsNotFinishedIsClosed) {
  config_.handshake_limit = absl::Milliseconds(300);
  Start(/*mutual=*/false);
  const RawConnection silent(address());
  EXPECT_TRUE(silent.WaitUntilClosed());
  EXPECT_TRUE(GetModel(NewChannel()).ok());
}

TEST_F(TlsTest, NewConnectionsGetTheNewCertificateAndOpenOnesGoOn) {
  Start(/*mutual=*/false);
  const auto channel = NewChannel();
  const auto stub = v1::GenerationService::NewStub(channel);
  grpc::ClientContext context;
  v1::GenerateRequest request;
  request.set_text("x");
  const auto reader = stub->Generate(&context, request);
  SubmittedRequest submitted = engine_.Next();
  EXPECT_EQ(ShakeHands(address()).name, "first");
  const absl::Time expires = tls_->expires();

  WritePair(authority_.Issue("second", absl::Hours(5)));
  EXPECT_TRUE(IsShown("second"));
  EXPECT_GT(tls_->expires(), expires + absl::Hours(3));
  submitted.sink->OnOutput({"still here", {}});
  submitted.sink->OnDone({});
  v1::GenerateResponse response;
  std::string text;
  while (reader->Read(&response)) text += response.text();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "still here");
  EXPECT_TRUE(GetModel(channel).ok());
  EXPECT_TRUE(GetModel(NewChannel()).ok());
}

// As Kubernetes mounts a Secret: the files are links into a folder that is itself a link.
TEST_F(TlsTest, SeesALinkToAFolderExchanged) {
  const auto write_version = [this](const std::string& version) {
    std::filesystem::create_directories(folder_ + "/" + version);
    const KeyPair pair = authority_.Issue(version);
    ReplaceFile(folder_ + "/" + version + "/cert", pair.cert);
    ReplaceFile(folder_ + "/" + version + "/key", pair.key);
    std::filesystem::create_directory_symlink(version, folder_ + "/..data.new");
    std::filesystem::rename(folder_ + "/..data.new", folder_ + "/..data");
  };
  for (const std::string name : {"cert", "key"}) {
    std::filesystem::remove(folder_ + "/" + name);
    std::filesystem::create_symlink("..data/" + name, folder_ + "/" + name);
  }
  write_version("v1");
  Start(/*mutual=*/false);
  EXPECT_EQ(ShakeHands(address()).name, "v1");
  write_version("v2");
  EXPECT_TRUE(IsShown("v2"));
  EXPECT_EQ(failures_, 0);
}

TEST_F(TlsTest, WhatCannotBeUsedChangesNothing) {
  Start(/*mutual=*/false);
  ReplaceFile(folder_ + "/key", authority_.Issue("other").key);
  ASSERT_TRUE(WaitForFailures(1));
  EXPECT_THAT(failure_, HasSubstr("--tls-key=" + folder_ + "/key: not the key of"));
  EXPECT_EQ(ShakeHands(address()).name, "first");
  EXPECT_TRUE(GetModel(NewChannel()).ok());
  std::filesystem::remove(folder_ + "/cert");
  ASSERT_TRUE(WaitForFailures(2));
  EXPECT_EQ(ShakeHands(address()).name, "first");
  EXPECT_EQ(reloads_, 0);

  WritePair(authority_.Issue("mended"));
  EXPECT_TRUE(IsShown("mended"));
}

TEST_F(TlsTest, NewAuthoritiesAreReadToo) {
  Start(/*mutual=*/true);
  const TestAuthority other;
  const KeyPair client = other.Issue("client");
  EXPECT_FALSE(ShakeHands(address(), {0, &client}).ok);
  ReplaceFile(folder_ + "/ca", other.pem());
  ASSERT_TRUE(WaitForReloads(1));
  EXPECT_TRUE(ShakeHands(address(), {0, &client}).ok);
  const KeyPair before = authority_.Issue("client");
  EXPECT_FALSE(ShakeHands(address(), {0, &before}).ok);
}

TEST_F(TlsTest, ChangesWhileManyShakeHands) {
  Start(/*mutual=*/false);
  std::atomic<bool> stop{false};
  std::atomic<int> shaken{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&] {
      while (!stop) {
        EXPECT_TRUE(ShakeHands(address()).ok);
        ++shaken;
      }
    });
  }
  for (int i = 1; i <= 10; ++i) {
    WritePair(authority_.Issue("number" + std::to_string(i)));
    EXPECT_TRUE(IsShown("number" + std::to_string(i)));
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_GT(shaken, 10);
}

}  // namespace
}  // namespace sluice
