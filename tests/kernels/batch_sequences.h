// The sequences of a batch that a test of an op makes up. A `Problem` is any struct that has
// `slots`, those of its decode rows, and `runs`, the TokenRuns of its segments behind them.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/packed_rows.h"
#include "tests/kernels/random_data.h"

namespace sluice {

// Runs of those lengths that begin anywhere in their sequences.
inline std::vector<TokenRun> RandomRuns(const std::vector<int32_t>& lengths, Random& random) {
  std::vector<TokenRun> runs;
  for (const int32_t length : lengths) runs.push_back({length, random.Below(200), 0});
  return runs;
}

// Gives `decode_rows` decode rows and the problem's runs slots from the last but one down: of two
// more slots than sequences, the first and the last stay unused. Returns the number of all rows.
template <typename Problem>
int64_t GiveSlots(int32_t decode_rows, Problem& p) {
  auto slot = decode_rows + static_cast<int32_t>(p.runs.size());
  int64_t rows = decode_rows;
  for (int32_t row = 0; row < decode_rows; ++row) p.slots.push_back(slot--);
  for (TokenRun& run : p.runs) {
    run.slot = slot--;
    rows += run.length;
  }
  return rows;
}

// Row ranges of the sequences: each decode row as a run of one token, then the runs.
template <typename Problem>
std::vector<TokenRun> Sequences(const Problem& p) {
  std::vector<TokenRun> sequences;
  for (const int32_t slot : p.slots) sequences.push_back({1, 0, slot});
  sequences.insert(sequences.end(), p.runs.begin(), p.runs.end());
  return sequences;
}

// The sequences on a device, as ops take them.
struct DeviceBatch {
  template <typename Problem>
  DeviceBatch(Device& device, const Problem& p)
      : decode_rows(static_cast<int32_t>(p.slots.size())),
        packed(PackRuns(p.runs, decode_rows)),
        slot_numbers(device, p.slots),
        segment_spans(device, packed.segments) {}

  const int32_t* slots() const { return slot_numbers.as<int32_t>(); }
  int32_t segment_count() const { return static_cast<int32_t>(packed.segments.size()); }
  const Segment* segments() const { return segment_spans.as<Segment>(); }

  int32_t decode_rows;
  PackedRows packed;
  Input slot_numbers;
  Input segment_spans;
};

}  // namespace sluice
