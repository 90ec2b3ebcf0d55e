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

// The first `channels` of the channels that all pointers point at, of one sequence's tokens.
HWY_INLINE void ShiftSequence(const TokenShiftArgs& args, const float* x, int64_t channels,
                              int64_t length, float* last, float* delta) {
  const float* before = last;
  for (int64_t t = 0; t < length; ++t) {
    const float* now = x + t * args.x_stride;
    float* to = delta + t * args.dim;
    ForVectors(channels, [&](auto d, int64_t c) HWY_ATTR {
      hn::StoreU(hn::Sub(hn::LoadU(d, before + c), hn::LoadU(d, now + c)), d, to + c);
    });
    before = now;
  }
  std::copy_n(before, channels, last);
}

void ShiftChannels(const TokenShiftArgs& args, int64_t channel, int64_t channels) {
  const float* x = static_cast<const float*>(args.x) + channel;
  float* delta = static_cast<float*>(args.delta) + channel;
  float* last = args.last + channel;
  for (int64_t row = 0; row < args.decode_rows; ++row) {
    ShiftSequence(args, x + row * args.x_stride, channels, 1,
                  last + args.slots[row] * args.slot_stride, delta + row * args.dim);
  }
  for (int64_t s = 0; s < args.segment_count; ++s) {
    const Segment& segment = args.segments[s];
    ShiftSequence(args, x + segment.row * args.x_stride, channels, segment.length,
                  last + segment.slot * args.slot_stride, delta + int64_t{segment.row} * args.dim);
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
  SLUICE_CHECK(args.dim > 0 && args.dim % 8 == 0);
  SLUICE_CHECK(args.decode_rows >= 0 && args.segment_count >= 0);
  SLUICE_CHECK(args.rows >= args.decode_rows);
  SLUICE_CHECK(args.x_stride >= args.dim && args.slot_stride >= args.dim);
  SLUICE_CHECK(args.x != args.delta);
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
