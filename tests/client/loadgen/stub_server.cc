#include "tests/client/loadgen/stub_server.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <atomic>
#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/loadgen/monotonic_clock.h"
#include "kernels/check.h"

namespace sluice {
namespace {

constexpr uint32_t kVocabSize = 1000;
constexpr uint32_t kEosToken = 7;
constexpr uint32_t kMaxTokens = 100000;

v1::GetModelResponse ModelAnswer() {
  v1::GetModelResponse model;
  model.set_name("stub");
  model.set_model_type("none");
  model.set_device("no device");
  model.set_vocab_size(kVocabSize);
  model.add_eos_token_ids(kEosToken);
  model.set_server_version("stub");
  v1::Limits* limits = model.mutable_limits();
  limits->set_max_prompt_tokens(kMaxTokens);
  limits->set_max_output_tokens(kMaxTokens);
  limits->set_max_text_bytes(1 << 20);
  limits->set_max_top_logprobs(20);
  return model;
}

std::shared_ptr<grpc::ServerCredentials> Credentials(const StubOptions& options) {
  if (options.certificate.empty()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions tls(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  tls.pem_root_certs = options.certificate;
  tls.pem_key_cert_pairs.push_back({options.key, options.certificate});
  return grpc::SslServerCredentials(tls);
}

std::string FindPromptFault(const v1::GenerateRequest& request, uint32_t vocab_size) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      return request.text().empty() ? "text" : "";
    case v1::GenerateRequest::kTokenIds:
      for (const uint32_t id : request.token_ids().ids()) {
        if (id >= vocab_size) return "token_ids";
      }
      return request.token_ids().ids().empty() ? "token_ids" : "";
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return "prompt";
}

}  // namespace

std::string FindFault(const v1::GenerateRequest& request, uint32_t vocab_size) {
  const std::string prompt = FindPromptFault(request, vocab_size);
  if (!prompt.empty()) return prompt;
  const v1::SamplingParams& sampling = request.sampling();
  // Written so that NaN is a fault.
  if (sampling.has_temperature() && !(sampling.temperature() >= 0)) return "sampling.temperature";
  if (sampling.has_top_p() && !(sampling.top_p() <= 1)) return "sampling.top_p";
  if (request.stopping().max_tokens() == 0) return "stopping.max_tokens";
  for (const std::string& stop : request.stopping().stop()) {
    if (stop.empty()) return "stopping.stop";
  }
  if (request.output().top_logprobs() > 0) return "output.top_logprobs";  // without logprobs
  return absl::StrContains(request.request_id(), ' ') ? "request_id" : "";
}

// Deletes itself when gRPC is done with it.
class StubServer::Stream final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  Stream(StubServer* server, grpc::CallbackServerContext* context,
         const v1::GenerateRequest& request)
      : server_(server),
        start_ns_(MonotonicNs()),
        tokens_(request.stopping().max_tokens()),
        seed_(request.sampling().seed()),
        prompt_tokens_(request.token_ids().ids_size()) {
    life_->stream = this;
    const std::string fault =
        server_->options_.accept_invalid ? "" : FindFault(request, kVocabSize);
    {
      const std::lock_guard<std::mutex> lock(server_->mutex_);
      StubCounts& counts = server_->counts_;
      ++counts.requests;
      counts.ids.push_back(request.request_id());
      const auto key = context->client_metadata().find("authorization");
      if (key != context->client_metadata().end()) {
        counts.api_keys.emplace_back(key->second.data(), key->second.size());
      }
      if (!fault.empty()) ++counts.refused;
    }
    Begin(fault);
  }

  void OnWriteDone(bool ok) override {
    grpc::Status status = grpc::Status::OK;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      writing_ = false;
      if (!ok || cancelled_) {
        status = grpc::Status::CANCELLED;
      } else if (sent_ < tokens_) {
        return ScheduleLocked();
      } else {
        CountAnswer();
      }
    }
    FinishOnce(status);
  }

  void OnCancel() override {
    bool end = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (finished_) return;
      cancelled_ = true;
      end = !writing_;
      const std::lock_guard<std::mutex> counting(server_->mutex_);
      ++server_->counts_.cancelled;
      server_->counts_.cancelled_after.push_back(sent_);
    }
    if (end) FinishOnce(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    const std::shared_ptr<Life> life = life_;  // longer than this
    const std::lock_guard<std::mutex> lock(life->mutex);
    life->stream = nullptr;
    delete this;
  }

 private:
  // Outlives the stream for a timer that comes too late.
  struct Life {
    std::mutex mutex;
    Stream* stream = nullptr;  // guarded by mutex
  };

