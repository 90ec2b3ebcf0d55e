#include "server/wire_format.h"

#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/slice.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/stubs/logging.h"
#include "kernels/check.h"
#include "server/log.h"

namespace sluice {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

// What protobuf logged on this thread while it parsed; it says which field is at fault nowhere
// else.
thread_local std::string* parse_log = nullptr;

void OnProtobufLog(google::protobuf::LogLevel level, const char* /*file*/, int /*line*/,
                   const std::string& message) {
  if (parse_log != nullptr) {
    *parse_log = message;
    return;
  }
  if (level < google::protobuf::LOGLEVEL_WARNING) return;
  Log(LogLevel::kWarning, "protobuf", LogFields().Add("message", message));
}

void RouteProtobufLog() {
  static const bool routed = [] {
    google::protobuf::SetLogHandler(&OnProtobufLog);
    return true;
  }();
  (void)routed;
}

// The path from `root` to the field of this full name, at most `depth` messages down:
// "sampling.seed". Empty if there is none.
std::string FieldPath(const Descriptor& root, std::string_view full_name, int depth) {
  for (int i = 0; i < root.field_count(); ++i) {
    const FieldDescriptor& field = *root.field(i);
    if (field.full_name() == full_name) return field.name();
    if (field.message_type() == nullptr || depth == 0) continue;
    const std::string below = FieldPath(*field.message_type(), full_name, depth - 1);
    if (!below.empty()) return absl::StrCat(field.name(), ".", below);
  }
  return "";
}

// protobuf says: String field 'package.Message.field' contains invalid UTF-8 data when parsing ...
std::string InvalidUtf8Field(const Descriptor& root, const std::string& log) {
  if (log.find("invalid UTF-8") == std::string::npos) return "";
  const std::vector<std::string> parts = absl::StrSplit(log, '\'');
  if (parts.size() < 3) return "a text";
  const std::string path = FieldPath(root, parts[1], /*depth=*/2);
  return path.empty() ? "a text" : path;
}

}  // namespace

absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message* message) {
  RouteProtobufLog();
  grpc::ByteBuffer buffer(bytes);  // shares the slices; the reader wants a mutable one
  grpc::ProtoBufferReader reader(&buffer);
  if (!reader.status().ok()) {
    return absl::CancelledError("no request came: the client left before it was sent");
  }
  std::string log;
  parse_log = &log;
  const bool parsed = message->ParseFromZeroCopyStream(&reader);
  parse_log = nullptr;
  if (parsed) return absl::OkStatus();
  const Descriptor& descriptor = *message->GetDescriptor();
  const std::string field = InvalidUtf8Field(descriptor, log);
  if (!field.empty()) return absl::InvalidArgumentError(absl::StrCat(field, ": not valid UTF-8"));
  return absl::InvalidArgumentError(absl::StrCat("the request is not a ", descriptor.full_name(),
                                                 ": its bytes cannot be parsed"));
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message) {
  std::string bytes;
  SLUICE_CHECK(message.SerializeToString(&bytes));
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace sluice
