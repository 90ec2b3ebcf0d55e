#include "kernels/selective_scan.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/batch_sequences.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/packed_rows.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/selective_scan_ref.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

// A GPU's decay is off by up to 2^-22, and a state is the product of as many as it remembers.
constexpr Tolerance kFloat32Tolerance = {2e-5, 2e-4};
constexpr Tolerance kLongTolerance = {2e-4, 1e-3};
constexpr Tolerance kBFloat16Tolerance = {4e-3, 5e-3};  // rounding alone reaches 2^-8

enum class Steps : uint8_t {
  kTypical,  // as Mamba starts out: steps of 0.001 to 0.1, A = -1..-N
  kLong,     // hardly anything is forgotten
  kStrong,   // steps up to 100 and A down to -10^4: from one token to the next all is forgotten
  kMixed,    // from channel to channel and token to token: no step at all, typical or strong
};

struct Problem {
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

struct Result {
  std::vector<float> out;
  std::vector<float> states;
};

Result Scan(Device& device, const Problem& p) {
  const auto decode_rows = static_cast<int32_t>(p.slots.size());
  const PackedRows packed = PackRuns(p.runs, decode_rows);
  const auto channels = static_cast<int32_t>(p.channels);
  const auto state_size = static_cast<int32_t>(p.state_size);
  const Input slots(device, p.slots);
  const Input segments(device, packed.segments);
  const Input chunks(device, packed.chunks);
  const auto chunk_count = static_cast<int32_t>(packed.chunks.size());
  const int64_t wide = p.channels + p.padding;
  const int64_t narrow = p.state_size + p.padding;
  const Input x(device, Spread(p.x, p.channels, wide), p.dtype);
  const Input dt(device, Spread(p.dt, p.channels, wide), p.dtype);
  const Input b(device, Spread(p.b, p.state_size, narrow), p.dtype);
  const Input c(device, Spread(p.c, p.state_size, narrow), p.dtype);
  const Input gate(device, Spread(p.gate, p.channels, wide), p.dtype);
  const Input dt_bias(device, p.dt_bias);
  const Input a_log(device, p.a_log);
  const Input skip(device, p.skip);
  const int64_t slot_stride = p.StateSize() + 24;
  const Output states(device, Spread(p.states, p.StateSize(), slot_stride));
  const Output workspace(device,
                         device.SelectiveScanWorkspaceBytes(channels, state_size, chunk_count));
  const Output out(device, static_cast<int64_t>(p.x.size()) * DTypeBytes(p.dtype));
  device.SelectiveScan({.dtype = p.dtype,
                        .channels = channels,
                        .state_size = state_size,
                        .decode_rows = decode_rows,
                        .slots = slots.as<int32_t>(),
                        .segment_count = static_cast<int32_t>(packed.segments.size()),
                        .segments = segments.as<Segment>(),
                        .chunk_count = chunk_count,
                        .chunks = chunks.as<ChunkSpan>(),
                        .rows = packed.rows,
                        .x = x.data(),
                        .x_stride = wide,
                        .dt = dt.data(),
                        .dt_stride = wide,
                        .dt_bias = dt_bias.as<float>(),
                        .b = b.data(),
                        .b_stride = narrow,
                        .c = c.data(),
                        .c_stride = narrow,
                        .a_log = a_log.as<float>(),
                        .skip = skip.as<float>(),
                        .gate = gate.data(),
                        .gate_stride = wide,
                        .states = states.as<float>(),
                        .slot_stride = slot_stride,
                        .out = out.data(),
                        .workspace = workspace.data()});
  workspace.ReadBytes();  // Looks at the guards.
  const std::vector<float> written = states.Read<float>();
  EXPECT_TRUE(AllPoison(Columns(written, p.StateSize(), 24, slot_stride)))
      << "written between states";
  return {out.Read(p.dtype), Columns(written, 0, p.StateSize(), slot_stride)};
}

// `count` rows from `row` on, as one run in slot 0, which holds `state`.
Problem PartOf(const Problem& p, int64_t row, const TokenRun& run,
               const std::vector<float>& state) {
  Problem part = p;
  part.slots.clear();
  part.runs = {{run.length, run.position, 0}};
  part.slot_count = 1;
  part.states = state;
  for (std::vector<float>* wide : {&part.x, &part.dt, &part.gate}) {
    if (!wide->empty()) *wide = Part(*wide, row * p.channels, run.length * p.channels);
  }
  for (std::vector<float>* narrow : {&part.b, &part.c}) {
    *narrow = Part(*narrow, row * p.state_size, run.length * p.state_size);
  }
  return part;
}

ref::ScanSequence SequenceOf(const Problem& p) {
  return {p.channels, p.state_size, p.x,    p.dt,   p.dt_bias, p.b,
          p.c,        p.a_log,      p.skip, p.gate, p.states};
}

void ExpectAgrees(Device& device, const Problem& p, Tolerance float32 = kFloat32Tolerance) {
  const Result got = Scan(device, p);
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
  EXPECT_TRUE(Near(got.out, out, p.dtype == DType::kFloat32 ? float32 : kBFloat16Tolerance));
  EXPECT_TRUE(Near(got.states, states, float32));
  for (int32_t slot = 0; slot < p.slot_count; ++slot) {
    if (used[slot]) continue;
    EXPECT_TRUE(SameBits(Part(got.states, slot * p.StateSize(), p.StateSize()), p.State(slot)));
  }
}

struct Shape {
  int64_t channels;
  int64_t state_size;
  int64_t padding;
  bool extras;  // bias, skip and gate
  int32_t decode_rows;
  std::vector<int32_t> lengths;
  Steps steps = Steps::kTypical;
};

void FillSteps(const Shape& shape, int64_t rows, Random& random, Problem* p) {
  for (int64_t i = 0; i < rows * shape.channels; ++i) {
    const int32_t kind = random.Below(3);
    const bool strong = shape.steps == Steps::kStrong || (shape.steps == Steps::kMixed && kind < 1);
    const bool none = shape.steps == Steps::kMixed && kind == 1;
    double dt = -4.5 + 1.3 * random.Normal();
    if (shape.steps == Steps::kLong) dt -= 4;
    if (strong) dt = 100 * random.Uniform();
    if (none) dt = -300;
    p->dt.push_back(static_cast<float>(dt));
  }
  p->dt = Rounded(p->dt, p->dtype);
  for (int64_t d = 0; d < shape.channels; ++d) {
    for (int64_t n = 0; n < shape.state_size; ++n) {
      const bool strong =
          shape.steps == Steps::kStrong || (shape.steps == Steps::kMixed && random.Below(2) == 0);
      const double a = strong ? std::pow(10.0, 4 * random.Uniform()) : static_cast<double>(n + 1);
      p->a_log.push_back(static_cast<float>(std::log(a)));
    }
  }
}

Problem Make(const Shape& shape, DType dtype, uint64_t seed) {
  Random random(seed);
  const auto sequences = shape.decode_rows + static_cast<int32_t>(shape.lengths.size());
  Problem p = {.dtype = dtype,
               .channels = shape.channels,
               .state_size = shape.state_size,
               .padding = shape.padding,
               .slot_count = sequences + 2};
  p.runs = RandomRuns(shape.lengths, random);
  const int64_t rows = GiveSlots(shape.decode_rows, p);
  FillSteps(shape, rows, random, &p);
  p.x = random.Normals(rows * p.channels, 1.0, dtype);
  p.b = random.Normals(rows * p.state_size, 1.0, dtype);
  p.c = random.Normals(rows * p.state_size, 1.0, dtype);
  if (shape.extras) {
    p.gate = random.Normals(rows * p.channels, 1.5, dtype);
    p.dt_bias = random.Normals(p.channels, 0.3);
    p.skip = random.Normals(p.channels);
  }
  p.states = random.Normals(p.slot_count * p.StateSize());
  return p;
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
  for (const Steps steps : {Steps::kTypical, Steps::kLong, Steps::kStrong, Steps::kMixed}) {
    const Problem all = Make({8, 8, 0, true, 0, {150}, steps}, DType::kFloat32, 700);
    const Problem p = PartOf(all, 0, all.runs[0], all.State(all.runs[0].slot));
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
  const std::vector<Shape> shapes = {
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
      // Steps.
      {32, 16, 0, true, 2, {700}, Steps::kLong},
      {64, 16, 0, true, 3, {100}, Steps::kStrong},
      {64, 16, 8, true, 9, {100, 5}, Steps::kMixed},
      {24, 80, 0, false, 9, {30}, Steps::kMixed},
  };
  uint64_t seed = 710;
  for (const Shape& shape : shapes) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message()
                   << DTypeName(dtype) << " D=" << shape.channels << " N=" << shape.state_size
                   << " decode rows " << shape.decode_rows << " segments " << shape.lengths.size());
      ExpectAgrees(device(), Make(shape, dtype, ++seed),
                   shape.steps == Steps::kLong ? kLongTolerance : kFloat32Tolerance);
    }
  }
}

