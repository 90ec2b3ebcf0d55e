// Requests from bytes, and bytes from responses.
//
// The services take raw bytes from gRPC: what gRPC itself answers to a request that it cannot parse
// (UNIMPLEMENTED without a message) tells a client nothing.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"
#include "google/protobuf/message.h"

namespace sluice {

// Fills `message`. InvalidArgument: names the string field that is not valid UTF-8, or says that
// the bytes are no such message.
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message* message);

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);

}  // namespace sluice
