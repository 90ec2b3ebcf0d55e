#include "kernels/short_conv.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/batch_sequences.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/short_conv_ref.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

constexpr Tolerance kFloat32Tolerance = {2e-6, 1e-5};
constexpr Tolerance kBFloat16Tolerance = {4e-3, 5e-3};  // rounding alone reaches 2^-8

struct Problem {
  DType dtype;
  int64_t channels;
  int64_t width;
  int64_t padding;             // between rows of x
  std::vector<int32_t> slots;  // of the decode rows
  std::vector<TokenRun> runs;  // the prefill segments
  int32_t slot_count;
  std::vector<float> x;        // [rows, channels]
  std::vector<float> weight;   // [channels, width]
  std::vector<float> bias;     // [channels] or empty
  std::vector<float> windows;  // [slot_count, width - 1, channels]
  Activation act = Activation::kSilu;

  int64_t WindowSize() const { return (width - 1) * channels; }
  std::vector<float> Window(int32_t slot) const {
    return Part(windows, slot * WindowSize(), WindowSize());
  }
};

struct Result {
  std::vector<float> y;
  std::vector<float> windows;
};

Result Convolve(Device& device, const Problem& p) {
  const DeviceBatch batch(device, p);
  const Input x(device, Spread(p.x, p.channels, p.channels + p.padding), p.dtype);
  const Input weight(device, p.weight);
  const Input bias(device, p.bias);
  const int64_t slot_stride = p.WindowSize() + 24;
  const Output windows(device, Spread(p.windows, p.WindowSize(), slot_stride));
  const Output y(device, static_cast<int64_t>(p.x.size()) * DTypeBytes(p.dtype));
  device.ShortConv({.dtype = p.dtype,
                    .channels = static_cast<int32_t>(p.channels),
                    .width = static_cast<int32_t>(p.width),
                    .decode_rows = batch.decode_rows,
                    .slots = batch.slots(),
                    .segment_count = batch.segment_count(),
                    .segments = batch.segments(),
                    .rows = batch.packed.rows,
                    .x = x.data(),
                    .x_stride = p.channels + p.padding,
                    .weight = weight.as<float>(),
                    .bias = bias.as<float>(),
                    .windows = windows.as<float>(),
                    .slot_stride = slot_stride,
                    .y = y.data(),
                    .act = p.act});
  const std::vector<float> written = windows.Read<float>();
  EXPECT_TRUE(AllPoison(Columns(written, p.WindowSize(), 24, slot_stride)))
      << "written between windows";
  return {y.Read(p.dtype), Columns(written, 0, p.WindowSize(), slot_stride)};
}

void ExpectAgrees(Device& device, const Problem& p) {
  const Result got = Convolve(device, p);
  std::vector<double> y;
  std::vector<float> windows = p.windows;
  for (const TokenRun& sequence : Sequences(p)) {
    const ref::ShortConvResult want =
        ref::ShortConv(Part(p.x, y.size(), sequence.length * p.channels), p.Window(sequence.slot),
                       p.weight, p.bias, p.channels, p.act);
    y.insert(y.end(), want.y.begin(), want.y.end());
    std::copy(want.window.begin(), want.window.end(),
              windows.begin() + sequence.slot * p.WindowSize());
  }
  EXPECT_TRUE(Near(got.y, y, p.dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance));
  // Windows hold inputs as they were; those of slots that are not in the batch stay.
  EXPECT_TRUE(SameBits(got.windows, windows));
}

struct Shape {
  int64_t channels;
  int64_t width;
  int64_t padding;
  bool bias;
  int32_t decode_rows;
  std::vector<int32_t> lengths;
};

Problem Make(const Shape& shape, DType dtype, uint64_t seed) {
  Random random(seed);
  const auto sequences = shape.decode_rows + static_cast<int32_t>(shape.lengths.size());
  Problem p = {.dtype = dtype,
               .channels = shape.channels,
               .width = shape.width,
               .padding = shape.padding,
               .slot_count = sequences + 2};
  p.runs = RandomRuns(shape.lengths, random);
  const int64_t rows = GiveSlots(shape.decode_rows, p);
  p.x = random.Normals(rows * p.channels, 1.0, dtype);
  p.weight = random.Normals(p.channels * p.width, 0.7);
  if (shape.bias) p.bias = random.Normals(p.channels);
  p.windows = random.Normals(p.slot_count * p.WindowSize());
  return p;
}

class ShortConvTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, ShortConvTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST(ShortConvRef, ConvolvesByHand) {
  // One channel, width 3: the sums are 1*10 + 2*20 + 3*1 = 53, then 1*20 + 2*1 + 3*2 = 28.
  const ref::ShortConvResult result = ref::ShortConv({1, 2}, {10, 20}, {1, 2, 3}, {}, 1);
  EXPECT_NEAR(result.y[0], 53, 1e-12);
  EXPECT_NEAR(result.y[1], 28, 1e-9);
  EXPECT_EQ(ref::ShortConv({-1}, {0}, {1, 2}, {}, 1, Activation::kNone).y[0], -2);
  EXPECT_EQ(result.window, std::vector<float>({1, 2}));
}

