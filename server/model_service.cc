#include "server/model_service.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
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
};

template <typename RequestProto, typename ResponseProto>
absl::Status Answer(const ServiceParts& parts, const grpc::ByteBuffer& bytes,
                    grpc::ByteBuffer* response,
                    absl::Status (*handle)(const Engine& engine, const RequestProto&,
                                           ResponseProto*)) {
  RequestProto request;
  SLUICE_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  SLUICE_ASSIGN_OR_RETURN(const Engine* engine, parts.engine->Get());
  ResponseProto proto;
  SLUICE_RETURN_IF_ERROR(handle(*engine, request, &proto));
  *response = SerializeMessage(proto);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AnswerAtOnce(const ServiceParts& parts, const absl::Status& status) {
  auto* reactor = new UnaryReactor(parts.calls);
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

absl::Status HandleGetModel(const Engine& engine, const v1::GetModelRequest& /*request*/,
                            v1::GetModelResponse* response) {
  SetModel(engine.info(), response);
  return absl::OkStatus();
}

absl::Status HandleTokenize(const Engine& engine, const v1::TokenizeRequest& request,
                            v1::TokenizeResponse* response) {
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

absl::Status HandleDetokenize(const Engine& engine, const v1::DetokenizeRequest& request,
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

grpc::ServerUnaryReactor* ModelService::GetModel(grpc::CallbackServerContext* /*context*/,
                                                 const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* response) {
  return AnswerAtOnce(parts_, Answer(parts_, *request, response, &HandleGetModel));
}

grpc::ServerUnaryReactor* ModelService::Tokenize(grpc::CallbackServerContext* /*context*/,
                                                 const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* response) {
  return AnswerAtOnce(parts_, Answer(parts_, *request, response, &HandleTokenize));
}

grpc::ServerUnaryReactor* ModelService::Detokenize(grpc::CallbackServerContext* /*context*/,
                                                   const grpc::ByteBuffer* request,
                                                   grpc::ByteBuffer* response) {
  return AnswerAtOnce(parts_, Answer(parts_, *request, response, &HandleDetokenize));
}

grpc::ServerUnaryReactor* ModelService::Score(grpc::CallbackServerContext* context,
                                              const grpc::ByteBuffer* bytes,
                                              grpc::ByteBuffer* response) {
  auto* reactor = new UnaryReactor(parts_.calls);
  auto score = std::make_shared<ScoreCall>(
      response, parts_.delivery,
      [reactor](const grpc::Status& status) { reactor->Finish(status); });
  reactor->Attach(score);
  v1::ScoreRequest proto;
  absl::Status status = ParseMessage(*bytes, &proto);
  const absl::StatusOr<Engine*> engine = parts_.engine->Get();
  if (status.ok()) status = engine.status();
  if (!status.ok()) {
    RecordRefusal(parts_, *context, RequestKind::kScore, /*request_id=*/"", status);
    score->Refuse(status);
    return reactor;
  }
  Request request = ToRequest(proto);
  SetCall(*context, &request);
  score->SetEngine(*engine);
  status = (*engine)->Submit(std::move(request), score);
  if (!status.ok()) score->Refuse(status);
  return reactor;
}

}  // namespace sluice
