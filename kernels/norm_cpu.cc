#include "kernels/norm.h"

#include <cmath>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/norm_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

HWY_INLINE float SumOfSquares(const float* x, int64_t dim) {
  const Floats d;
  const EightFloats d8;
  const int64_t lanes = FloatLanes();
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);
  auto sum8 = hn::Zero(d8);
  int64_t i = 0;
  for (; i + 2 * lanes <= dim; i += 2 * lanes) {
    const auto x0 = hn::LoadU(d, x + i);
    const auto x1 = hn::LoadU(d, x + i + lanes);
    sum0 = hn::MulAdd(x0, x0, sum0);
    sum1 = hn::MulAdd(x1, x1, sum1);
  }
  for (; i + lanes <= dim; i += lanes) {
    const auto x0 = hn::LoadU(d, x + i);
    sum0 = hn::MulAdd(x0, x0, sum0);
  }
  for (; i < dim; i += static_cast<int64_t>(hn::Lanes(d8))) {
    const auto x8 = hn::LoadU(d8, x + i);
    sum8 = hn::MulAdd(x8, x8, sum8);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1))) +
         hn::GetLane(hn::SumOfLanes(d8, sum8));
}

template <Activation kAct>
HWY_INLINE void ScaleGated(const NormArgs& args, const float* x, const float* gate, float factor,
                           float* y) {
  ForVectors(args.dim, [&](auto d, int64_t i) HWY_ATTR {
    auto value = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, factor));
    if (args.weight != nullptr) value = hn::Mul(value, hn::LoadU(d, args.weight + i));
    if (gate != nullptr) value = hn::Mul(value, Activated<kAct>(d, hn::LoadU(d, gate + i)));
    hn::StoreU(value, d, y + i);
  });
}

void NormGroup(const NormArgs& args, const float* x, const float* gate, float* y) {
  const float mean = SumOfSquares(x, args.dim) / static_cast<float>(args.dim);
  const float factor = 1.0F / std::sqrt(mean + args.eps);
  switch (gate == nullptr ? Activation::kNone : args.gate_act) {
    case Activation::kNone:
      return ScaleGated<Activation::kNone>(args, x, gate, factor, y);
    case Activation::kRelu:
      return ScaleGated<Activation::kRelu>(args, x, gate, factor, y);
    case Activation::kSilu:
      return ScaleGated<Activation::kSilu>(args, x, gate, factor, y);
    case Activation::kSigmoid:
      return ScaleGated<Activation::kSigmoid>(args, x, gate, factor, y);
    case Activation::kElu1:
      return ScaleGated<Activation::kElu1>(args, x, gate, factor, y);
    case Activation::kSquareRelu:
      return ScaleGated<Activation::kSquareRelu>(args, x, gate, factor, y);
    case Activation::kGelu:
      return ScaleGated<Activation::kGelu>(args, x, gate, factor, y);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(NormGroup);

namespace {

void NormRow(const NormArgs& args, int64_t row) {
  const float* x = static_cast<const float*>(args.x) + row * args.x_stride;
  const float* gate = static_cast<const float*>(args.gate);
  if (gate != nullptr) gate += row * args.gate_stride;
  float* y = static_cast<float*>(args.y) + row * args.y_stride;
  for (int64_t group = 0; group < args.groups; ++group) {
    const int64_t at = group * args.dim;
    HWY_DYNAMIC_DISPATCH(NormGroup)(args, x + at, gate == nullptr ? nullptr : gate + at, y + at);
  }
}

}  // namespace

void NormCpu(const NormArgs& args, ThreadPool& pool) {
  const int64_t width = int64_t{args.groups} * args.dim;
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  SLUICE_CHECK(args.rows >= 0 && args.groups >= 1);
  SLUICE_CHECK(args.dim >= 8 && args.dim <= 16384 && args.dim % 8 == 0);
  SLUICE_CHECK(args.eps > 0);
  SLUICE_CHECK(args.x_stride >= width && args.y_stride >= width);
  SLUICE_CHECK(args.gate == nullptr || args.gate_stride >= width);
  pool.Ranges(args.rows, kElementGrain / width, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) NormRow(args, row);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
