// What is left of a state after 100,000 tokens: every kind of the recurrence that a family uses,
// taken token by token, beside the oracle in double precision. Prints the errors at the end, which
// kernels/README.md has in a table.
#include "tests/kernels/long_run.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/gated_long_run.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/relative_error.h"
#include "tests/kernels/selective_scan_ref.h"

namespace sluice {
namespace {

class LongRunTest : public DeviceTest {
 protected:
  void Report(const std::string& kind, DType dtype, const LongRunErrors& errors) const {
    char text[64];
    std::snprintf(text, sizeof(text), "state %.1e, last outputs %.1e", errors.state, errors.out);
    std::printf("%s | %s | %s\n", kind.c_str(), DTypeName(dtype), text);
    RecordProperty(kind + ", " + DTypeName(dtype), text);
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, LongRunTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST_P(LongRunTest, GatedStepKeepsToTheOracleAfterManyTokens) {
  for (const GatedLongKind& kind : GatedLongKinds()) {
    for (const DType dtype : ActivationTypes()) {
      const LongRunErrors errors = RunLong(device(), kind, dtype);
      Report(kind.name, dtype, errors);
      EXPECT_LE(errors.state, kind.bound) << kind.name;
      EXPECT_LE(errors.out, dtype == DType::kFloat32 ? kind.bound : kind.bfloat16_bound)
          << kind.name;
    }
  }
}

// One sequence of Mamba's scan, as it starts out: steps of 0.001 to 0.1, A = -1..-N.
ref::ScanSequence LongScan(DType dtype, uint64_t seed) {
  Random random(seed);
  ref::ScanSequence s = {.channels = 16, .state_size = 8};
  s.x = Drawn(random, kLongTokens * s.channels, dtype);
  s.dt = Rounded(random.Uniforms(kLongTokens * s.channels, -2, 2), dtype);
  s.b = Drawn(random, kLongTokens * s.state_size, dtype);
  s.c = Drawn(random, kLongTokens * s.state_size, dtype);
  s.gate = Drawn(random, kLongTokens * s.channels, dtype);
  Random shared(950);
  s.dt_bias = shared.Uniforms(s.channels, -6.9, -2.2);
  s.skip = shared.Normals(s.channels, 1.0);
  for (int64_t i = 0; i < s.channels * s.state_size; ++i) {
    s.a_log.push_back(std::log(static_cast<float>(1 + i % s.state_size)));
  }
  s.state.resize(s.channels * s.state_size);
  return s;
}

struct ScanEnd {
  std::vector<float> out;     // [kLongBlock, kLongRows, channels], the last ones
  std::vector<float> states;  // [kLongRows, state_size, channels]
};

// The sequences' rows of each token side by side.
std::vector<float> Interleaved(const std::vector<ref::ScanSequence>& sequences,
                               std::vector<float> ref::ScanSequence::*part, int64_t cols) {
  std::vector<float> all;
  for (int64_t t = 0; t < kLongTokens; ++t) {
    for (const ref::ScanSequence& s : sequences) {
      const auto row = (s.*part).begin() + t * cols;
      all.insert(all.end(), row, row + cols);
    }
  }
  return all;
}

ScanEnd RunScan(Device& device, DType dtype, const std::vector<ref::ScanSequence>& sequences) {
  const ref::ScanSequence& s = sequences[0];
  const int64_t wide = s.channels;
  const int64_t narrow = s.state_size;
  const Input x(device, Interleaved(sequences, &ref::ScanSequence::x, wide), dtype);
  const Input dt(device, Interleaved(sequences, &ref::ScanSequence::dt, wide), dtype);
  const Input b(device, Interleaved(sequences, &ref::ScanSequence::b, narrow), dtype);
  const Input c(device, Interleaved(sequences, &ref::ScanSequence::c, narrow), dtype);
  const Input gate(device, Interleaved(sequences, &ref::ScanSequence::gate, wide), dtype);
  const Input dt_bias(device, s.dt_bias);
  const Input a_log(device, s.a_log);
  const Input skip(device, s.skip);
  const Input slots(device, kLongSlotOfRow);
  const int64_t state = wide * narrow;
  const Output states(device, std::vector<float>(kLongSlots * state));
  const Output out(device, kLongBlock * kLongRows * wide * DTypeBytes(dtype));
  for (int64_t t = 0; t < kLongTokens; ++t) {
    device.SelectiveScan({.dtype = dtype,
                          .channels = static_cast<int32_t>(wide),
                          .state_size = static_cast<int32_t>(narrow),
                          .decode_rows = kLongRows,
                          .slots = slots.as<int32_t>(),
                          .segment_count = 0,
                          .segments = nullptr,
                          .rows = kLongRows,
                          .x = x.at(t * kLongRows * wide, dtype),
                          .x_stride = wide,
                          .dt = dt.at(t * kLongRows * wide, dtype),
                          .dt_stride = wide,
                          .dt_bias = dt_bias.as<float>(),
                          .b = b.at(t * kLongRows * narrow, dtype),
                          .b_stride = narrow,
                          .c = c.at(t * kLongRows * narrow, dtype),
                          .c_stride = narrow,
                          .a_log = a_log.as<float>(),
                          .skip = skip.as<float>(),
                          .gate = gate.at(t * kLongRows * wide, dtype),
                          .gate_stride = wide,
                          .states = states.as<float>(),
                          .slot_stride = state,
                          .out = out.at(t % kLongBlock * kLongRows * wide, dtype)});
  }
  ScanEnd end;
  end.out = out.Read(dtype);
  const std::vector<float> all = states.Read<float>();
  for (const int32_t slot : kLongSlotOfRow) {
    const std::vector<float> part = Part(all, slot * state, state);
    end.states.insert(end.states.end(), part.begin(), part.end());
  }
  return end;
}

TEST_P(LongRunTest, SelectiveScanKeepsToTheOracleAfterManyTokens) {
  for (const DType dtype : ActivationTypes()) {
    const std::vector<ref::ScanSequence> sequences = {LongScan(dtype, 960), LongScan(dtype, 961)};
    const ScanEnd end = RunScan(device(), dtype, sequences);
    const int64_t wide = sequences[0].channels;
    std::vector<double> states;
    std::vector<double> out(kLongBlock * kLongRows * wide);
    for (int64_t row = 0; row < kLongRows; ++row) {
      const ref::ScanResult want = ref::SelectiveScan(sequences[row]);
      states.insert(states.end(), want.state.begin(), want.state.end());
      for (int64_t t = 0; t < kLongBlock; ++t) {
        std::copy_n(want.out.end() - (kLongBlock - t) * wide, wide,
                    out.begin() + (t * kLongRows + row) * wide);
      }
    }
    const LongRunErrors errors = {RelativeError(end.states, states), RelativeError(end.out, out)};
    Report("mamba", dtype, errors);
    EXPECT_LE(errors.state, 1.5e-6);
    EXPECT_LE(errors.out, dtype == DType::kFloat32 ? 1.5e-6 : 4e-3);
  }
}

}  // namespace
}  // namespace sluice
