// sluice.v1.AdminService: what operators see and do.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <functional>

#include "absl/time/time.h"
#include "server/engine_handle.h"
#include "server/health.h"
#include "sluice/v1/admin.grpc.pb.h"

namespace sluice {

// What the service stands on; all of it outlives it.
struct AdminParts {
  const EngineHandle* engine;
  Health* health;
  std::function<int64_t()> connections;  // that clients have open
  std::function<void()> drain;           // as SIGTERM would, once
  absl::Time started;
};

// Thread-safe, as gRPC calls it. What changes anything is logged.
class AdminService final : public v1::AdminService::CallbackService {
 public:
  explicit AdminService(AdminParts parts) : parts_(std::move(parts)) {}

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::GetStatusResponse* response) override;
  grpc::ServerUnaryReactor* ListRequests(grpc::CallbackServerContext* context,
                                         const v1::ListRequestsRequest* request,
                                         v1::ListRequestsResponse* response) override;
  grpc::ServerUnaryReactor* CancelRequest(grpc::CallbackServerContext* context,
                                          const v1::CancelRequestRequest* request,
                                          v1::CancelRequestResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;
  grpc::ServerUnaryReactor* SetLogLevel(grpc::CallbackServerContext* context,
                                        const v1::SetLogLevelRequest* request,
                                        v1::SetLogLevelResponse* response) override;

 private:
  absl::Status List(const v1::ListRequestsRequest& request,
                    v1::ListRequestsResponse* response) const;
  absl::Status Cancel(const grpc::CallbackServerContext& context,
                      const v1::CancelRequestRequest& request,
                      v1::CancelRequestResponse* response) const;

  const AdminParts parts_;
};

}  // namespace sluice