TEST_P(SelectiveScanTest, EachOfBiasSkipAndGateMayBeMissing) {
  for (int missing = 0; missing < 3; ++missing) {
    Problem p = Make({24, 16, 0, true, 2, {20}}, DType::kFloat32, 740);
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
  Problem p = Make({8, 8, 0, true, 0, {static_cast<int32_t>(dts.size())}}, DType::kFloat32, 745);
  for (size_t i = 0; i < p.dt.size(); ++i) p.dt[i] = dts[i / 8];
  for (size_t i = 0; i < p.a_log.size(); ++i) p.a_log[i] = a_logs[i % 4];
  p.dt_bias.clear();
  const Result got = Scan(device(), p);
  const ref::ScanResult want =
      ref::SelectiveScan(SequenceOf(PartOf(p, 0, p.runs[0], p.State(p.runs[0].slot))));
  for (size_t row = 0; row < dts.size(); ++row) {  // each of its own size
    EXPECT_TRUE(Near(Part(got.out, row * 8, 8), Part(want.out, row * 8, 8), kFloat32Tolerance))
        << dts[row];
  }
}

TEST_P(SelectiveScanTest, ASequenceDoesNotDependOnItsBatchNorOnItsSlot) {
  for (const int64_t state_size : {16, 128}) {
    const Problem p = Make({40, state_size, 8, true, 3, {70, 2}}, ActivationTypes().back(), 750);
    const Result all = Scan(device(), p);
    int64_t row = 0;
    for (const TokenRun& run : Sequences(p)) {
      Problem one = PartOf(p, row, run, p.State(run.slot));
      if (row < static_cast<int64_t>(p.slots.size())) {
        one.slots = {0};
        one.runs.clear();
      }
      const Result alone = Scan(device(), one);
      EXPECT_TRUE(SameBits(alone.out, Part(all.out, row * p.channels, run.length * p.channels)));
      EXPECT_TRUE(
          SameBits(alone.states, Part(all.states, run.slot * p.StateSize(), p.StateSize())));
      row += run.length;
    }
  }
}

TEST_P(SelectiveScanTest, ARowOfManyIsThatRowAlone) {
  const Problem p = Make({520, 16, 0, true, 300, {}}, ActivationTypes().back(), 755);
  const Result all = Scan(device(), p);
  for (const int64_t row : {0, 1, 150, 299}) {
    Problem one = PartOf(p, row, {1, 0, 0}, p.State(p.slots[row]));
    one.slots = {0};
    one.runs.clear();
    const Result alone = Scan(device(), one);
    EXPECT_TRUE(SameBits(alone.out, Part(all.out, row * p.channels, p.channels)));
    EXPECT_TRUE(
        SameBits(alone.states, Part(all.states, p.slots[row] * p.StateSize(), p.StateSize())));
  }
}

// The problem's one run in parts that end after `ends` tokens, a part of one token as a decode row.
Result ScanInParts(Device& device, const Problem& p, const std::vector<int32_t>& ends) {
  Result parts = {{}, p.State(p.runs[0].slot)};
  int32_t begin = 0;
  for (const int32_t end : ends) {
    Problem part = PartOf(p, begin, {end - begin, p.runs[0].position + begin, 0}, parts.states);
    if (end - begin == 1) {
      part.slots = {0};
      part.runs.clear();
    }
    const Result got = Scan(device, part);
    parts.out.insert(parts.out.end(), got.out.begin(), got.out.end());
    parts.states = got.states;
    begin = end;
  }
  return parts;
}

// A prompt of 150 tokens from position 101 on: the grid of chunks lies before tokens 27 and 91.
Problem Prompt(int64_t state_size, DType dtype) {
  Problem p = Make({40, state_size, 8, true, 0, {150}, Steps::kMixed}, dtype, 760);
  p.runs[0].position = 101;
  return p;
}

TEST_P(SelectiveScanTest, ASplitOnTheGridChangesNoBit) {
  for (const int64_t state_size : {8, 16, 64, 72}) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " N=" << state_size);
      const Problem p = Prompt(state_size, dtype);
      const Result whole = Scan(device(), p);
      const std::vector<float> state =
          Part(whole.states, p.runs[0].slot * p.StateSize(), p.StateSize());
      for (const std::vector<int32_t>& ends :
           std::vector<std::vector<int32_t>>{{27, 150}, {91, 150}, {27, 91, 150}}) {
        const Result parts = ScanInParts(device(), p, ends);
        EXPECT_TRUE(SameBits(parts.out, whole.out)) << ends[0];
        EXPECT_TRUE(SameBits(parts.states, state)) << ends[0];
      }
    }
  }
}

