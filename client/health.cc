#include "client/health.h"

#include <google/protobuf/wrappers.pb.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <algorithm>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/proto_convert.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr char kCheckMethod[] = "/grpc.health.v1.Health/Check";
constexpr absl::Duration kAnswerLimit = absl::Seconds(5);
constexpr absl::Duration kAskAgainAfter = absl::Milliseconds(50);

// HealthCheckRequest is {string service = 1} and HealthCheckResponse {enum status = 1}: on the wire
// these are the wrapper types, so that no copy of health.proto is needed.
using HealthCheckRequest = google::protobuf::StringValue;
using HealthCheckResponse = google::protobuf::Int32Value;

std::string ServingStatusName(int32_t status) {
  switch (status) {
    case 1:
      return "SERVING";
    case 2:
      return "NOT_SERVING";
    case 3:
      return "SERVICE_UNKNOWN";
    default:
      return "UNKNOWN";
  }
}

}  // namespace

absl::StatusOr<std::string> CheckHealth(const std::shared_ptr<grpc::Channel>& channel,
                                        const std::string& service, absl::Time deadline) {
  SLUICE_RETURN_IF_ERROR(CheckUtf8("service", service));
  grpc::TemplatedGenericStub<HealthCheckRequest, HealthCheckResponse> stub(channel);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  HealthCheckRequest request;
  request.set_value(service);
  HealthCheckResponse response;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, kCheckMethod, grpc::StubOptions(), &request, &response,
                 [&done](grpc::Status status) { done.set_value(std::move(status)); });
  SLUICE_RETURN_IF_ERROR(ToStatus(done.get_future().get()));
  return ServingStatusName(response.value());
}

absl::StatusOr<std::string> AwaitHealth(const std::shared_ptr<grpc::Channel>& channel,
                                        const std::string& service, absl::Time deadline) {
  for (;;) {
    absl::StatusOr<std::string> health = CheckHealth(channel, service, absl::Now() + kAnswerLimit);
    if (health.ok() && *health == "SERVING") return health;
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return health;
    absl::SleepFor(std::min(left, kAskAgainAfter));
  }
}

}  // namespace sluice
