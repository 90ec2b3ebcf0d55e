#include "server/trace_context.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "absl/random/random.h"
#include "absl/strings/str_format.h"

namespace sluice {
namespace {

// 00-<trace id>-<parent id>-<flags>
constexpr size_t kTraceIdAt = 3;
constexpr size_t kTraceIdDigits = 32;
constexpr size_t kParentIdAt = 36;
constexpr size_t kParentIdDigits = 16;
constexpr size_t kFlagsAt = 53;
constexpr size_t kVersion00Bytes = 55;

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsId(std::string_view text) {
  return IsHex(text) && text.find_first_not_of('0') != std::string_view::npos;
}

}  // namespace

std::optional<TraceContext> ParseTraceparent(std::string_view header) {
  if (header.size() < kVersion00Bytes) return std::nullopt;
  for (const size_t dash : {kTraceIdAt - 1, kParentIdAt - 1, kFlagsAt - 1}) {
    if (header[dash] != '-') return std::nullopt;
  }
  const std::string_view version = header.substr(0, 2);
  if (!IsHex(version) || version == "ff") return std::nullopt;
  if (header.size() > kVersion00Bytes && (version == "00" || header[kVersion00Bytes] != '-')) {
    return std::nullopt;
  }
  const std::string_view trace_id = header.substr(kTraceIdAt, kTraceIdDigits);
  const std::string_view parent_id = header.substr(kParentIdAt, kParentIdDigits);
  if (!IsId(trace_id) || !IsId(parent_id) || !IsHex(header.substr(kFlagsAt, 2))) {
    return std::nullopt;
  }
  return TraceContext{std::string(trace_id), std::string(parent_id)};
}

std::optional<TraceContext> ReadTraceContext(const CallMetadata& metadata) {
  const std::optional<std::string_view> header = OnlyValue(metadata, "traceparent");
  return header.has_value() ? ParseTraceparent(*header) : std::nullopt;
}

std::string NewSpanId() {
  absl::BitGen random;
  return absl::StrFormat("%016x", absl::Uniform<uint64_t>(absl::IntervalClosed, random, 1,
                                                          std::numeric_limits<uint64_t>::max()));
}

}  // namespace sluice