TEST_P(ShortConvTest, AgreesWithTheOracle) {
  const std::vector<Shape> shapes = {
      {8, 4, 0, false, 1, {}},
      {8, 2, 0, true, 0, {1}},
      {24, 8, 8, true, 3, {1, 2, 7, 8, 9}},
      {384, 4, 0, false, 5, {63, 64, 65}},
      {64, 3, 0, true, 0, {1000}},
      {1032, 4, 16, false, 2, {3, 1, 2}},
      {512, 5, 0, true, 64, {}},
      {16, 4, 0, false, 16, {1, 1, 200, 1, 4, 3, 5}},
      {8, 4, 0, false, 3, {2100, 5, 1, 90}},
  };
  uint64_t seed = 600;
  for (const Shape& shape : shapes) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " channels " << shape.channels
                                      << " width " << shape.width);
      Problem p = Make(shape, dtype, ++seed);
      ExpectAgrees(device(), p);
      p.act = Activation::kNone;
      ExpectAgrees(device(), p);
    }
  }
}

TEST_P(ShortConvTest, ASequenceDoesNotDependOnItsBatchNorOnItsSlot) {
  const Problem p = Make({40, 4, 8, true, 3, {70, 2}}, ActivationTypes().back(), 620);
  const Result all = Convolve(device(), p);
  int64_t row = 0;
  for (const TokenRun& sequence : Sequences(p)) {
    Problem one = p;
    one.slots.clear();
    one.runs = {{sequence.length, sequence.position, 0}};
    one.slot_count = 1;
    one.x = Part(p.x, row * p.channels, sequence.length * p.channels);
    one.windows = p.Window(sequence.slot);
    const Result alone = Convolve(device(), one);
    EXPECT_TRUE(SameBits(alone.y, Part(all.y, row * p.channels, sequence.length * p.channels)));
    EXPECT_TRUE(
        SameBits(alone.windows, Part(all.windows, sequence.slot * p.WindowSize(), p.WindowSize())));
    row += sequence.length;
  }
}

TEST_P(ShortConvTest, ASplitChangesNoBit) {
  for (const int32_t split : {1, 2, 5, 64, 99}) {
    SCOPED_TRACE(split);
    const Problem whole = Make({40, 4, 0, true, 0, {100}}, ActivationTypes().back(), 630);
    const Result want = Convolve(device(), whole);
    Problem part = whole;
    part.runs[0].length = split;
    part.x = Part(whole.x, 0, split * whole.channels);
    const Result first = Convolve(device(), part);
    part.windows = first.windows;
    part.runs[0].length = 100 - split;
    part.x = Part(whole.x, split * whole.channels, (100 - split) * whole.channels);
    if (split == 99) {  // The last token as a decode row.
      part.slots = {part.runs[0].slot};
      part.runs.clear();
    }
    const Result second = Convolve(device(), part);
    EXPECT_TRUE(SameBits(second.windows, want.windows));
    EXPECT_TRUE(SameBits(first.y, Part(want.y, 0, first.y.size())));
    EXPECT_TRUE(SameBits(second.y, Part(want.y, first.y.size(), second.y.size())));
  }
}

TEST(ShortConvThreads, GiveTheSameBits) {
  const Problem p = Make({1000, 4, 0, true, 9, {33, 70}}, DType::kFloat32, 640);
  const Result one = Convolve(*CreateCpuDevice(1), p);
  const Result two = Convolve(*CreateCpuDevice(2), p);
  EXPECT_TRUE(SameBits(one.y, two.y));
  EXPECT_TRUE(SameBits(one.windows, two.windows));
}

using ShortConvDeathTest = ShortConvTest;
INSTANTIATE_TEST_SUITE_P(Devices, ShortConvDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(ShortConvDeathTest, RefusesWhatBreaksALimit) {
  for (const int64_t width : {1, 9}) {
    EXPECT_DEATH(Convolve(device(), Make({8, width, 0, true, 1, {}}, DType::kFloat32, 650)),
                 kCheckFailed);
  }
  EXPECT_DEATH(Convolve(device(), Make({12, 4, 0, true, 1, {}}, DType::kFloat32, 651)),
               kCheckFailed);
  Problem gated = Make({8, 4, 0, true, 1, {}}, DType::kFloat32, 653);
  gated.act = Activation::kRelu;
  EXPECT_DEATH(Convolve(device(), gated), kCheckFailed);
  if (!is_cuda()) {
    EXPECT_DEATH(Convolve(device(), Make({8, 4, 0, true, 1, {}}, DType::kBFloat16, 652)),
                 kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
