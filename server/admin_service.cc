#include "server/admin_service.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/status_macros.h"
#include "server/log.h"
#include "server/request_mapping.h"
#include "server/server_config.h"
#include "server/version.h"

namespace sluice {
namespace {

constexpr uint32_t kDefaultListed = 1000;
constexpr uint32_t kMaxListed = 10'000;

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

void LogChange(const grpc::CallbackServerContext& context, const char* what,
               const std::string& argument) {
  LogFields fields;
  fields.Add("change", what).Add("peer", context.peer());
  if (!argument.empty()) fields.Add("argument", argument);
  Log(LogLevel::kWarning, "admin", fields);
}

v1::ServingState ToProto(HealthState state) {
  switch (state) {
    case HealthState::kLoading:
      return v1::SERVING_STATE_LOADING;
    case HealthState::kServing:
      return v1::SERVING_STATE_SERVING;
    case HealthState::kStuck:
      return v1::SERVING_STATE_STUCK;
    case HealthState::kDraining:
      return v1::SERVING_STATE_DRAINING;
  }
  return v1::SERVING_STATE_UNSPECIFIED;
}

void SetEngine(const Engine& engine, v1::GetStatusResponse* response) {
  const EngineGauges gauges = engine.Gauges();
  response->set_requests_running(static_cast<uint32_t>(gauges.running));
  response->set_requests_waiting(static_cast<uint32_t>(gauges.waiting));
  response->set_waiting_tokens(static_cast<uint64_t>(gauges.waiting_tokens));
  response->set_slots_used(static_cast<uint32_t>(gauges.slots_used));
  response->set_slots_total(static_cast<uint32_t>(gauges.slots_total));
  response->set_step_seconds(absl::ToDoubleSeconds(engine.StepAge()));
}

void SetLive(const LiveRequestState& live, absl::Time now, v1::LiveRequest* proto) {
  proto->set_request_id(live.id);
  proto->set_tenant(live.tenant);
  proto->set_peer(live.peer);
  proto->set_kind(live.kind == RequestKind::kScore ? v1::REQUEST_KIND_SCORE
                                                   : v1::REQUEST_KIND_GENERATE);
  proto->set_running(live.running);
  proto->set_age_seconds(std::max(absl::ToDoubleSeconds(now - live.arrived), 0.0));
  proto->set_prompt_tokens(static_cast<uint32_t>(live.prompt_tokens));
  proto->set_output_tokens(static_cast<uint32_t>(live.output_tokens));
}

absl::StatusOr<LogLevel> FromProto(v1::LogLevel level) {
  switch (level) {
    case v1::LOG_LEVEL_DEBUG:
      return LogLevel::kDebug;
    case v1::LOG_LEVEL_INFO:
      return LogLevel::kInfo;
    case v1::LOG_LEVEL_WARNING:
      return LogLevel::kWarning;
    case v1::LOG_LEVEL_ERROR:
      return LogLevel::kError;
    default:
      return absl::InvalidArgumentError(
          "level: must be LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING or LOG_LEVEL_ERROR");
  }
}

}  // namespace

grpc::ServerUnaryReactor* AdminService::GetStatus(grpc::CallbackServerContext* context,
                                                  const v1::GetStatusRequest* /*request*/,
                                                  v1::GetStatusResponse* response) {
  response->set_server_version(std::string(ServerVersion()));
  response->set_server_commit(std::string(ServerCommit()));
  response->set_uptime_seconds(std::max(absl::ToDoubleSeconds(absl::Now() - parts_.started), 0.0));
  response->set_state(ToProto(parts_.health->state()));
  response->set_connections(static_cast<uint32_t>(parts_.connections()));
  for (const auto& [flag, value] : FlagValues()) (*response->mutable_flags())[flag] = value;
  const absl::StatusOr<Engine*> engine = parts_.engine->Get();
  if (engine.ok()) SetEngine(**engine, response);
  return Answer(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* AdminService::ListRequests(grpc::CallbackServerContext* context,
                                                     const v1::ListRequestsRequest* request,
                                                     v1::ListRequestsResponse* response) {
  return Answer(context, List(*request, response));
}

absl::Status AdminService::List(const v1::ListRequestsRequest& request,
                                v1::ListRequestsResponse* response) const {
  const uint32_t most = request.has_max_requests() ? request.max_requests() : kDefaultListed;
  if (most < 1 || most > kMaxListed) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_requests: ", most, " is not in [1, ", kMaxListed, "]"));
  }
  SLUICE_ASSIGN_OR_RETURN(const Engine* engine, parts_.engine->Get());
  std::vector<LiveRequestState> live = engine->LiveRequests();
  response->set_total(static_cast<uint32_t>(live.size()));
  live.resize(std::min<size_t>(live.size(), most));
  const absl::Time now = absl::Now();
  for (const LiveRequestState& state : live) SetLive(state, now, response->add_requests());
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AdminService::CancelRequest(grpc::CallbackServerContext* context,
                                                      const v1::CancelRequestRequest* request,
                                                      v1::CancelRequestResponse* response) {
  return Answer(context, Cancel(*context, *request, response));
}

absl::Status AdminService::Cancel(const grpc::CallbackServerContext& context,
                                  const v1::CancelRequestRequest& request,
                                  v1::CancelRequestResponse* response) const {
  if (request.request_id().empty()) {
    return absl::InvalidArgumentError("request_id: is empty; ListRequests names what there is");
  }
  SLUICE_ASSIGN_OR_RETURN(Engine * engine, parts_.engine->Get());
  LogChange(context, "cancel_request", request.request_id());
  const int32_t count = engine->CancelRequests(request.request_id());
  if (count == 0) {
    return absl::NotFoundError(
        absl::StrCat("request_id: no request \"", request.request_id(), "\" runs or waits"));
  }
  response->set_cancelled(static_cast<uint32_t>(count));
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AdminService::Drain(grpc::CallbackServerContext* context,
                                              const v1::DrainRequest* /*request*/,
                                              v1::DrainResponse* /*response*/) {
  const absl::StatusOr<Engine*> engine = parts_.engine->Get();
  if (engine.ok()) {
    LogChange(*context, "drain", "");
    parts_.drain();
  }
  return Answer(context, engine.status());
}

grpc::ServerUnaryReactor* AdminService::SetLogLevel(grpc::CallbackServerContext* context,
                                                    const v1::SetLogLevelRequest* request,
                                                    v1::SetLogLevelResponse* /*response*/) {
  const absl::StatusOr<LogLevel> level = FromProto(request->level());
  if (level.ok()) {
    LogChange(*context, "log_level", v1::LogLevel_Name(request->level()));
    sluice::SetLogLevel(*level);
  }
  return Answer(context, level.status());
}

}  // namespace sluice
