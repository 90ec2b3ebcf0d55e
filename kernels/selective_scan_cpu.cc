// Sequential in time: channels are parallel enough for a processor's threads, and the state of a
// block of them stays in the cache.
#include "kernels/selective_scan.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/selective_scan_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

constexpr int64_t kChannelBlock = 32;

// One sequence's tokens of the batch.
struct ScanRun {
  int64_t first_row;
  int64_t length;
  float* state;  // [N, D]
};

struct ScanBlock {
  const SelectiveScanArgs* args;
  int64_t channel;
  int64_t channels;  // 8..kChannelBlock
  const float* a;    // [N, kChannelBlock]
  float* state;      // [N, kChannelBlock]
};

template <class D, class V = hn::Vec<D>>
HWY_INLINE V Softplus(D d, V x) {
  const V limit = hn::Set(d, 20.0F);
  const V bent = hn::Log1p(d, hn::Exp(d, hn::Min(x, limit)));
  return hn::IfThenElse(hn::Gt(x, limit), x, bent);
}

// Row `row` of `array` at the block's first channel.
HWY_INLINE const float* RowAt(const void* array, int64_t stride, int64_t row, int64_t channel) {
  return static_cast<const float*>(array) + row * stride + channel;
}

HWY_INLINE void ScanToken(const ScanBlock& block, int64_t row) {
  const SelectiveScanArgs& args = *block.args;
  const float* x = RowAt(args.x, args.x_stride, row, block.channel);
  const float* dt = RowAt(args.dt, args.dt_stride, row, block.channel);
  const float* b = RowAt(args.b, args.b_stride, row, 0);
  const float* c = RowAt(args.c, args.c_stride, row, 0);
  float* out = static_cast<float*>(args.out) + row * int64_t{args.channels} + block.channel;
  ForVectors(block.channels, [&](auto d, int64_t i) HWY_ATTR {
    auto step = hn::LoadU(d, dt + i);
    if (args.dt_bias != nullptr) {
      step = hn::Add(step, hn::LoadU(d, args.dt_bias + block.channel + i));
    }
    step = Softplus(d, step);
    const auto input = hn::LoadU(d, x + i);
    const auto step_input = hn::Mul(step, input);
    auto y = hn::Zero(d);
    for (int64_t n = 0; n < args.state_size; ++n) {
      float* state = block.state + n * kChannelBlock + i;
      const auto decay = hn::Exp(d, hn::Mul(step, hn::Load(d, block.a + n * kChannelBlock + i)));
      const auto added = hn::Mul(step_input, hn::Set(d, b[n]));
      const auto h = hn::MulAdd(decay, hn::Load(d, state), added);
      hn::Store(h, d, state);
      y = hn::MulAdd(hn::Set(d, c[n]), h, y);
    }
    if (args.skip != nullptr) {
      y = hn::MulAdd(hn::LoadU(d, args.skip + block.channel + i), input, y);
    }
    if (args.gate != nullptr) {
      const float* gate = RowAt(args.gate, args.gate_stride, row, block.channel);
      y = hn::Mul(y, Activated<Activation::kSilu>(d, hn::LoadU(d, gate + i)));
    }
    hn::StoreU(y, d, out + i);
  });
}

HWY_INLINE void ScanSequence(const ScanBlock& block, const ScanRun& run) {
  const SelectiveScanArgs& args = *block.args;
  float* state = run.state + block.channel;
  for (int64_t n = 0; n < args.state_size; ++n) {
    std::copy_n(state + n * args.channels, block.channels, block.state + n * kChannelBlock);
  }
  for (int64_t t = 0; t < run.length; ++t) ScanToken(block, run.first_row + t);
  for (int64_t n = 0; n < args.state_size; ++n) {
    std::copy_n(block.state + n * kChannelBlock, block.channels, state + n * args.channels);
  }
}

// A of the block's channels, transposed.
HWY_INLINE void BlockDecays(const SelectiveScanArgs& args, int64_t channel, int64_t channels,
                            float* HWY_RESTRICT a) {
  for (int64_t i = 0; i < channels; ++i) {
    const float* a_log = args.a_log + (channel + i) * args.state_size;
    for (int64_t n = 0; n < args.state_size; ++n) a[n * kChannelBlock + i] = a_log[n];
  }
  for (int64_t n = 0; n < args.state_size; ++n) {
    ForVectors(channels, [&](auto d, int64_t i) HWY_ATTR {
      float* at = a + n * kChannelBlock + i;
      const auto a_log = hn::Min(hn::Load(d, at), hn::Set(d, kMaxScanLogA));
      hn::Store(hn::Neg(hn::Exp(d, a_log)), d, at);
    });
  }
}

// Sequences [begin, end), decode rows first, of the channels of one block.
void ScanChannels(const SelectiveScanArgs& args, int64_t channel, int64_t begin, int64_t end) {
  HWY_ALIGN float a[kMaxScanState * kChannelBlock];
  HWY_ALIGN float state[kMaxScanState * kChannelBlock];
  const int64_t channels = std::min<int64_t>(kChannelBlock, args.channels - channel);
  BlockDecays(args, channel, channels, a);
  const ScanBlock block = {&args, channel, channels, a, state};
  for (int64_t sequence = begin; sequence < end; ++sequence) {
    if (sequence < args.decode_rows) {
      ScanSequence(block, {sequence, 1, args.states + args.slots[sequence] * args.slot_stride});
      continue;
    }
    const Segment& segment = args.segments[sequence - args.decode_rows];
    ScanSequence(block,
                 {segment.row, segment.length, args.states + segment.slot * args.slot_stride});
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {
namespace {

void CheckSelectiveScan(const SelectiveScanArgs& args) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  SLUICE_CHECK(args.channels > 0 && args.channels % 8 == 0);
  SLUICE_CHECK(args.state_size >= 8 && args.state_size % 8 == 0);
  SLUICE_CHECK(args.state_size <= kMaxScanState);
  SLUICE_CHECK(args.decode_rows >= 0 && args.segment_count >= 0);
  SLUICE_CHECK(args.rows >= args.decode_rows);
  SLUICE_CHECK(args.x_stride >= args.channels && args.dt_stride >= args.channels);
  SLUICE_CHECK(args.b_stride >= args.state_size && args.c_stride >= args.state_size);
  SLUICE_CHECK(args.gate == nullptr || args.gate_stride >= args.channels);
  SLUICE_CHECK(args.slot_stride >= int64_t{args.state_size} * args.channels);
}

}  // namespace

HWY_EXPORT(ScanChannels);

void SelectiveScanCpu(const SelectiveScanArgs& args, ThreadPool& pool) {
  CheckSelectiveScan(args);
  const int64_t sequences = int64_t{args.decode_rows} + args.segment_count;
  if (sequences == 0) return;
  constexpr int64_t kBlock = 32;
  const int64_t blocks = (args.channels + kBlock - 1) / kBlock;
  // An element of the state costs an exponential a token.
  const int64_t work = kBlock * args.state_size * std::max<int64_t>(args.rows / sequences, 1);
  pool.Ranges(blocks * sequences, kElementGrain / 8 / work, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t first = begin % sequences;
      const int64_t last = std::min(sequences, first + end - begin);
      HWY_DYNAMIC_DISPATCH(ScanChannels)(args, begin / sequences * kBlock, first, last);
      begin += last - first;
    }
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
