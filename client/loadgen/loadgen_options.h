// The command line of `sluice-loadgen`.
#pragma once

#include <set>
#include <string>

#include "client/loadgen/load_run.h"
#include "client/loadgen/rate_sweep.h"
#include "client/loadgen/request_planner.h"
#include "client/loadgen/server_channels.h"
#include "client/options.h"

namespace sluice {

struct LoadgenOptions {
  ServerOptions server;
  WorkloadOptions workload;
  LoadOptions load;
  bool sweeps = false;
  SweepOptions sweep;
  std::string json_file;  // empty: none
  bool progress = false;  // also where there is no terminal
  bool fail_on_errors = false;
  bool version = false;

  std::set<std::string> given;  // names of options
};

// Adds all options. `options` outlives the table; every value is checked against its range when it
// is read.
void AddLoadgenOptions(LoadgenOptions* options, OptionTable* table);

// Says what the options lack or contradict; empty if they are sound. Then the defaults that depend
// on other options are set.
std::string CompleteOptions(LoadgenOptions* options);

}  // namespace sluice