  void Begin(const std::string& fault) {
    const StubOptions& options = server_->options_;
    if (!fault.empty()) {
      return FinishOnce({grpc::StatusCode::INVALID_ARGUMENT, absl::StrCat(fault, " is wrong")});
    }
    if (!options.refuse_all.ok()) return FinishOnce(options.refuse_all);
    if (options.hang) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (options.cut_short) tokens_ = 1;
    ScheduleLocked();
  }

  int64_t DueNs() const {
    return start_ns_ + absl::ToInt64Nanoseconds(server_->options_.first_token) +
           sent_ * absl::ToInt64Nanoseconds(server_->options_.interval);
  }

  void ScheduleLocked() {
    const bool at_once = server_->options_.interval == absl::ZeroDuration() &&
                         (sent_ > 0 || server_->options_.first_token == absl::ZeroDuration());
    if (at_once || MonotonicNs() >= DueNs()) return WriteLocked();
    server_->timers_.At(DueNs(), [life = life_] {
      const std::lock_guard<std::mutex> living(life->mutex);
      if (life->stream == nullptr) return;
      const std::lock_guard<std::mutex> lock(life->stream->mutex_);
      if (!life->stream->finished_ && !life->stream->cancelled_) life->stream->WriteLocked();
    });
  }

  void WriteLocked() {
    const StubOptions& options = server_->options_;
    {
      const std::lock_guard<std::mutex> counting(server_->mutex_);
      ++server_->counts_.messages;
      server_->counts_.late.Record(MonotonicNs() - DueNs());
    }
    message_.Clear();
    message_.set_text(std::string(static_cast<size_t>(options.text_bytes), 'x'));
    message_.add_token_ids(static_cast<uint32_t>(sent_ % kEosToken));
    ++sent_;
    if (sent_ == tokens_ && !options.forget_finished) {
      v1::Finished* finished = message_.mutable_finished();
      finished->set_reason(options.cut_short ? v1::FINISH_REASON_CANCELLED
                                             : v1::FINISH_REASON_LENGTH);
      finished->mutable_usage()->set_prompt_tokens(static_cast<uint32_t>(prompt_tokens_));
      finished->mutable_usage()->set_output_tokens(static_cast<uint32_t>(sent_));
      finished->set_seed(seed_);
    }
    writing_ = true;
    StartWrite(&message_);
  }

  void CountAnswer() {
    const std::lock_guard<std::mutex> counting(server_->mutex_);
    ++server_->counts_.answered;
    server_->counts_.seconds.push_back(ToSeconds(MonotonicNs() - start_ns_));
  }

  // With the lock released: gRPC may delete this before Finish returns.
  void FinishOnce(const grpc::Status& status) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (finished_) return;
      finished_ = true;
    }
    Finish(status);
  }

  StubServer* const server_;
  const std::shared_ptr<Life> life_ = std::make_shared<Life>();
  const int64_t start_ns_;
  int64_t tokens_;
  const uint64_t seed_;
  const int64_t prompt_tokens_;

  std::mutex mutex_;  // guards all below
  v1::GenerateResponse message_;
  int64_t sent_ = 0;
  bool writing_ = false;
  bool cancelled_ = false;
  bool finished_ = false;
};

class StubServer::Generation final : public v1::GenerationService::CallbackService {
 public:
  explicit Generation(StubServer* server) : server_(server) {}
  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override {
    return new Stream(server_, context, *request);
  }

 private:
  StubServer* server_;
};

class StubServer::Model final : public v1::ModelService::CallbackService {
 public:
  explicit Model(int loading) : loading_(loading) {}

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* /*request*/,
                                     v1::GetModelResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (loading_-- > 0) {
      reactor->Finish({grpc::StatusCode::UNAVAILABLE, "loading"});
      return reactor;
    }
    *response = ModelAnswer();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  std::atomic<int> loading_;
};

StubServer::StubServer(const StubOptions& options)
    : options_(options),
      generation_(std::make_unique<Generation>(this)),
      model_(std::make_unique<Model>(options.loading)) {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options.listen, Credentials(options), &port);
  builder.RegisterService(generation_.get());
  builder.RegisterService(model_.get());
  server_ = builder.BuildAndStart();
  SLUICE_CHECK(server_ != nullptr && port != 0);
  address_ = absl::StrCat("127.0.0.1:", port);
}

StubServer::~StubServer() {
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

StubCounts StubServer::counts() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return counts_;
}

}  // namespace sluice
