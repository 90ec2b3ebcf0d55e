#include "server/model_service.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "server/call_entry.h"
#include "server/request_mapping.h"
#include "server/score_call.h"
#include "server/wire_format.h"

namespace sluice {
namespace {

// gRPC's side of any call with one answer. gRPC owns it until OnDone.
class UnaryReactor final : public grpc::ServerUnaryReactor {
 public:
  explicit UnaryReactor(ActiveCalls* calls) : calls_(calls) { calls_->Begin(); }

  // For a call that is answered later.
  void Attach(std::shared_ptr<ScoreCall> score) { score_ = std::move(score); }

  // Holds the pass until the call has ended, however that comes about.
  void Attach(Pass pass) { pass_ = std::move(pass); }

  void OnCancel() override {
    if (score_ != nullptr) score_->OnCancel();
  }
  void OnDone() override {
    ActiveCalls* calls = calls_;
    delete this;
    calls->End();
  }

 private:
  ActiveCalls* calls_;
  std::shared_ptr<ScoreCall> score_;
  Pass pass_;
};

// A call that is answered on the thread it came on: to whom, from what, with what.
template <typename RequestProto, typename ResponseProto>
using Handler = absl::Status (*)(const Engine& engine, const ClientLimits& client,
                                 const RequestProto&, ResponseProto*);

template <typename RequestProto, typename ResponseProto>
absl::Status Answer(const ServiceParts& parts, const Pass& pass, const grpc::ByteBuffer& bytes,
                    Handler<RequestProto, ResponseProto> handle, grpc::ByteBuffer* response) {
  SLUICE_RETURN_IF_ERROR(pass.status);
  SLUICE_RETURN_IF_ERROR(pass.request_id.status);
  RequestProto request;
  SLUICE_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  SLUICE_ASSIGN_OR_RETURN(const Engine* engine, parts.engine->Get());
  ResponseProto proto;
  SLUICE_RETURN_IF_ERROR(handle(*engine, pass.limits, request, &proto));
  *response = SerializeMessage(proto);
  return absl::OkStatus();
}

template <typename RequestProto, typename ResponseProto>
grpc::ServerUnaryReactor* AnswerAtOnce(const ServiceParts& parts, CallMethod method,
                                       grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer& bytes,
                                       Handler<RequestProto, ResponseProto> handle,
                                       grpc::ByteBuffer* response) {
  auto* reactor = new UnaryReactor(parts.calls);
  Pass pass = PassGate(parts.gate, method, *context);
  AnswerMetadata(pass, context);
  const absl::Status status = Answer(parts, pass, bytes, handle, response);
  reactor->Attach(std::move(pass));
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

absl::Status HandleGetModel(const Engine& engine, const ClientLimits& client,
                            const v1::GetModelRequest& /*request*/,
                            v1::GetModelResponse* response) {
  SetModel(engine.info(), client, response);
  return absl::OkStatus();
}

absl::Status HandleTokenize(const Engine& engine, const ClientLimits& /*client*/,
                            const v1::TokenizeRequest& request, v1::TokenizeResponse* response) {
  const int64_t limit = engine.info().max_text_bytes;
  if (static_cast<int64_t>(request.text().size()) > limit) {
    return absl::InvalidArgumentError(
        absl::StrCat("text: ", request.text().size(), " bytes; the limit is ", limit));
  }
  SLUICE_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                          engine.tokenizer().Encode(request.text(), !request.no_special_tokens()));
  response->mutable_token_ids()->Reserve(static_cast<int>(ids.size()));
  for (const int32_t id : ids) response->add_token_ids(static_cast<uint32_t>(id));
  return absl::OkStatus();
}

absl::Status HandleDetokenize(const Engine& engine, const ClientLimits& /*client*/,
                              const v1::DetokenizeRequest& request,
                              v1::DetokenizeResponse* response) {
  const EngineInfo& info = engine.info();
  if (request.token_ids_size() > info.max_prompt_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("token_ids: ", request.token_ids_size(),
                                                   " ids; the limit is ", info.max_prompt_tokens));
  }
  std::vector<int32_t> ids;
  ids.reserve(static_cast<size_t>(request.token_ids_size()));
  for (const uint32_t id : request.token_ids()) {
    if (id >= static_cast<uint32_t>(info.vocab_size)) {
      return absl::InvalidArgumentError(absl::StrCat("token_ids[", ids.size(), "]: ", id,
                                                     " is not in [0, ", info.vocab_size, ")"));
    }
    ids.push_back(static_cast<int32_t>(id));
  }
  absl::StatusOr<std::string> text =
      engine.tokenizer().Decode(ids, /*skip_special_tokens=*/!request.keep_special_tokens());
  // A model's vocabulary may be padded beyond its tokenizer's.
  if (absl::IsOutOfRange(text.status())) {
    return absl::InvalidArgumentError(absl::StrCat("token_ids: ", text.status().message()));
  }
  SLUICE_RETURN_IF_ERROR(text.status());
  response->set_text(*std::move(text));
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* ModelService::GetModel(grpc::CallbackServerContext* context,
                                                 const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* response) {
  return AnswerAtOnce(parts_, CallMethod::kGetModel, context, *request, &HandleGetModel, response);
}

grpc::ServerUnaryReactor* ModelService::Tokenize(grpc::CallbackServerContext* context,
                                                 const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* response) {
  return AnswerAtOnce(parts_, CallMethod::kTokenize, context, *request, &HandleTokenize, response);
}

grpc::ServerUnaryReactor* ModelService::Detokenize(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request,
                                                   grpc::ByteBuffer* response) {
  return AnswerAtOnce(parts_, CallMethod::kDetokenize, context, *request, &HandleDetokenize,
                      response);
}

grpc::ServerUnaryReactor* ModelService::Score(grpc::CallbackServerContext* context,
                                              const grpc::ByteBuffer* bytes,
                                              grpc::ByteBuffer* response) {
  auto* reactor = new UnaryReactor(parts_.calls);
  auto score = std::make_shared<ScoreCall>(
      response, parts_.delivery,
      [reactor](const grpc::Status& status) { reactor->Finish(status); });
  reactor->Attach(score);
  Pass pass = PassGate(parts_.gate, CallMethod::kScore, *context);
  AnswerMetadata(pass, context);
  v1::ScoreRequest proto;
  absl::Status status = pass.status;
  if (status.ok()) status = pass.request_id.status;
  if (status.ok()) status = ParseMessage(*bytes, &proto);
  const absl::StatusOr<Engine*> engine = parts_.engine->Get();
  if (status.ok()) status = engine.status();
  Request request;
  if (status.ok()) {
    request = ToRequest(proto);
    SetCall(pass, *context, &request);
  } else if (pass.status.ok()) {
    RecordRefusal(parts_, pass, RequestKind::kScore, status);
  }
  reactor->Attach(std::move(pass));
  if (status.ok()) {
    score->SetEngine(*engine);
    status = (*engine)->Submit(std::move(request), score);
  }
  if (!status.ok()) score->Refuse(status);
  return reactor;
}

}  // namespace sluice
