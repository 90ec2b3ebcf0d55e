#include "kernels/short_conv.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/short_conv_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

constexpr int64_t kMaxWidth = 8;
constexpr int64_t kChannelBlock = 128;

// One sequence's tokens of the batch, at the first channel of a block.
struct ConvRun {
  int64_t first_row;
  int64_t length;
  float* window;  // [W - 1, C]
};

struct ConvBlock {
  const ShortConvArgs* args;
  int64_t channel;
  int64_t channels;     // 8..kChannelBlock
  const float* weight;  // [W, kChannelBlock]
};

// Input `t` of a run, t in [-(W - 1), length): from the window if it is older than the run.
HWY_INLINE const float* ConvInput(const ConvBlock& block, const ConvRun& run, int64_t t) {
  const ShortConvArgs& args = *block.args;
  if (t < 0) return run.window + (t + args.width - 1) * args.channels + block.channel;
  const float* x = static_cast<const float*>(args.x);
  return x + (run.first_row + t) * args.x_stride + block.channel;
}

template <Activation kAct>
HWY_INLINE void ConvToken(const ConvBlock& block, const ConvRun& run, int64_t t) {
  const ShortConvArgs& args = *block.args;
  const float* taps[kMaxWidth];
  for (int64_t j = 0; j < args.width; ++j) {
    taps[j] = ConvInput(block, run, t - args.width + 1 + j);
  }
  float* y =
      static_cast<float*>(args.y) + (run.first_row + t) * int64_t{args.channels} + block.channel;
  ForVectors(block.channels, [&](auto d, int64_t c) HWY_ATTR {
    auto sum = args.bias == nullptr ? hn::Zero(d) : hn::LoadU(d, args.bias + block.channel + c);
    for (int64_t j = 0; j < args.width; ++j) {
      sum = hn::MulAdd(hn::LoadU(d, taps[j] + c),
                       hn::LoadU(d, block.weight + j * kChannelBlock + c), sum);
    }
    hn::StoreU(Activated<kAct>(d, sum), d, y + c);
  });
}

HWY_INLINE void ConvSequence(const ConvBlock& block, const ConvRun& run) {
  const ShortConvArgs& args = *block.args;
  if (args.act == Activation::kSilu) {
    for (int64_t t = 0; t < run.length; ++t) ConvToken<Activation::kSilu>(block, run, t);
  } else {
    for (int64_t t = 0; t < run.length; ++t) ConvToken<Activation::kNone>(block, run, t);
  }
  // Oldest first: what is overwritten has been moved on already.
  for (int64_t i = 0; i + 1 < args.width; ++i) {
    const float* from = ConvInput(block, run, run.length - args.width + 1 + i);
    std::copy_n(from, block.channels, run.window + i * args.channels + block.channel);
  }
}

void ShortConvChannels(const ShortConvArgs& args, int64_t channel, int64_t channels) {
  HWY_ALIGN float weight[kMaxWidth * kChannelBlock];
  for (int64_t j = 0; j < args.width; ++j) {
    for (int64_t c = 0; c < channels; ++c) {
      weight[j * kChannelBlock + c] = args.weight[(channel + c) * args.width + j];
    }
  }
  const ConvBlock block = {&args, channel, channels, weight};
  for (int64_t row = 0; row < args.decode_rows; ++row) {
    ConvSequence(block, {row, 1, args.windows + args.slots[row] * args.slot_stride});
  }
  for (int64_t s = 0; s < args.segment_count; ++s) {
    const Segment& segment = args.segments[s];
    ConvSequence(block,
                 {segment.row, segment.length, args.windows + segment.slot * args.slot_stride});
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(ShortConvChannels);

void ShortConvCpu(const ShortConvArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  SLUICE_CHECK(args.channels > 0 && args.channels % 8 == 0);
  SLUICE_CHECK(args.width >= 2 && args.width <= 8);
  SLUICE_CHECK(args.decode_rows >= 0 && args.segment_count >= 0);
  SLUICE_CHECK(args.rows >= args.decode_rows);
  SLUICE_CHECK(args.act == Activation::kSilu || args.act == Activation::kNone);
  SLUICE_CHECK(args.x_stride >= args.channels);
  SLUICE_CHECK(args.slot_stride >= int64_t{args.width - 1} * args.channels);
  constexpr int64_t kBlock = 128;
  const int64_t blocks = (args.channels + kBlock - 1) / kBlock;
  const int64_t grain = kElementGrain / 2 / (std::max(args.rows, 1) * kBlock);
  pool.Ranges(blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t channel = block * kBlock;
      HWY_DYNAMIC_DISPATCH(ShortConvChannels)
      (args, channel, std::min<int64_t>(kBlock, args.channels - channel));
    }
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
