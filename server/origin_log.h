// Where a call came from, as fields of a line.
#pragma once

#include "engine/request.h"
#include "server/log.h"

namespace sluice {

// peer; tenant, key, trace_id, parent_span_id and span_id where there are any.
inline void AddOrigin(const Origin& origin, LogFields* fields) {
  fields->Add("peer", origin.peer);
  if (!origin.tenant.empty()) fields->Add("tenant", origin.tenant);
  if (!origin.key.empty()) fields->Add("key", origin.key);
  if (origin.trace_id.empty()) return;
  fields->Add("trace_id", origin.trace_id)
      .Add("parent_span_id", origin.parent_span_id)
      .Add("span_id", origin.span_id);
}

}  // namespace sluice
