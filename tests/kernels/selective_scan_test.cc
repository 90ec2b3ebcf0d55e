#include "kernels/selective_scan.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/batch_sequences.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/selective_scan_problem.h"
#include "tests/kernels/selective_scan_ref.h"

namespace sluice {
namespace {

constexpr Tolerance kLongTolerance = {2e-4, 1e-3};

void ExpectAgrees(Device& device, const ScanProblem& p, Tolerance float32 = kScanTolerance) {
  const ScanOutcome got = RunScan(device, p);
  std::vector<double> out;
  std::vector<double> states(p.states.begin(), p.states.end());
  std::vector<bool> used(p.slot_count);
  for (const TokenRun& run : Sequences(p)) {
    const auto row = static_cast<int64_t>(out.size()) / p.channels;
    const ref::ScanResult want =
        ref::SelectiveScan(SequenceOf(PartOf(p, row, run, p.State(run.slot))));
    out.insert(out.end(), want.out.begin(), want.out.end());
    std::copy(want.state.begin(), want.state.end(), states.begin() + run.slot * p.StateSize());
    used[run.slot] = true;
  }
  EXPECT_TRUE(Near(got.out, out, p.dtype == DType::kFloat32 ? float32 : kScanBFloat16Tolerance));
  EXPECT_TRUE(Near(got.states, states, float32));
  for (int32_t slot = 0; slot < p.slot_count; ++slot) {
    if (used[slot]) continue;
    EXPECT_TRUE(SameBits(Part(got.states, slot * p.StateSize(), p.StateSize()), p.State(slot)));
  }
}

class SelectiveScanTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, SelectiveScanTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST(SelectiveScanRef, ScansByHand) {
  // One channel, one state, A = -1, steps of ln 2 (softplus of 0): decays of 1/2. h = 8, then
  // 4 + ln 2 * 3 * 1, then half of that plus ln 2 * (-1) * 2.
  const double ln2 = std::log(2.0);
  const ref::ScanSequence s = {1, 1, {1, 2}, {0, 0}, {}, {3, -1}, {10, 1}, {0}, {5}, {}, {8}};
  const ref::ScanResult result = ref::SelectiveScan(s);
  const double first = 4 + 3 * ln2;
  const double second = first / 2 - 2 * ln2;
  EXPECT_NEAR(result.out[0], 10 * first + 5, 1e-12);
  EXPECT_NEAR(result.out[1], second + 10, 1e-12);
  EXPECT_NEAR(result.state[0], second, 1e-12);
}

TEST(SelectiveScanRef, TheChunkedFormIsTheSameFunction) {
  for (const ScanSteps steps :
       {ScanSteps::kTypical, ScanSteps::kLong, ScanSteps::kStrong, ScanSteps::kMixed}) {
    const ScanProblem all = MakeScanProblem({8, 8, 0, true, 0, {150}, steps}, DType::kFloat32, 700);
    const ScanProblem p = PartOf(all, 0, all.runs[0], all.State(all.runs[0].slot));
    const ref::ScanResult want = ref::SelectiveScan(SequenceOf(p));
    const ref::ScanResult got = ref::SelectiveScanChunked(SequenceOf(p), kChunk);
    for (size_t i = 0; i < want.out.size(); ++i) {
      ASSERT_NEAR(got.out[i], want.out[i], 1e-11 * (1 + std::abs(want.out[i])));
    }
    for (size_t i = 0; i < want.state.size(); ++i) {
      ASSERT_NEAR(got.state[i], want.state[i], 1e-11 * (1 + std::abs(want.state[i])));
    }
  }
}

TEST_P(SelectiveScanTest, AgreesWithTheOracle) {
  const std::vector<ScanShape> shapes = {
      // Decode rows, segments, both.
      {8, 8, 0, false, 1, {}},
      {8, 8, 0, true, 0, {1}},
      {24, 16, 8, true, 3, {1, 2, 7, 8, 9}},
      {384, 16, 0, false, 5, {15, 16, 17, 63, 64, 65}},
      {64, 16, 0, true, 0, {1000}},
      {264, 16, 0, true, 0, {63, 64, 65, 128, 129}},
      {1032, 16, 16, false, 2, {3, 1, 2}},
      {512, 16, 0, true, 64, {}},
      {4096, 16, 0, true, 130, {}},
      {40, 16, 0, true, 16, {1, 1, 200, 1, 4, 3, 5}},
      // States.
      {40, 24, 8, true, 2, {50}},
      {72, 32, 0, true, 3, {33}},
      {16, 56, 0, true, 1, {20}},
      {96, 64, 0, true, 2, {70}},
      {16, 72, 8, true, 1, {20}},
      {48, 128, 0, true, 2, {30}},
      {8, 248, 0, true, 1, {9}},
      {40, 256, 8, true, 3, {17, 8}},
      {72, 40, 8, true, 1, {600, 300}},
      // Steps.
      {32, 16, 0, true, 2, {700}, ScanSteps::kLong},
      {64, 16, 0, true, 3, {100}, ScanSteps::kStrong},
      {64, 16, 8, true, 9, {100, 5}, ScanSteps::kMixed},
      {24, 80, 0, false, 9, {30}, ScanSteps::kMixed},
  };
  uint64_t seed = 710;
  for (const ScanShape& shape : shapes) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message()
                   << DTypeName(dtype) << " D=" << shape.channels << " N=" << shape.state_size
                   << " decode rows " << shape.decode_rows << " segments " << shape.lengths.size());
      ExpectAgrees(device(), MakeScanProblem(shape, dtype, ++seed),
                   shape.steps == ScanSteps::kLong ? kLongTolerance : kScanTolerance);
    }
  }
}

