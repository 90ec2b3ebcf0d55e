#include "server/generation_service.h"

#include <grpc/grpc.h>

#include <memory>
#include <utility>

#include "server/call_entry.h"
#include "server/request_mapping.h"
#include "server/response_stream.h"
#include "server/wire_format.h"

namespace sluice {
namespace {

// gRPC's side of one Generate call. gRPC owns it from the moment it is returned until OnDone.
class GenerateReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                              public ResponseWriter {
 public:
  GenerateReactor(grpc::CallbackServerContext* context, ActiveCalls* calls)
      : context_(context), calls_(calls) {
    calls_->Begin();
  }

  // Holds the pass until the call has ended, however that comes about.
  void Attach(std::shared_ptr<ResponseStream> stream, Pass pass) {
    stream_ = std::move(stream);
    pass_ = std::move(pass);
  }

  void Write(const grpc::ByteBuffer* message) override { StartWrite(message); }
  void Finish(const grpc::Status& status) override {
    grpc::ServerWriteReactor<grpc::ByteBuffer>::Finish(status);
  }
  void Cancel(const grpc::Status& why) override {
    // TryCancel would tell the client no more than that it was cancelled.
    (void)grpc_call_cancel_with_status(context_->c_call(),
                                       static_cast<grpc_status_code>(why.error_code()),
                                       why.error_message().c_str(), nullptr);
  }

  void OnWriteDone(bool ok) override { stream_->OnWriteDone(ok); }
  void OnCancel() override { stream_->OnCancel(); }
  void OnDone() override {
    ActiveCalls* calls = calls_;
    delete this;
    calls->End();
  }

 private:
  grpc::CallbackServerContext* context_;
  ActiveCalls* calls_;
  std::shared_ptr<ResponseStream> stream_;
  Pass pass_;
};

}  // namespace

void RecordRefusal(const ServiceParts& parts, const Pass& pass, RequestKind kind,
                   const absl::Status& status) {
  Outcome outcome;
  outcome.request_id = pass.request_id.id;
  outcome.status = status;
  outcome.origin = pass.origin;
  outcome.kind = kind;
  parts.observer->OnDone(outcome);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerationService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  auto* reactor = new GenerateReactor(context, parts_.calls);
  Pass pass = PassGate(parts_.gate, CallMethod::kGenerate, *context);
  v1::GenerateRequest proto;
  absl::Status status = pass.status;
  if (status.ok()) {
    status = ParseMessage(*bytes, &proto);
    if (!proto.request_id().empty()) {
      pass.request_id = ResolveRequestId(proto.request_id(), context->client_metadata());
    }
    if (status.ok()) status = pass.request_id.status;
  }
  AnswerMetadata(pass, context);
  ResponseStream::Options options;
  options.logprobs = proto.output().logprobs();
  options.read_limit = parts_.read_limit;
  auto stream = std::make_shared<ResponseStream>(options, reactor, parts_.delivery);
  const absl::StatusOr<Engine*> engine = parts_.engine->Get();
  if (status.ok()) status = engine.status();
  Request request;
  if (status.ok()) {
    request = ToRequest(proto);
    SetCall(pass, *context, &request);
  } else if (pass.status.ok()) {
    RecordRefusal(parts_, pass, RequestKind::kGenerate, status);
  }
  reactor->Attach(stream, std::move(pass));
  if (status.ok()) {
    stream->SetEngine(*engine);
    status = (*engine)->Submit(std::move(request), stream);
  }
  if (!status.ok()) stream->Refuse(status);
  return reactor;
}

}  // namespace sluice
