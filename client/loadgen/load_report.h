// What a load run is told as: a table for people, JSON for programs.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/loadgen/load_run.h"
#include "sluice/v1/model.pb.h"

namespace sluice {

// What stands in front of the figures.
struct LoadSetting {
  std::vector<std::string> command;  // as it was given
  std::string address;
  v1::GetModelResponse model;
  LoadOptions load;
  absl::Time started;
};

// Of the measured phase.
double WindowSeconds(const LoadResult& result);
// `count` a second of the measured phase; 0 if it had no length.
double PerSecond(const LoadResult& result, int64_t count);
// Of the plain requests, those that met the objective; 0 if there were none.
double GoodShare(const LoadTotals& totals);

// "open loop, 50 requests/s (Poisson)".
std::string DescribeLoop(const LoadOptions& options);
// "12.3 ms", with three digits.
std::string DurationText(double ns);

void PrintReport(const LoadSetting& setting, const LoadResult& result, std::ostream& out);

// The schema stands in client/loadgen/README.md.
nlohmann::ordered_json ReportJson(const LoadSetting& setting, const LoadResult& result);

}  // namespace sluice
