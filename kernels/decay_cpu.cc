#include "kernels/decay.h"

#include <algorithm>
#include <limits>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/decay_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/gate_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

constexpr int64_t kTail = 8;  // as many lanes as the channels past a multiple of eight are given

// One row of every array; null for those that are not there.
struct DecayRow {
  const float* x;
  const float* bias;
  const float* channel;  // lower_bound or a_log
  float* log_decay;
  float* complement;
  float* input_scale;
};

template <class D, class V = hn::Vec<D>>
HWY_INLINE V LoadOrZero(D d, const float* from, int64_t i) {
  return from == nullptr ? hn::Zero(d) : hn::LoadU(d, from + i);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE void DecayByLogSigmoid(const DecayArgs& args, D d, V z, const DecayRow& row, int64_t i) {
  const V log_sigmoid = hn::Neg(Log1pExp(d, hn::Neg(z)));
  const V scaled = hn::Div(log_sigmoid, hn::Set(d, args.normalizer));
  const V g = hn::Max(scaled, hn::Set(d, args.clamp_min));
  hn::StoreU(g, d, row.log_decay + i);
  if (row.input_scale != nullptr) hn::StoreU(hn::Neg(hn::Expm1(d, g)), d, row.input_scale + i);
}

// 1 - exp(g) is u = (1 - lb) sigmoid(-z). Where that is small, g is log(1 - u); elsewhere it is the
// logarithm of a sum of positive numbers, which may underflow only if lb is zero.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void DecayByLowerBound(D d, V z, const DecayRow& row, int64_t i) {
  const V zero = hn::Zero(d);
  const V one = hn::Set(d, 1.0F);
  const V lower = LoadOrZero(d, row.channel, i);
  const V e = hn::Exp(d, hn::Neg(hn::Abs(z)));
  const V part = hn::Div(hn::Sub(one, lower), hn::Add(one, e));
  const auto is_negative = hn::Lt(z, zero);
  const V u = hn::IfThenElse(is_negative, part, hn::Mul(part, e));
  const V rest = hn::IfThenElse(is_negative, hn::Mul(part, e), part);
  const auto is_slow = hn::Lt(u, hn::Set(d, 0.5F));
  // Not slow and without a bound, z is negative, and g is z - log(1 + exp(z)).
  const V log1p = hn::Log1p(d, hn::IfThenElse(is_slow, hn::Neg(u), e));
  const V fast =
      hn::IfThenElse(hn::Eq(lower, zero), hn::Sub(z, log1p), hn::Log(d, hn::Add(lower, rest)));
  hn::StoreU(hn::Min(hn::IfThenElse(is_slow, log1p, fast), zero), d, row.log_decay + i);
  if (row.complement != nullptr) hn::StoreU(u, d, row.complement + i);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE void DecayBySoftplus(const DecayArgs& args, D d, V z, const DecayRow& row, int64_t i) {
  const V least = hn::Max(Log1pExp(d, z), hn::Set(d, args.dt_min));
  const V dt = hn::Min(least, hn::Set(d, args.dt_max));
  // Finite, so that a dt of zero gives zero.
  const V rate = hn::Exp(d, hn::Min(hn::LoadU(d, row.channel + i), hn::Set(d, 88.0F)));
  hn::StoreU(hn::Neg(hn::Mul(dt, rate)), d, row.log_decay + i);
  if (row.input_scale != nullptr) hn::StoreU(dt, d, row.input_scale + i);
}

template <DecayFormula kFormula>
HWY_INLINE void DecayVectors(const DecayArgs& args, const DecayRow& row, int64_t count) {
  ForVectors(count, [&](auto d, int64_t i) HWY_ATTR {
    const auto z = hn::Add(hn::LoadU(d, row.x + i), LoadOrZero(d, row.bias, i));
    if constexpr (kFormula == DecayFormula::kLogSigmoid) {
      DecayByLogSigmoid(args, d, z, row, i);
    } else if constexpr (kFormula == DecayFormula::kLowerBound) {
      DecayByLowerBound(d, z, row, i);
    } else if constexpr (kFormula == DecayFormula::kExponential) {
      hn::StoreU(hn::Neg(ExpOrInfinity(d, z)), d, row.log_decay + i);
    } else {
      DecayBySoftplus(args, d, z, row, i);
    }
  });
}

HWY_INLINE const float* CopyTail(const float* from, int64_t begin, int64_t count, float* to) {
  if (from == nullptr) return nullptr;
  std::fill_n(std::copy_n(from + begin, count, to), kTail - count, 0.0F);
  return to;
}

// The channels past a multiple of eight, in arrays that have room for eight.
template <DecayFormula kFormula>
HWY_INLINE void DecayTail(const DecayArgs& args, const DecayRow& row, int64_t begin) {
  const int64_t count = args.dim - begin;
  float in[3][kTail];
  float out[3][kTail];
  const DecayRow tail = {
      CopyTail(row.x, begin, count, in[0]),         CopyTail(row.bias, begin, count, in[1]),
      CopyTail(row.channel, begin, count, in[2]),   out[0],
      row.complement == nullptr ? nullptr : out[1], row.input_scale == nullptr ? nullptr : out[2]};
  DecayVectors<kFormula>(args, tail, kTail);
  std::copy_n(out[0], count, row.log_decay + begin);
  if (row.complement != nullptr) std::copy_n(out[1], count, row.complement + begin);
  if (row.input_scale != nullptr) std::copy_n(out[2], count, row.input_scale + begin);
}

template <DecayFormula kFormula>
void DecayRows(const DecayArgs& args, int64_t first, int64_t last) {
  const int64_t dim = args.dim;
  const int64_t even = dim / kTail * kTail;
  for (int64_t r = first; r < last; ++r) {
    float* complement = static_cast<float*>(args.complement);
    const DecayRow row = {static_cast<const float*>(args.x) + r * args.x_stride,
                          args.bias,
                          kFormula == DecayFormula::kSoftplus ? args.a_log : args.lower_bound,
                          args.log_decay + r * dim,
                          complement == nullptr ? nullptr : complement + r * args.complement_stride,
                          args.input_scale == nullptr ? nullptr : args.input_scale + r * dim};
    DecayVectors<kFormula>(args, row, even);
    if (even < dim) DecayTail<kFormula>(args, row, even);
  }
}

void DecaySomeRows(const DecayArgs& args, int64_t first, int64_t last) {
  switch (args.formula) {
    case DecayFormula::kLogSigmoid:
      return DecayRows<DecayFormula::kLogSigmoid>(args, first, last);
    case DecayFormula::kLowerBound:
      return DecayRows<DecayFormula::kLowerBound>(args, first, last);
    case DecayFormula::kExponential:
      return DecayRows<DecayFormula::kExponential>(args, first, last);
    case DecayFormula::kSoftplus:
      return DecayRows<DecayFormula::kSoftplus>(args, first, last);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(DecaySomeRows);

void DecayCpu(const DecayArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  CheckDecay(args);
  pool.Ranges(args.rows, 2048 / args.dim + 1, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(DecaySomeRows)(args, begin, end);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
