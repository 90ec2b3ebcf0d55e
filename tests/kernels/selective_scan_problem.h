// A batch for the selective scan, run on a device and taken apart for the oracle.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/packed_rows.h"
#include "tests/kernels/selective_scan_ref.h"

namespace sluice {

// A GPU's decay is off by up to 2^-22, and a state is the product of as many as it remembers.
constexpr Tolerance kScanTolerance = {2e-5, 2e-4};
constexpr Tolerance kScanBFloat16Tolerance = {4e-3, 5e-3};  // rounding alone reaches 2^-8

enum class ScanSteps : uint8_t {
  kTypical,  // as Mamba starts out: steps of 0.001 to 0.1, A = -1..-N
  kLong,     // hardly anything is forgotten
  kStrong,   // steps up to 100 and A down to -10^4: from one token to the next all is forgotten
  kMixed,    // from channel to channel and token to token: no step at all, typical or strong
};

struct ScanShape {
  int64_t channels;
  int64_t state_size;
  int64_t padding;
  bool extras;  // bias, skip and gate
  int32_t decode_rows;
  std::vector<int32_t> lengths;
  ScanSteps steps = ScanSteps::kTypical;
};

struct ScanProblem {
  DType dtype;
  int64_t channels;
  int64_t state_size;
  int64_t padding;             // between rows of the matrices
  std::vector<int32_t> slots;  // of the decode rows
  std::vector<TokenRun> runs;  // the prefill segments
  int32_t slot_count;
  std::vector<float> x, dt;          // [rows, channels]
  std::vector<float> b, c;           // [rows, state_size]
  std::vector<float> gate;           // [rows, channels] or empty
  std::vector<float> a_log;          // [channels, state_size]
  std::vector<float> dt_bias, skip;  // [channels] or empty
  std::vector<float> states;         // [slot_count, state_size, channels]

  int64_t StateSize() const { return state_size * channels; }
  std::vector<float> State(int32_t slot) const {
    return Part(states, slot * StateSize(), StateSize());
  }
};

struct ScanOutcome {
  std::vector<float> out;     // [rows, channels]
  std::vector<float> states;  // as the problem's
};

// Random operands, and a random state in every slot: two more slots than sequences.
ScanProblem MakeScanProblem(const ScanShape& shape, DType dtype, uint64_t seed);

// `run.length` rows from `row` on, as one run in slot 0, which holds `state`.
ScanProblem PartOf(const ScanProblem& p, int64_t row, const TokenRun& run,
                   const std::vector<float>& state);

// Fails the test if anything is written that is not to be.
ScanOutcome RunScan(Device& device, const ScanProblem& p);

// A problem of one run in slot 0 as the oracle takes it.
ref::ScanSequence SequenceOf(const ScanProblem& p);

}  // namespace sluice
