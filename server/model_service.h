// sluice.v1.ModelService over the engine.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "server/generation_service.h"
#include "sluice/v1/model.grpc.pb.h"

namespace sluice {

namespace model_service_internal {
using Base = v1::ModelService::WithRawCallbackMethod_GetModel<
    v1::ModelService::WithRawCallbackMethod_Tokenize<
        v1::ModelService::WithRawCallbackMethod_Detokenize<
            v1::ModelService::WithRawCallbackMethod_Score<v1::ModelService::Service>>>>;
}  // namespace model_service_internal

// Thread-safe, as gRPC calls it. Tokenize and Detokenize run on gRPC's threads: a text of
// max_text_bytes takes them well under a second.
class ModelService final : public model_service_internal::Base {
 public:
  explicit ModelService(const ServiceParts& parts) : parts_(parts) {}

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;

 private:
  ServiceParts parts_;
};

}  // namespace sluice
