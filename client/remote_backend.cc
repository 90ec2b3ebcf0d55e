#include "client/remote_backend.h"

#include <grpc/grpc.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/proto_convert.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr char kDefaultAddress[] = "127.0.0.1:50051";
// So that `sluice health --wait` sees a server soon after it is up.
constexpr int kReconnectBackoffMs = 100;
constexpr int kMaxReconnectBackoffMs = 1000;

std::shared_ptr<grpc::Channel> NewChannel(
    const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    grpc::ChannelArguments arguments) {
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectBackoffMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectBackoffMs);
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address.empty() ? kDefaultAddress : address, credentials,
                                   arguments);
}

}  // namespace

std::shared_ptr<grpc::Channel> ConnectTo(const std::string& address) {
  return NewChannel(address, grpc::InsecureChannelCredentials(), {});
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectTo(const std::string& address,
                                                         const TlsOptions& tls) {
  SLUICE_ASSIGN_OR_RETURN(const auto credentials, TlsCredentials(tls));
  grpc::ChannelArguments arguments;
  if (!tls.server_name.empty()) arguments.SetSslTargetNameOverride(tls.server_name);
  return NewChannel(address, credentials, arguments);
}

RemoteBackend::RemoteBackend(const std::shared_ptr<grpc::Channel>& channel, std::string api_key)
    : api_key_(std::move(api_key)),
      generation_(v1::GenerationService::NewStub(channel)),
      model_(v1::ModelService::NewStub(channel)) {}

void RemoteBackend::ShowKey(grpc::ClientContext* context) const {
  if (!api_key_.empty()) context->AddMetadata("authorization", absl::StrCat("Bearer ", api_key_));
}

absl::StatusOr<Outcome> RemoteBackend::Run(const Request& request,
                                           const std::function<void(const Output&)>& on_output) {
  grpc::ClientContext context;
  ShowKey(&context);
  if (request.deadline != absl::InfiniteFuture()) {
    context.set_deadline(absl::ToChronoTime(request.deadline));
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    running_ = &context;
  }
  absl::StatusOr<Outcome> outcome = request.kind == RequestKind::kGenerate
                                        ? Generate(request, on_output, &context)
                                        : Score(request, on_output, &context);
  const std::lock_guard<std::mutex> lock(mutex_);
  running_ = nullptr;
  return outcome;
}

absl::StatusOr<Outcome> RemoteBackend::Generate(const Request& request,
                                                const std::function<void(const Output&)>& on_output,
                                                grpc::ClientContext* context) {
  SLUICE_ASSIGN_OR_RETURN(const v1::GenerateRequest message, ToGenerateRequest(request));
  const auto reader = generation_->Generate(context, message);
  std::optional<Outcome> outcome;
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    on_output(FromResponse(response));
    if (response.has_finished()) outcome = FromFinished(response.finished());
  }
  SLUICE_RETURN_IF_ERROR(ToStatus(reader->Finish()));
  if (!outcome.has_value()) {
    return absl::InternalError("the stream ended without saying how the request finished");
  }
  return *std::move(outcome);
}

absl::StatusOr<Outcome> RemoteBackend::Score(const Request& request,
                                             const std::function<void(const Output&)>& on_output,
                                             grpc::ClientContext* context) {
  SLUICE_ASSIGN_OR_RETURN(const v1::ScoreRequest message, ToScoreRequest(request));
  v1::ScoreResponse response;
  SLUICE_RETURN_IF_ERROR(ToStatus(model_->Score(context, message, &response)));
  on_output(FromResponse(response));
  return FromScored(response);
}

absl::StatusOr<std::vector<int32_t>> RemoteBackend::Tokenize(const std::string& text,
                                                             bool special_tokens) {
  SLUICE_RETURN_IF_ERROR(CheckUtf8("text", text));
  grpc::ClientContext context;
  ShowKey(&context);
  v1::TokenizeRequest request;
  request.set_text(text);
  request.set_no_special_tokens(!special_tokens);
  v1::TokenizeResponse response;
  SLUICE_RETURN_IF_ERROR(ToStatus(model_->Tokenize(&context, request, &response)));
  return std::vector<int32_t>(response.token_ids().begin(), response.token_ids().end());
}

absl::StatusOr<std::string> RemoteBackend::Detokenize(absl::Span<const int64_t> ids,
                                                      bool keep_special_tokens) {
  grpc::ClientContext context;
  ShowKey(&context);
  v1::DetokenizeRequest request;
  for (const int64_t id : ids) {
    SLUICE_ASSIGN_OR_RETURN(const uint32_t number, ToUint32("token_ids", id));
    request.add_token_ids(number);
  }
  request.set_keep_special_tokens(keep_special_tokens);
  v1::DetokenizeResponse response;
  SLUICE_RETURN_IF_ERROR(ToStatus(model_->Detokenize(&context, request, &response)));
  return response.text();
}

absl::StatusOr<ModelDescription> RemoteBackend::Describe() {
  grpc::ClientContext context;
  ShowKey(&context);
  v1::GetModelResponse response;
  SLUICE_RETURN_IF_ERROR(ToStatus(model_->GetModel(&context, {}, &response)));
  return FromResponse(response);
}

bool RemoteBackend::Cancel() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (running_ == nullptr) return false;
  running_->TryCancel();
  return true;
}

}  // namespace sluice
