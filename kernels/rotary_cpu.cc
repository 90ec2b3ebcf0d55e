#include "kernels/rotary.h"

#include <cmath>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rotary_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// The angle less whole turns, in [-pi, pi].
HWY_INLINE float ReducedAngle(int32_t position, float frequency) {
  constexpr double kTurn = 6.283185307179586;           // 2 pi, and
  constexpr double kTurnRest = 2.4492935982947064e-16;  // what it leaves out of it
  double angle = double{static_cast<float>(position) * frequency};
  double rest = 0;
  if (position >= kRotaryRounded) {
    angle = static_cast<double>(position) * double{frequency};
    rest = std::fma(static_cast<double>(position), double{frequency}, -angle);
  }
  const double turns = std::nearbyint(angle * (1 / kTurn));
  const double reduced = std::fma(-turns, kTurnRest, std::fma(-turns, kTurn, angle));
  return static_cast<float>(reduced + rest);
}

void RotateRow(const RotaryArgs& args, const RotaryFrequencies& frequencies, int64_t row) {
  HWY_ALIGN float sine[kMaxRotaryDim / 2];
  HWY_ALIGN float cosine[kMaxRotaryDim / 2];
  const int64_t half = args.dim / 2;
  for (int64_t c = 0; c < half; ++c) {
    cosine[c] = ReducedAngle(args.positions[row], frequencies.f[c]);
  }
  ForVectors(half, [&](auto d, int64_t c) HWY_ATTR {
    const auto angle = hn::LoadU(d, cosine + c);
    hn::StoreU(hn::Sin(d, angle), d, sine + c);
    hn::StoreU(hn::Cos(d, angle), d, cosine + c);
  });
  for (int64_t head = 0; head < args.heads; ++head) {
    float* x = static_cast<float*>(args.x) + row * args.stride + head * args.dim;
    ForVectors(half, [&](auto d, int64_t c) HWY_ATTR {
      const auto sines = hn::LoadU(d, sine + c);
      const auto cosines = hn::LoadU(d, cosine + c);
      const auto first = hn::LoadU(d, x + c);
      const auto second = hn::LoadU(d, x + half + c);
      hn::StoreU(hn::NegMulAdd(second, sines, hn::Mul(first, cosines)), d, x + c);
      hn::StoreU(hn::MulAdd(first, sines, hn::Mul(second, cosines)), d, x + half + c);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(RotateRow);

void RotateCpu(const RotaryArgs& args, ThreadPool& pool) {
  const int64_t width = int64_t{args.heads} * args.dim;
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  SLUICE_CHECK(args.rows >= 0 && args.heads >= 1);
  SLUICE_CHECK(args.dim >= 16 && args.dim <= kMaxRotaryDim && args.dim % 16 == 0);
  SLUICE_CHECK(args.base > 0);
  SLUICE_CHECK(args.stride >= width);
  for (int32_t row = 0; row < args.rows; ++row) SLUICE_CHECK(args.positions[row] >= 0);
  const RotaryFrequencies& frequencies = FindRotaryFrequencies(args.base, args.dim);
  pool.Ranges(args.rows, kElementGrain / width, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      HWY_DYNAMIC_DISPATCH(RotateRow)(args, frequencies, row);
    }
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
