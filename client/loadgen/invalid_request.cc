#include "client/loadgen/invalid_request.h"

#include <array>
#include <limits>

namespace sluice {
namespace {

struct Fault {
  const char* field;
  void (*make)(v1::GenerateRequest* message);
};

constexpr std::array<Fault, 10> kFaults = {{
    {"prompt", [](v1::GenerateRequest* m) { m->clear_prompt(); }},
    {"text", [](v1::GenerateRequest* m) { m->set_text(""); }},
    {"token_ids",
     [](v1::GenerateRequest* m) {
       m->mutable_token_ids()->add_ids(std::numeric_limits<uint32_t>::max());
     }},
    {"sampling.temperature",
     [](v1::GenerateRequest* m) { m->mutable_sampling()->set_temperature(-1); }},
    {"sampling.temperature",
     [](v1::GenerateRequest* m) {
       m->mutable_sampling()->set_temperature(std::numeric_limits<float>::quiet_NaN());
     }},
    {"sampling.top_p", [](v1::GenerateRequest* m) { m->mutable_sampling()->set_top_p(2); }},
    {"stopping.max_tokens",
     [](v1::GenerateRequest* m) { m->mutable_stopping()->set_max_tokens(0); }},
    {"stopping.stop", [](v1::GenerateRequest* m) { m->mutable_stopping()->add_stop(""); }},
    {"output.top_logprobs",
     [](v1::GenerateRequest* m) { m->mutable_output()->set_top_logprobs(21); }},
    {"request_id", [](v1::GenerateRequest* m) { m->set_request_id("two words"); }},
}};

}  // namespace

std::string MakeInvalid(RandomStream* random, v1::GenerateRequest* message) {
  const auto which = static_cast<size_t>(random->Whole(0, int64_t{kFaults.size()} - 1));
  kFaults[which].make(message);
  return kFaults[which].field;
}

}  // namespace sluice
