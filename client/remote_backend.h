// A Sluice server, spoken to over gRPC.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/backend.h"
#include "client/tls_options.h"
#include "sluice/v1/generation.grpc.pb.h"
#include "sluice/v1/model.grpc.pb.h"

namespace sluice {

// A plaintext channel to `address` (host:port, or any name that gRPC resolves; empty:
// 127.0.0.1:50051), without limit on the size of what is received, and never through a proxy of the
// environment. Connects when used.
std::shared_ptr<grpc::Channel> ConnectTo(const std::string& address);

// Likewise, over TLS if the options say so. InvalidArgument: as TlsCredentials.
absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectTo(const std::string& address,
                                                         const TlsOptions& tls);

class RemoteBackend : public Backend {
 public:
  // `api_key` goes with every call; empty: none.
  explicit RemoteBackend(const std::shared_ptr<grpc::Channel>& channel, std::string api_key = "");

  absl::StatusOr<Outcome> Run(const Request& request,
                              const std::function<void(const Output&)>& on_output) override;
  absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text,
                                                bool special_tokens) override;
  absl::StatusOr<std::string> Detokenize(absl::Span<const int64_t> ids,
                                         bool keep_special_tokens) override;
  absl::StatusOr<ModelDescription> Describe() override;
  bool Cancel() override;

 private:
  void ShowKey(grpc::ClientContext* context) const;
  absl::StatusOr<Outcome> Generate(const Request& request,
                                   const std::function<void(const Output&)>& on_output,
                                   grpc::ClientContext* context);
  absl::StatusOr<Outcome> Score(const Request& request,
                                const std::function<void(const Output&)>& on_output,
                                grpc::ClientContext* context);

  const std::string api_key_;
  std::unique_ptr<v1::GenerationService::StubInterface> generation_;
  std::unique_ptr<v1::ModelService::StubInterface> model_;
  std::mutex mutex_;
  grpc::ClientContext* running_ = nullptr;  // guarded by mutex_
};

}  // namespace sluice
