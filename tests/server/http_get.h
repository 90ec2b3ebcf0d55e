// As much of an HTTP client as a test of a metrics page needs.
#pragma once

#include <string>

namespace sluice {

// Status line, headers and body of http://a.b.c.d:port/path; empty if nobody answers.
std::string HttpGet(const std::string& url);

}  // namespace sluice
