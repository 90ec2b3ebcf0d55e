// Looks for the knee: the highest rate that a server bears.
#pragma once

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/loadgen/load_report.h"

namespace sluice {

struct SweepOptions {
  std::vector<double> rates;  // ascending; empty: searched for
  double start = 1;           // of the search
  int64_t max_points = 16;    // of the search
  double precision = 0.05;    // the search ends when the knee is known to this fraction
  // What a rate needs to be sustained.
  double served_share = 0.95;  // of the requests due in the window, served within it
  double good_share = 0.99;    // of the plain requests, meeting the objective
};

struct SweepPoint {
  double rate = 0;
  LoadResult result;
  std::string problem;  // why the rate is not sustained; empty: it is
};

// "1,2,4.5" in any order; each above 0. InvalidArgument says what is wrong.
absl::StatusOr<std::vector<double>> ParseRates(absl::string_view text);

// Requests that were served within the window, over those due in it; 1 if none was due.
double ServedShare(const LoadTotals& totals);

// Says why a rate is not sustained: requests that were not sent, served_share or good_share is not
// reached. Empty if it is sustained.
std::string FindProblem(const LoadTotals& totals, const SweepOptions& options);

// The rate to try after these. With given rates: the next of them. Else: twice the highest while
// all are sustained, half of the lowest while none is, and then between the highest that is
// sustained and the lowest that is not. Unset: the sweep is over.
std::optional<double> NextRate(const std::vector<SweepPoint>& points, const SweepOptions& options);

// The point of the highest rate that is sustained with every lower one; null if there is none.
const SweepPoint* FindKnee(const std::vector<SweepPoint>& points);

// Both in ascending order of the rates. `setting` is that of every point but for the rate.
void PrintSweep(const LoadSetting& setting, const SweepOptions& options,
                const std::vector<SweepPoint>& points, std::ostream& out);
nlohmann::ordered_json SweepJson(const LoadSetting& setting, const SweepOptions& options,
                                 const std::vector<SweepPoint>& points);

}  // namespace sluice
