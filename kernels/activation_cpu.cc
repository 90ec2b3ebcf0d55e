#include "kernels/activation.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/activation_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

template <Activation kAct, class D>
HWY_INLINE void ActivateVector(D d, const ActivationArgs& args, const float* bias, float* x) {
  auto value = hn::LoadU(d, x);
  if (bias != nullptr) value = hn::Add(value, hn::LoadU(d, bias));
  hn::StoreU(Activated<kAct>(d, value, args.cap), d, x);
}

// The columns behind the last whole vector of eight.
template <Activation kAct>
HWY_INLINE void ActivateRest(const ActivationArgs& args, int64_t begin, float* x) {
  const EightFloats d8;
  const int64_t count = args.cols - begin;
  float rest[8] = {};
  float bias[8] = {};
  std::copy_n(x + begin, count, rest);
  if (args.bias != nullptr) std::copy_n(args.bias + begin, count, bias);
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(hn::Lanes(d8))) {
    ActivateVector<kAct>(d8, args, args.bias == nullptr ? nullptr : bias + i, rest + i);
  }
  std::copy_n(rest, count, x + begin);
}

void ActivateRow(const ActivationArgs& args, float* x) {
  const int64_t whole = args.cols / 8 * 8;
  WithActivation(args.act, [&](auto constant) HWY_ATTR {
    constexpr Activation kAct = decltype(constant)::value;
    ForVectors(whole, [&](auto d, int64_t i) HWY_ATTR {
      ActivateVector<kAct>(d, args, args.bias == nullptr ? nullptr : args.bias + i, x + i);
    });
    if (whole < args.cols) ActivateRest<kAct>(args, whole, x);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(ActivateRow);

void ActivateCpu(const ActivationArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  SLUICE_CHECK(args.rows >= 0);
  SLUICE_CHECK(args.cols > 0 && args.stride >= args.cols);
  SLUICE_CHECK(args.cols % 8 == 0 || args.stride == args.cols);
  SLUICE_CHECK(args.act != Activation::kSoftCap || args.cap > 0);
  if (args.act == Activation::kNone && args.bias == nullptr) return;
  float* x = static_cast<float*>(args.x);
  pool.Ranges(args.rows, kElementGrain / args.cols, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      HWY_DYNAMIC_DISPATCH(ActivateRow)(args, x + row * args.stride);
    }
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
