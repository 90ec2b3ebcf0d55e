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

// One group of a row.
struct NormGroup {
  const float* x;
  const float* gate;    // null: ones
  const float* weight;  // null: ones
  const float* bias;    // null: zeros
  float* y;
};

// Adds up with sum = add(d, x, sum) over vectors.
template <class Add>
HWY_INLINE float Total(const float* x, int64_t dim, const Add& add) {
  const Floats d;
  const EightFloats d8;
  const int64_t lanes = FloatLanes();
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);
  auto sum8 = hn::Zero(d8);
  int64_t i = 0;
  for (; i + 2 * lanes <= dim; i += 2 * lanes) {
    sum0 = add(d, hn::LoadU(d, x + i), sum0);
    sum1 = add(d, hn::LoadU(d, x + i + lanes), sum1);
  }
  for (; i + lanes <= dim; i += lanes) sum0 = add(d, hn::LoadU(d, x + i), sum0);
  for (; i < dim; i += static_cast<int64_t>(hn::Lanes(d8))) {
    sum8 = add(d8, hn::LoadU(d8, x + i), sum8);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1))) +
         hn::GetLane(hn::SumOfLanes(d8, sum8));
}

HWY_INLINE float Mean(const float* x, int64_t dim) {
  return Total(x, dim, [](auto /*d*/, auto v, auto sum) HWY_ATTR { return hn::Add(v, sum); }) /
         static_cast<float>(dim);
}

HWY_INLINE float SumOfSquares(const float* x, int64_t dim) {
  return Total(x, dim, [](auto /*d*/, auto v, auto sum) HWY_ATTR { return hn::MulAdd(v, v, sum); });
}

// Of what is left once `mean` is taken away.
HWY_INLINE float SumOfSquares(const float* x, int64_t dim, float mean) {
  return Total(x, dim, [mean](auto d, auto v, auto sum) HWY_ATTR {
    const auto rest = hn::Sub(v, hn::Set(d, mean));
    return hn::MulAdd(rest, rest, sum);
  });
}

template <Activation kAct>
HWY_INLINE void Scale(const NormGroup& group, int64_t dim, float factor) {
  ForVectors(dim, [&](auto d, int64_t i) HWY_ATTR {
    auto value = hn::Mul(hn::LoadU(d, group.x + i), hn::Set(d, factor));
    if (group.weight != nullptr) value = hn::Mul(value, hn::LoadU(d, group.weight + i));
    if (group.gate != nullptr) {
      value = hn::Mul(value, Activated<kAct>(d, hn::LoadU(d, group.gate + i)));
    }
    hn::StoreU(value, d, group.y + i);
  });
}

template <Activation kAct>
HWY_INLINE void ShiftAndScale(const NormGroup& group, int64_t dim, float mean, float factor) {
  ForVectors(dim, [&](auto d, int64_t i) HWY_ATTR {
    const auto rest = hn::Sub(hn::LoadU(d, group.x + i), hn::Set(d, mean));
    auto value = hn::Mul(rest, hn::Set(d, factor));
    if (group.weight != nullptr) value = hn::Mul(value, hn::LoadU(d, group.weight + i));
    if (group.bias != nullptr) value = hn::Add(value, hn::LoadU(d, group.bias + i));
    if (group.gate != nullptr) {
      value = hn::Mul(value, Activated<kAct>(d, hn::LoadU(d, group.gate + i)));
    }
    hn::StoreU(value, d, group.y + i);
  });
}

// Leaves the gated input in y, where the norm then finds it.
template <Activation kAct>
HWY_INLINE void ApplyGate(int64_t dim, NormGroup* group) {
  ForVectors(dim, [&](auto d, int64_t i) HWY_ATTR {
    const auto gate = Activated<kAct>(d, hn::LoadU(d, group->gate + i));
    hn::StoreU(hn::Mul(hn::LoadU(d, group->x + i), gate), d, group->y + i);
  });
  group->x = group->y;
  group->gate = nullptr;
}

template <Activation kAct>
HWY_INLINE void NormOne(const NormArgs& args, NormGroup group) {
  const int64_t dim = args.dim;
  if (args.gate_first && group.gate != nullptr) ApplyGate<kAct>(dim, &group);
  const float mean = args.center ? Mean(group.x, dim) : 0.0F;
  const float squares = args.center ? SumOfSquares(group.x, dim, mean) : SumOfSquares(group.x, dim);
  const float factor = 1.0F / std::sqrt(squares / static_cast<float>(dim) + args.eps);
  if (args.center || group.bias != nullptr) {
    ShiftAndScale<kAct>(group, dim, mean, factor);
  } else {
    Scale<kAct>(group, dim, factor);
  }
}

void NormRow(const NormArgs& args, int64_t row) {
  const float* x = static_cast<const float*>(args.x) + row * args.x_stride;
  const float* gate = static_cast<const float*>(args.gate);
  if (gate != nullptr) gate += row * args.gate_stride;
  float* y = static_cast<float*>(args.y) + row * args.y_stride;
  const Activation act = gate == nullptr ? Activation::kNone : args.gate_act;
  WithActivation(act, [&](auto constant) HWY_ATTR {
    for (int64_t index = 0; index < args.groups; ++index) {
      const int64_t at = index * args.dim;
      const int64_t weight_at = args.wide_weight ? at : 0;
      NormOne<decltype(constant)::value>(
          args, {.x = x + at,
                 .gate = gate == nullptr ? nullptr : gate + at,
                 .weight = args.weight == nullptr ? nullptr : args.weight + weight_at,
                 .bias = args.bias == nullptr ? nullptr : args.bias + weight_at,
                 .y = y + at});
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(NormRow);

void NormCpu(const NormArgs& args, ThreadPool& pool) {
  const int64_t width = int64_t{args.groups} * args.dim;
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  SLUICE_CHECK(args.rows >= 0 && args.groups >= 1);
  SLUICE_CHECK(args.dim >= 8 && args.dim <= 32768 && args.dim % 8 == 0);
  SLUICE_CHECK(args.eps > 0);
  SLUICE_CHECK(args.x_stride >= width && args.y_stride >= width);
  SLUICE_CHECK(args.gate == nullptr || args.gate_stride >= width);
  SLUICE_CHECK(args.gate_act != Activation::kSoftCap);
  pool.Ranges(args.rows, kElementGrain / width, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) HWY_DYNAMIC_DISPATCH(NormRow)(args, row);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
