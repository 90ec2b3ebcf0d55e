#include "kernels/token_shift.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/token_shift_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// Channels [channel, channel + channels) of one token.
HWY_INLINE void ShiftToken(const TokenShiftArgs& args, int64_t row, int64_t channel,
                           int64_t channels, const float* before) {
  const float* now = static_cast<const float*>(args.x) + row * args.x_stride + channel;
  const int64_t at = row * args.dim + channel;
  if (args.delta != nullptr) {
    float* delta = static_cast<float*>(args.delta) + at;
    ForVectors(channels, [&](auto d, int64_t c) HWY_ATTR {
      hn::StoreU(hn::Sub(hn::LoadU(d, before + c), hn::LoadU(d, now + c)), d, delta + c);
    });
  }
  for (int64_t mix = 0; mix < args.mixes; ++mix) {
    const float* mu = args.mu + mix * args.dim + channel;
    float* mixed = static_cast<float*>(args.mixed) + mix * args.rows * args.dim + at;
    ForVectors(channels, [&](auto d, int64_t c) HWY_ATTR {
      const auto x = hn::LoadU(d, now + c);
      const auto delta = hn::Sub(hn::LoadU(d, before + c), x);
      hn::StoreU(hn::MulAdd(delta, hn::LoadU(d, mu + c), x), d, mixed + c);
    });
  }
}

// Channels [channel, channel + channels) of one sequence, whose slot's are at `last`.
HWY_INLINE void ShiftSequence(const TokenShiftArgs& args, int64_t row, int64_t length,
                              int64_t channel, int64_t channels, float* last) {
  const float* x = static_cast<const float*>(args.x) + channel;
  const float* before = last;
  for (int64_t t = row; t < row + length; ++t) {
    ShiftToken(args, t, channel, channels, before);
    before = x + t * args.x_stride;
  }
  std::copy_n(before, channels, last);
}

void ShiftChannels(const TokenShiftArgs& args, int64_t channel, int64_t channels) {
  float* last = args.last + channel;
  for (int64_t row = 0; row < args.decode_rows; ++row) {
    ShiftSequence(args, row, 1, channel, channels, last + args.slots[row] * args.slot_stride);
  }
  for (int64_t s = 0; s < args.segment_count; ++s) {
    const Segment& segment = args.segments[s];
    ShiftSequence(args, segment.row, segment.length, channel, channels,
                  last + segment.slot * args.slot_stride);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(ShiftChannels);

void TokenShiftCpu(const TokenShiftArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  CheckTokenShift(args);
  constexpr int64_t kBlock = 128;
  const int64_t blocks = (args.dim + kBlock - 1) / kBlock;
  const int64_t grain = kElementGrain / (std::max(args.rows, 1) * kBlock);
  pool.Ranges(blocks, grain, [&](int64_t begin, int64_t end) {
    const int64_t channel = begin * kBlock;
    HWY_DYNAMIC_DISPATCH(ShiftChannels)
    (args, channel, std::min<int64_t>(end * kBlock, args.dim) - channel);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
