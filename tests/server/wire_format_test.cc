#include "server/wire_format.h"

#include <grpcpp/support/slice.h>
#include <gtest/gtest.h>

#include <string>

#include "sluice/v1/generation.pb.h"

namespace sluice {
namespace {

grpc::ByteBuffer Bytes(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

TEST(WireFormat, ReadsWhatItWrote) {
  v1::GenerateRequest request;
  request.set_text("h\u00E9llo");
  request.mutable_stopping()->add_stop("x");
  v1::GenerateRequest read;
  ASSERT_TRUE(ParseMessage(SerializeMessage(request), &read).ok());
  EXPECT_EQ(read.SerializeAsString(), request.SerializeAsString());
}

TEST(WireFormat, NamesTheFieldThatIsNotUtf8) {
  v1::GenerateRequest read;
  // Field 1 (text), 3 bytes.
  absl::Status status = ParseMessage(Bytes("\x0A\x03"
                                           "a\xFFz"),
                                     &read);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "text: not valid UTF-8");
  // Field 4 (stopping), in it field 2 (stop), 1 byte.
  status = ParseMessage(Bytes("\x22\x03\x12\x01\xC3"), &read);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "stopping.stop: not valid UTF-8");
}

TEST(WireFormat, RefusesBytesThatAreNoMessage) {
  v1::GenerateRequest read;
  const absl::Status status = ParseMessage(Bytes("\x0A\x7F"
                                                 "short"),
                                           &read);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "the request is not a sluice.v1.GenerateRequest: its bytes cannot be parsed");
}

TEST(WireFormat, NoMessageIsOfAClientThatLeft) {
  v1::GenerateRequest read;
  const absl::Status status = ParseMessage(grpc::ByteBuffer(), &read);
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(status.message(), "no request came: the client left before it was sent");
}

TEST(WireFormat, TakesAnEmptyMessage) {
  v1::GenerateRequest read;
  EXPECT_TRUE(ParseMessage(Bytes(""), &read).ok());
}

}  // namespace
}  // namespace sluice
