// Ops that read what the op before wrote, and write what it read, queued without a wait between
// them.
#include <cstdint>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/device.h"
#include "kernels/float8.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"

namespace sluice {
namespace {

constexpr int32_t kDim = 512;
constexpr int32_t kRounds = 30;

class StreamOrderTest : public DeviceTest {
 protected:
  static void End(Device& device, bool waits) {
    if (waits) device.Synchronize();
  }

  // A weight of random numbers, bfloat16 or float8.
  class Matrix {
   public:
    Matrix(Device& device, Random& random, DType dtype)
        : dtype_(dtype), scales_(device, std::vector<float>(kDim, 0x1p-10F)) {
      const std::vector<float> values = random.Normals(kDim * kDim, 0.05, DType::kBFloat16);
      std::vector<uint8_t> codes(values.size());
      RoundToFloat8(values.data(), kDim * kDim, 0x1p-10F, codes.data());
      numbers_ = dtype == DType::kFloat8 ? std::make_unique<Input>(device, codes)
                                         : std::make_unique<Input>(device, values, dtype);
    }
    void Fill(LinearArgs* args) const {
      args->weight_dtype = dtype_;
      args->weight = numbers_->data();
      if (dtype_ == DType::kFloat8) args->weight_scale = scales_.as<float>();
    }

   private:
    DType dtype_;
    Input scales_;
    std::unique_ptr<Input> numbers_;
  };

  // x after rounds of x = silu(W norm(x in reverse)) * (x in reverse), W in turn one of two. With
  // `waits` every op is done before the next is queued.
  static std::vector<float> Run(Device& device, DType weight, int32_t rows, bool waits) {
    const DType dtype = device.ActivationType(DType::kBFloat16);
    Random random(700);
    std::vector<int32_t> reverse(rows);
    for (int32_t r = 0; r < rows; ++r) reverse[r] = rows - 1 - r;
    const Input indices(device, reverse);
    const Matrix weights[2] = {{device, random, weight}, {device, random, weight}};
    const int64_t count = int64_t{rows} * kDim;
    const Output x(device, random.Normals(count, 1.0, dtype), dtype);
    const Output a(device, count * DTypeBytes(dtype));
    const Output b(device, count * DTypeBytes(dtype));
    for (int32_t round = 0; round < kRounds; ++round) {
      device.GatherRows({.rows = rows,
                         .dim = kDim,
                         .table_rows = rows,
                         .table_dtype = dtype,
                         .out_dtype = dtype,
                         .table = x.data(),
                         .indices = indices.as<int32_t>(),
                         .out = a.data()});
      End(device, waits);
      device.Norm({.dtype = dtype,
                   .rows = rows,
                   .dim = kDim,
                   .eps = 1e-5F,
                   .x = a.data(),
                   .x_stride = kDim,
                   .weight = nullptr,
                   .y = x.data(),
                   .y_stride = kDim});
      End(device, waits);
      LinearArgs product = {.rows = rows,
                            .in_dim = kDim,
                            .out_dim = kDim,
                            .x_dtype = dtype,
                            .y_dtype = dtype,
                            .x = x.data(),
                            .x_stride = kDim,
                            .y = b.data(),
                            .y_stride = kDim};
      weights[round % 2].Fill(&product);
      device.Linear(product);
      End(device, waits);
      device.GatedUnit({.dtype = dtype,
                        .rows = rows,
                        .dim = kDim,
                        .gate = b.data(),
                        .gate_stride = kDim,
                        .up = a.data(),
                        .up_stride = kDim,
                        .out = x.data(),
                        .out_stride = kDim});
      End(device, waits);
      device.Norm({.dtype = dtype,
                   .rows = rows,
                   .dim = kDim,
                   .eps = 1e-5F,
                   .x = x.data(),
                   .x_stride = kDim,
                   .weight = nullptr,
                   .y = x.data(),
                   .y_stride = kDim});
      End(device, waits);
    }
    return x.Read(dtype);
  }

  // Whether or not each op is waited for.
  static void ExpectSameBits(Device& device, DType weight, int32_t rows) {
    const std::vector<float> want = Run(device, weight, rows, /*waits=*/true);
    for (int repeat = 0; repeat < 3; ++repeat) {
      EXPECT_TRUE(SameBits(Run(device, weight, rows, /*waits=*/false), want));
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, StreamOrderTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

// A step of few rows has many kernels that end at once, one of many has kernels of several waves.
TEST_P(StreamOrderTest, OpsSeeWhatTheOnesBeforeWrote) {
  const auto fast = OpenTestDevice(GetParam(), /*batch_invariant=*/false);
  for (const DType weight : {DType::kBFloat16, DType::kFloat8}) {
    for (const int32_t rows : {1, 4, 16, 100, 300, is_cuda() ? 20000 : 301}) {
      SCOPED_TRACE(testing::Message() << rows << " " << DTypeName(weight));
      for (Device* const device : {&this->device(), fast.get()})
        ExpectSameBits(*device, weight, rows);
    }
  }
}

}  // namespace
}  // namespace sluice
