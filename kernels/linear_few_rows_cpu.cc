#include "kernels/check.h"
#include "kernels/linear_cpu.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear_few_rows_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

template <class D>
HWY_INLINE hn::Vec<D> LoadWeight(D d, const float* from) {
  return hn::LoadU(d, from);
}

template <class D>
HWY_INLINE hn::Vec<D> LoadWeight(D d, const uint16_t* from) {
  return LoadBFloat16(d, from);
}

// kRows rows of x against kOutputs rows of the weight. A sum's order is that of its lanes, whatever
// kRows and kOutputs are.
template <int kRows, int kOutputs, typename Weight>
HWY_INLINE void LinearTile(const LinearArgs& args, int64_t row, int64_t output) {
  static_assert(kOutputs % 4 == 0);
  const Floats d;
  const int64_t lanes = FloatLanes();
  const int64_t in_dim = args.in_dim;
  const float* x = static_cast<const float*>(args.x) + row * args.x_stride;
  const Weight* weight = static_cast<const Weight*>(args.weight) + output * in_dim;
  FloatVec sum[kRows][kOutputs];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int n = 0; n < kOutputs; ++n) sum[r][n] = hn::Zero(d);
  }
  int64_t k = 0;
  for (; k + lanes <= in_dim; k += lanes) {
    FloatVec w[kOutputs];
#pragma GCC unroll 8
    for (int n = 0; n < kOutputs; ++n) w[n] = LoadWeight(d, weight + n * in_dim + k);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto xr = hn::LoadU(d, x + r * args.x_stride + k);
#pragma GCC unroll 8
      for (int n = 0; n < kOutputs; ++n) sum[r][n] = hn::MulAdd(xr, w[n], sum[r][n]);
    }
  }
  float* y = static_cast<float*>(args.y) + row * args.y_stride + output;
  for (int r = 0; r < kRows; ++r, y += args.y_stride) {
    float total[kOutputs];
    for (int n = 0; n < kOutputs; n += 4) SumFour(&sum[r][n], total + n);
    for (int n = 0; n < kOutputs; ++n) {
      if (k < in_dim) {  // eight numbers, where a vector is wider
        const EightFloats d8;
        const auto x8 = hn::LoadU(d8, x + r * args.x_stride + k);
        const auto w8 = LoadWeight(d8, weight + n * in_dim + k);
        total[n] += hn::GetLane(hn::SumOfLanes(d8, hn::Mul(x8, w8)));
      }
      y[n] = args.accumulate ? y[n] + total[n] : total[n];
    }
  }
}

template <typename Weight>
HWY_INLINE void LinearOutputs(const LinearArgs& args, int64_t begin, int64_t end) {
  for (int64_t output = begin; output < end; output += 8) {
    int64_t row = 0;
    for (; row + 4 <= args.rows; row += 4) {
      LinearTile<4, 4, Weight>(args, row, output);
      LinearTile<4, 4, Weight>(args, row, output + 4);
    }
    switch (args.rows - row) {
      case 1:
        LinearTile<1, 8, Weight>(args, row, output);
        break;
      case 2:
        LinearTile<2, 4, Weight>(args, row, output);
        LinearTile<2, 4, Weight>(args, row, output + 4);
        break;
      case 3:
        LinearTile<3, 4, Weight>(args, row, output);
        LinearTile<3, 4, Weight>(args, row, output + 4);
        break;
      default:
        break;
    }
  }
}

// Outputs [begin, end), multiples of 8.
void LinearFewRows(const LinearArgs& args, int64_t begin, int64_t end) {
  if (args.weight_dtype == DType::kFloat32) {
    LinearOutputs<float>(args, begin, end);
  } else {
    LinearOutputs<uint16_t>(args, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(LinearFewRows);

void LinearFewRowsCpu(const LinearArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.rows <= LinearCpu::kFewRows);
  const int64_t grain = 2 * kElementGrain / (8 * int64_t{args.in_dim});
  pool.Ranges(args.out_dim / 8, grain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(LinearFewRows)(args, begin * 8, end * 8);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
