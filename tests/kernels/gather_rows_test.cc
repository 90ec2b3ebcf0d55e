#include "kernels/gather_rows.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/gather_rows_ref.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"

namespace sluice {
namespace {

struct Table {
  int32_t dim;
  DType dtype;
  std::vector<float> values;
};

std::vector<float> Gathered(Device& device, const Table& table, DType out_dtype,
                            const std::vector<int32_t>& indices) {
  const Input values(device, table.values, table.dtype);
  const Input index(device, indices);
  const auto rows = static_cast<int32_t>(indices.size());
  const Output out(device, int64_t{rows} * table.dim * DTypeBytes(out_dtype));
  device.GatherRows({.rows = rows,
                     .dim = table.dim,
                     .table_rows = static_cast<int64_t>(table.values.size()) / table.dim,
                     .table_dtype = table.dtype,
                     .out_dtype = out_dtype,
                     .table = values.data(),
                     .indices = index.as<int32_t>(),
                     .out = out.data()});
  return out.Read(out_dtype);
}

class GatherRowsTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, GatherRowsTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(GatherRowsTest, TakesRowsByHand) {
  const Table table = {8, DType::kFloat32, {0,  1,  2,  3,  4,  5,  6,  7,   //
                                            8,  9,  10, 11, 12, 13, 14, 15,  //
                                            -1, -2, -3, -4, -5, -6, -7, -8}};
  EXPECT_EQ(Gathered(device(), table, DType::kFloat32, {2, 0}),
            std::vector<float>({-1, -2, -3, -4, -5, -6, -7, -8, 0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST_P(GatherRowsTest, CopiesOrRoundsExactly) {
  Random random(1);
  for (const int32_t dim : {8, 24, 384, 2048, 2056}) {
    for (const DType from : {DType::kFloat32, DType::kBFloat16}) {
      for (const DType to : {DType::kFloat32, DType::kBFloat16}) {
        SCOPED_TRACE(testing::Message()
                     << dim << " " << DTypeName(from) << " to " << DTypeName(to));
        const Table table = {dim, from, random.Normals(int64_t{37} * dim, 1.0, from)};
        const std::vector<int32_t> indices = {36, 0, 0, 17, 5, 36, 1};
        EXPECT_TRUE(SameBits(Gathered(device(), table, to, indices),
                             Rounded(ref::GatherRows(table.values, dim, indices), to)));
      }
    }
  }
}

TEST_P(GatherRowsTest, TakesManyRowsAndNone) {
  Random random(2);
  const Table table = {64, DType::kBFloat16, random.Normals(1000 * 64, 1.0, DType::kBFloat16)};
  const std::vector<int32_t> indices = random.Integers(3000, 1000);
  EXPECT_TRUE(SameBits(Gathered(device(), table, DType::kFloat32, indices),
                       ref::GatherRows(table.values, 64, indices)));
  EXPECT_TRUE(Gathered(device(), table, DType::kFloat32, {}).empty());
}

using GatherRowsDeathTest = GatherRowsTest;
INSTANTIATE_TEST_SUITE_P(Devices, GatherRowsDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(GatherRowsDeathTest, RefusesWhatBreaksALimit) {
  const Input values(device(), std::vector<float>(64));
  const Input index(device(), std::vector<int32_t>(1));
  const Output out(device(), 256);
  const GatherRowsArgs good = {.rows = 1,
                               .dim = 8,
                               .table_rows = 4,
                               .table_dtype = DType::kFloat32,
                               .out_dtype = DType::kFloat32,
                               .table = values.data(),
                               .indices = index.as<int32_t>(),
                               .out = out.data()};
  device().GatherRows(good);
  GatherRowsArgs bad = good;
  bad.dim = 12;
  EXPECT_DEATH(device().GatherRows(bad), kCheckFailed);
  bad = good;
  bad.rows = -1;
  EXPECT_DEATH(device().GatherRows(bad), kCheckFailed);
  for (const DType dtype : {DType::kFloat16, DType::kFloat8}) {
    bad = good;
    bad.table_dtype = dtype;
    EXPECT_DEATH(device().GatherRows(bad), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
