#include "kernels/activation.h"

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

template <Activation kAct>
HWY_INLINE void ActivateRow(int64_t cols, float* x) {
  ForVectors(cols, [&](auto d, int64_t i)
                       HWY_ATTR { hn::StoreU(Activated<kAct>(d, hn::LoadU(d, x + i)), d, x + i); });
}

void ActivateOneRow(Activation act, int64_t cols, float* x) {
  switch (act) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      return ActivateRow<Activation::kRelu>(cols, x);
    case Activation::kSilu:
      return ActivateRow<Activation::kSilu>(cols, x);
    case Activation::kSigmoid:
      return ActivateRow<Activation::kSigmoid>(cols, x);
    case Activation::kElu1:
      return ActivateRow<Activation::kElu1>(cols, x);
    case Activation::kSquareRelu:
      return ActivateRow<Activation::kSquareRelu>(cols, x);
    case Activation::kGelu:
      return ActivateRow<Activation::kGelu>(cols, x);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(ActivateOneRow);

void ActivateCpu(const ActivationArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  SLUICE_CHECK(args.rows >= 0);
  SLUICE_CHECK(args.cols > 0 && args.cols % 8 == 0);
  SLUICE_CHECK(args.stride >= args.cols);
  float* x = static_cast<float*>(args.x);
  pool.Ranges(args.rows, kElementGrain / args.cols, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      HWY_DYNAMIC_DISPATCH(ActivateOneRow)(args.act, args.cols, x + row * args.stride);
    }
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
