// W3C Trace Context: where a call stands in a trace, for logs
// (https://www.w3.org/TR/trace-context/, levels 1 and 2).
//
// Of the two headers `traceparent` alone is read. `tracestate` is the business of those whom a
// server calls, and this one calls nobody.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/call_metadata.h"

namespace sluice {

struct TraceContext {
  std::string trace_id;        // 32 lower-case hexadecimal digits, not all zero
  std::string parent_span_id;  // 16 of them, not all zero
};

// Nothing if the header is invalid, which the specification wants treated as if it were absent.
// Of versions after 00 the known beginning is read, whatever follows behind a dash.
std::optional<TraceContext> ParseTraceparent(std::string_view header);

// Nothing, too, if the header is absent or there twice.
std::optional<TraceContext> ReadTraceContext(const CallMetadata& metadata);

// A random one, never zero. Thread-safe.
std::string NewSpanId();

}  // namespace sluice
