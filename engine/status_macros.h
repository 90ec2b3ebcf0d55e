// The two macros that pass an absl::Status upwards.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define SLUICE_RETURN_IF_ERROR(expression)         \
  do {                                             \
    absl::Status sluice_status = (expression);     \
    if (!sluice_status.ok()) return sluice_status; \
  } while (false)

#define SLUICE_CONCAT_INNER(a, b) a##b
#define SLUICE_CONCAT(a, b) SLUICE_CONCAT_INNER(a, b)

// Declares or assigns `lhs` from a StatusOr, or returns its status.
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration in parentheses is none.
#define SLUICE_ASSIGN_OR_RETURN(lhs, expression) \
  SLUICE_ASSIGN_OR_RETURN_INNER(SLUICE_CONCAT(sluice_or_, __LINE__), lhs, expression)
#define SLUICE_ASSIGN_OR_RETURN_INNER(result, lhs, expression) \
  auto result = (expression);                                  \
  if (!result.ok()) return std::move(result).status();         \
  lhs = *std::move(result)
// NOLINTEND(bugprone-macro-parentheses)
