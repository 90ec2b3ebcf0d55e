#include "server/generation_service.h"

#include <memory>
#include <utility>

#include "engine/sequence.h"
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

  void Attach(std::shared_ptr<ResponseStream> stream) { stream_ = std::move(stream); }

  void Write(const grpc::ByteBuffer* message) override { StartWrite(message); }
  void Finish(const grpc::Status& status) override {
    grpc::ServerWriteReactor<grpc::ByteBuffer>::Finish(status);
  }
  void Cancel() override { context_->TryCancel(); }

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
};

}  // namespace

void RecordRefusal(const ServiceParts& parts, const grpc::CallbackServerContext& context,
                   RequestKind kind, const std::string& request_id, const absl::Status& status) {
  Outcome outcome;
  outcome.request_id = IdForLogs(request_id);
  outcome.status = status;
  outcome.peer = context.peer();
  outcome.kind = kind;
  parts.observer->OnDone(outcome);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerationService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  auto* reactor = new GenerateReactor(context, parts_.calls);
  v1::GenerateRequest proto;
  absl::Status status = ParseMessage(*bytes, &proto);
  ResponseStream::Options options;
  options.logprobs = proto.output().logprobs();
  options.read_limit = parts_.read_limit;
  auto stream = std::make_shared<ResponseStream>(options, reactor, parts_.delivery);
  reactor->Attach(stream);
  const absl::StatusOr<Engine*> engine = parts_.engine->Get();
  if (status.ok()) status = engine.status();
  if (!status.ok()) {
    RecordRefusal(parts_, *context, RequestKind::kGenerate, proto.request_id(), status);
    stream->Refuse(status);
    return reactor;
  }
  Request request = ToRequest(proto);
  SetCall(*context, &request);
  stream->SetEngine(*engine);
  status = (*engine)->Submit(std::move(request), stream);
  if (!status.ok()) stream->Refuse(status);
  return reactor;
}

}  // namespace sluice