TEST_P(SelectiveScanTest, EachOfBiasSkipAndGateMayBeMissing) {
  for (int missing = 0; missing < 3; ++missing) {
    ScanProblem p = MakeScanProblem({24, 16, 0, true, 2, {20}}, DType::kFloat32, 740);
    if (missing == 0) p.dt_bias.clear();
    if (missing == 1) p.skip.clear();
    if (missing == 2) p.gate.clear();
    SCOPED_TRACE(missing);
    ExpectAgrees(device(), p);
  }
}

TEST_P(SelectiveScanTest, StepsOfAnySizeStayFinite) {
  // Row r of channel d: a step of about dts[r] against A = -exp(a_logs[n % 4]).
  const std::vector<float> dts = {-1e30F, -200, -88, -20, 0, 19.99F, 20, 20.01F, 1e4F, 1e8F};
  const float a_logs[] = {-80, 0, std::log(1e4F), 80};
  ScanProblem p =
      MakeScanProblem({8, 8, 0, true, 0, {static_cast<int32_t>(dts.size())}}, DType::kFloat32, 745);
  for (size_t i = 0; i < p.dt.size(); ++i) p.dt[i] = dts[i / 8];
  for (size_t i = 0; i < p.a_log.size(); ++i) p.a_log[i] = a_logs[i % 4];
  p.dt_bias.clear();
  const ScanOutcome got = RunScan(device(), p);
  const ref::ScanResult want =
      ref::SelectiveScan(SequenceOf(PartOf(p, 0, p.runs[0], p.State(p.runs[0].slot))));
  for (size_t row = 0; row < dts.size(); ++row) {  // each of its own size
    EXPECT_TRUE(Near(Part(got.out, row * 8, 8), Part(want.out, row * 8, 8), kScanTolerance))
        << dts[row];
  }
}

TEST_P(SelectiveScanTest, TakesNoRows) {
  const ScanProblem p = MakeScanProblem({8, 8, 0, true, 0, {}}, DType::kFloat32, 770);
  EXPECT_TRUE(SameBits(RunScan(device(), p).states, p.states));
}

using SelectiveScanDeathTest = SelectiveScanTest;
INSTANTIATE_TEST_SUITE_P(Devices, SelectiveScanDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(SelectiveScanDeathTest, RefusesWhatBreaksALimit) {
  const auto scan = [&](int64_t channels, int64_t state_size, DType dtype) {
    RunScan(device(), MakeScanProblem({channels, state_size, 0, true, 1, {}}, dtype, 790));
  };
  EXPECT_DEATH(scan(12, 16, DType::kFloat32), kCheckFailed);
  EXPECT_DEATH(scan(8, 12, DType::kFloat32), kCheckFailed);
  EXPECT_DEATH(scan(8, 264, DType::kFloat32), kCheckFailed);
  if (!is_cuda()) {
    EXPECT_DEATH(scan(8, 16, DType::kBFloat16), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
