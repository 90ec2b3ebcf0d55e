// Ops that read what the op before wrote, and write what it read, queued without a wait between
// them.
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/device.h"
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
  void End(bool waits) {
    if (waits) device().Synchronize();
  }

  // x after rounds of x = silu(W norm(x in reverse)) * (x in reverse). With `waits` every op is
  // done before the next is queued.
  std::vector<float> Run(int32_t rows, bool waits) {
    const DType dtype = device().ActivationType(DType::kBFloat16);
    Random random(700);
    std::vector<int32_t> reverse(rows);
    for (int32_t r = 0; r < rows; ++r) reverse[r] = rows - 1 - r;
    const Input indices(device(), reverse);
    const Input weight(device(), random.Normals(kDim * kDim, 0.05, DType::kBFloat16),
                       DType::kBFloat16);
    const int64_t count = int64_t{rows} * kDim;
    const Output x(device(), random.Normals(count, 1.0, dtype), dtype);
    const Output a(device(), count * DTypeBytes(dtype));
    const Output b(device(), count * DTypeBytes(dtype));
    for (int32_t round = 0; round < kRounds; ++round) {
      device().GatherRows({.rows = rows,
                           .dim = kDim,
                           .table_rows = rows,
                           .table_dtype = dtype,
                           .out_dtype = dtype,
                           .table = x.data(),
                           .indices = indices.as<int32_t>(),
                           .out = a.data()});
      End(waits);
      device().Norm({.dtype = dtype,
                     .rows = rows,
                     .dim = kDim,
                     .eps = 1e-5F,
                     .x = a.data(),
                     .x_stride = kDim,
                     .weight = nullptr,
                     .y = x.data(),
                     .y_stride = kDim});
      End(waits);
      device().Linear({.rows = rows,
                       .in_dim = kDim,
                       .out_dim = kDim,
                       .weight_dtype = DType::kBFloat16,
                       .x_dtype = dtype,
                       .y_dtype = dtype,
                       .x = x.data(),
                       .x_stride = kDim,
                       .weight = weight.data(),
                       .y = b.data(),
                       .y_stride = kDim});
      End(waits);
      device().GatedUnit({.dtype = dtype,
                          .rows = rows,
                          .dim = kDim,
                          .gate = b.data(),
                          .gate_stride = kDim,
                          .up = a.data(),
                          .up_stride = kDim,
                          .out = x.data(),
                          .out_stride = kDim});
      End(waits);
      device().Norm({.dtype = dtype,
                     .rows = rows,
                     .dim = kDim,
                     .eps = 1e-5F,
                     .x = x.data(),
                     .x_stride = kDim,
                     .weight = nullptr,
                     .y = x.data(),
                     .y_stride = kDim});
      End(waits);
    }
    return x.Read(dtype);
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, StreamOrderTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

// A step of few rows has many kernels that end at once, one of many has kernels of several waves.
TEST_P(StreamOrderTest, OpsSeeWhatTheOnesBeforeWrote) {
  for (const int32_t rows : {1, 4, 16, 300, is_cuda() ? 20000 : 301}) {
    SCOPED_TRACE(rows);
    const std::vector<float> want = Run(rows, /*waits=*/true);
    for (int repeat = 0; repeat < 3; ++repeat) {
      EXPECT_TRUE(SameBits(Run(rows, /*waits=*/false), want));
    }
  }
}

}  // namespace
}  // namespace sluice
