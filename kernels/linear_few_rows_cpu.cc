#include "kernels/linear_few_rows_cpu.h"

#include <vector>

#include "kernels/check.h"
#include "kernels/float8_cpu.h"
#include "kernels/linear_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear_few_rows_cpu.cc"
#include "hwy/cache_control.h"
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

// The last eight numbers of a row, where a vector is wider.
template <int kOutputs, typename Weight>
HWY_NOINLINE void AddLastEight(const float* x, const Weight* weight, int64_t in_dim, float* total) {
  const EightFloats d;
  for (int n = 0; n < kOutputs; ++n) {
    const auto product = hn::Mul(hn::LoadU(d, x), LoadWeight(d, weight + n * in_dim));
    total[n] += hn::GetLane(hn::SumOfLanes(d, product));
  }
}

// kRows rows of x against kOutputs rows of the weight. A sum's order is that of its lanes, whatever
// kRows and kOutputs are.
template <int kRows, int kOutputs, bool kFetches, typename Weight>
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
    for (int n = 0; n < kOutputs; ++n) {
      const Weight* from = weight + n * in_dim + k;
      w[n] = LoadWeight(d, from);
      if constexpr (kFetches) hwy::Prefetch(from + 8 * in_dim);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto xr = hn::LoadU(d, x + r * args.x_stride + k);
#pragma GCC unroll 8
      for (int n = 0; n < kOutputs; ++n) sum[r][n] = hn::MulAdd(xr, w[n], sum[r][n]);
    }
  }
  float* y = static_cast<float*>(args.y) + row * args.y_stride + output;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r, y += args.y_stride) {
    float total[kOutputs];
#pragma GCC unroll 2
    for (int n = 0; n < kOutputs; n += 4) SumFour(&sum[r][n], total + n);
    if (k < in_dim) AddLastEight<kOutputs>(x + r * args.x_stride + k, weight + k, in_dim, total);
    for (int n = 0; n < kOutputs; ++n) y[n] = args.accumulate ? y[n] + total[n] : total[n];
  }
}

// Not inlined: there are five of them for each instruction set and type of weight.
template <int kRows, bool kFetches, typename Weight>
HWY_NOINLINE void EightOutputs(const LinearArgs& args, int64_t row, int64_t output) {
  constexpr int kOutputs = kRows == 1 ? 8 : 4;
  for (int64_t n = 0; n < 8; n += kOutputs) {
    LinearTile<kRows, kOutputs, kFetches, Weight>(args, row, output + n);
  }
}

template <typename Weight>
LinearEights EightsOf() {
  return {{EightOutputs<1, true, Weight>, EightOutputs<2, true, Weight>,
           EightOutputs<3, true, Weight>, EightOutputs<4, true, Weight>},
          EightOutputs<4, false, Weight>};
}

// Of float32 rows, and weights of float32, or of bfloat16 in place of any other type.
LinearEights LinearEightsOf(DType weight) {
  return weight == DType::kFloat32 ? EightsOf<float>() : EightsOf<uint16_t>();
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(LinearEightsOf);

namespace {

// The product of the eight outputs from `output` on alone, their float8 weights widened to
// bfloat16. These last until the thread's next call.
LinearArgs WidenEight(const LinearArgs& args, int64_t output) {
  thread_local std::vector<uint16_t> widened;
  const int64_t in_dim = args.in_dim;
  widened.resize(8 * in_dim);
  const auto* codes = static_cast<const uint8_t*>(args.weight) + output * in_dim;
  for (int64_t row = 0; row < 8; ++row) {
    WidenFloat8(codes + row * in_dim, in_dim, args.weight_scale[output + row],
                widened.data() + row * in_dim);
  }
  LinearArgs eight = args;
  eight.out_dim = 8;
  eight.weight_dtype = DType::kBFloat16;
  eight.weight = widened.data();
  eight.weight_scale = nullptr;
  eight.y = static_cast<float*>(args.y) + output;
  return eight;
}

// Eight outputs. Rows of x go by four, the rest first: it alone meets a weight that is not in the
// nearest cache.
void RunEight(const LinearEights& eights, const LinearArgs& args, int64_t output) {
  const int32_t first_rows = (args.rows - 1) % 4 + 1;
  eights.first[first_rows - 1](args, 0, output);
  for (int64_t row = first_rows; row < args.rows; row += 4) eights.four(args, row, output);
}

LinearEights EightsFor(const LinearArgs& args) {
  if (args.x_dtype == DType::kBFloat16) return LinearEightsOfDots();
  return HWY_DYNAMIC_DISPATCH(LinearEightsOf)(args.weight_dtype);
}

}  // namespace

void LinearFewRowsCpu(const LinearArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.rows >= 1 && args.rows <= LinearCpu::kFewRows);
  const LinearEights eights = EightsFor(args);
  const bool widens = args.weight_dtype == DType::kFloat8;
  const int64_t grain = 2 * kElementGrain / (8 * int64_t{args.in_dim});
  const int64_t count = args.out_dim / 8;
  pool.Ranges(count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t eight = begin; eight < end; ++eight) {
      if (widens) {
        RunEight(eights, WidenEight(args, eight * 8), 0);
      } else {
        RunEight(eights, args, eight * 8);
      }
    }
    // The last outputs of an odd number are the last eight, some of them computed again.
    if (end == count && args.out_dim % 8 != 0) RunEight(eights, args, args.out_dim - 8);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