TEST_P(SelectiveScanTest, ASplitAnywhereIsTheSameFunction) {
  for (const DType dtype : ActivationTypes()) {
    const Problem p = Prompt(16, dtype);
    const Result whole = Scan(device(), p);
    const std::vector<float> state =
        Part(whole.states, p.runs[0].slot * p.StateSize(), p.StateSize());
    for (const std::vector<int32_t>& ends :
         std::vector<std::vector<int32_t>>{{1, 150}, {16, 31, 65, 150}, {148, 149, 150}}) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << ends[0]);
      const Result parts = ScanInParts(device(), p, ends);
      if (is_cuda()) {
        const bool rounded = dtype == DType::kBFloat16;
        EXPECT_TRUE(Near(parts.out, {whole.out.begin(), whole.out.end()},
                         rounded ? kBFloat16Tolerance : kFloat32Tolerance));
        EXPECT_TRUE(Near(parts.states, {state.begin(), state.end()}, kFloat32Tolerance));
      } else {
        EXPECT_TRUE(SameBits(parts.out, whole.out));
        EXPECT_TRUE(SameBits(parts.states, state));
      }
    }
  }
}

TEST_P(SelectiveScanTest, TakesNoRows) {
  const Problem p = Make({8, 8, 0, true, 0, {}}, DType::kFloat32, 770);
  EXPECT_TRUE(SameBits(Scan(device(), p).states, p.states));
}

TEST(SelectiveScanThreads, GiveTheSameBits) {
  const Problem p = Make({200, 24, 0, true, 9, {33, 70}}, DType::kFloat32, 780);
  const Result one = Scan(*CreateCpuDevice(1), p);
  const Result three = Scan(*CreateCpuDevice(3), p);
  EXPECT_TRUE(SameBits(one.out, three.out));
  EXPECT_TRUE(SameBits(one.states, three.states));
}

using SelectiveScanDeathTest = SelectiveScanTest;
INSTANTIATE_TEST_SUITE_P(Devices, SelectiveScanDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(SelectiveScanDeathTest, RefusesWhatBreaksALimit) {
  const auto scan = [&](int64_t channels, int64_t state_size, DType dtype) {
    Scan(device(), Make({channels, state_size, 0, true, 1, {}}, dtype, 790));
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
