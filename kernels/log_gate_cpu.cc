#include "kernels/log_gate.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/log_gate_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// Rows [begin, end) of kChannels channels from `channel` on.
template <int kChannels>
HWY_INLINE void LogGateBlock(const LogGateArgs& args, int64_t begin, int64_t end, int64_t channel) {
  const hn::CappedTag<float, kChannels> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN float weight[kMaxGateRank * kChannels];  // [rank, kChannels]
  for (int64_t j = 0; j < args.rank; ++j) {
    for (int64_t c = 0; c < kChannels; ++c) {
      weight[j * kChannels + c] = args.weight[(channel + c) * args.rank + j];
    }
  }
  const auto scale = hn::Set(d, 1.0F / args.normalizer);
  const auto least = hn::Set(d, args.clamp_min);
  for (int64_t row = begin; row < end; ++row) {
    const float* x = static_cast<const float*>(args.x) + row * args.x_stride;
    float* to = args.log_decay + row * args.dim + channel;
    for (int64_t c = 0; c < kChannels; c += lanes) {
      auto even = hn::LoadU(d, args.bias + channel + c);
      auto odd = hn::Zero(d);
      for (int64_t j = 0; j < args.rank; j += 2) {
        even = hn::MulAdd(hn::Set(d, x[j]), hn::Load(d, weight + j * kChannels + c), even);
        odd = hn::MulAdd(hn::Set(d, x[j + 1]), hn::Load(d, weight + (j + 1) * kChannels + c), odd);
      }
      const auto gate = hn::Mul(LogSigmoid(d, hn::Add(even, odd)), scale);
      hn::StoreU(hn::Max(gate, least), d, to + c);
    }
  }
}

void LogGateRows(const LogGateArgs& args, int64_t begin, int64_t end) {
  int64_t channel = 0;
  for (; channel + 16 <= args.dim; channel += 16) LogGateBlock<16>(args, begin, end, channel);
  if (channel < args.dim) LogGateBlock<8>(args, begin, end, channel);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(LogGateRows);

void LogGateCpu(const LogGateArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  SLUICE_CHECK(args.rows >= 0);
  SLUICE_CHECK(args.rank >= 8 && args.rank <= kMaxGateRank && args.rank % 8 == 0);
  SLUICE_CHECK(args.dim > 0 && args.dim % 8 == 0);
  SLUICE_CHECK(args.normalizer > 0);
  SLUICE_CHECK(args.clamp_min <= 0);
  SLUICE_CHECK(args.x_stride >= args.rank);
  // A few rows at a time, so that what is written stays in the cache.
  pool.Ranges(args.rows, 2048 / args.dim + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row += 64) {
      HWY_DYNAMIC_DISPATCH(LogGateRows)(args, row, std::min(end, row + 64));
    }
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
