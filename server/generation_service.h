// sluice.v1.GenerationService over the engine.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <string>

#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/active_calls.h"
#include "server/delivery_thread.h"
#include "server/engine_handle.h"
#include "server/gate.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice {

// What both services stand on; all of it outlives them.
struct ServiceParts {
  const EngineHandle* engine;
  EngineObserver* observer;  // told of the requests that never reach the engine; thread-safe
  DeliveryThread* delivery;
  ActiveCalls* calls;
  absl::Duration read_limit;  // for a client to read what is left once its request has ended
  Gate* gate;
};

// Thread-safe, as gRPC calls it.
class GenerationService final
    : public v1::GenerationService::WithRawCallbackMethod_Generate<v1::GenerationService::Service> {
 public:
  explicit GenerationService(const ServiceParts& parts) : parts_(parts) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override;

 private:
  ServiceParts parts_;
};

// Tells the observer of a request that passed the gate, but was refused before the engine saw it.
void RecordRefusal(const ServiceParts& parts, const Pass& pass, RequestKind kind,
                   const absl::Status& status);

}  // namespace sluice
