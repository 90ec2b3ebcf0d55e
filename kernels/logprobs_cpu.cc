#include "kernels/logprobs.h"

#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/logprobs_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

HWY_INLINE float MaxOf(const float* x, int64_t count) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  float max = x[0];
  int64_t i = 0;
  if (count >= lanes) {
    auto best = hn::LoadU(d, x);
    for (; i + lanes <= count; i += lanes) best = hn::Max(best, hn::LoadU(d, x + i));
    max = hn::GetLane(hn::MaxOfLanes(d, best));
  }
  for (; i < count; ++i) max = std::max(max, x[i]);
  return max;
}

// log(sum exp(x)). The sums of blocks are added in double: a vocabulary may be large.
double LogSumExp(const float* x, int64_t count) {
  constexpr int64_t kBlock = 1024;
  const Floats d;
  const int64_t lanes = FloatLanes();
  const float max = MaxOf(x, count);
  double sum = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    auto block = hn::Zero(d);
    int64_t i = begin;
    for (; i + lanes <= end; i += lanes) {
      block = hn::Add(block, hn::Exp(d, hn::Sub(hn::LoadU(d, x + i), hn::Set(d, max))));
    }
    sum += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, block)));
    for (; i < end; ++i) sum += std::exp(static_cast<double>(x[i] - max));
  }
  return static_cast<double>(max) + std::log(sum);
}

// First index in [from, count) whose number exceeds `floor`, or `count`.
int64_t FindAbove(const float* x, int64_t from, int64_t count, float floor) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  const auto least = hn::Set(d, floor);
  int64_t i = from;
  for (; i + lanes <= count; i += lanes) {
    const int64_t found = hn::FindFirstTrue(d, hn::Gt(hn::LoadU(d, x + i), least));
    if (found >= 0) return i + found;
  }
  while (i < count && x[i] <= floor) ++i;
  return i;
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(LogSumExp);
HWY_EXPORT(FindAbove);

namespace {

// Most likely first. Ids come in rising order, so an equal number never passes an earlier one.
struct TopList {
  int32_t count = 0;
  int32_t tokens[kMaxTopLogprobs];
  float logits[kMaxTopLogprobs];

  void Insert(int32_t token, float logit, int32_t capacity) {
    int32_t at = count < capacity ? count++ : capacity - 1;
    for (; at > 0 && logits[at - 1] < logit; --at) {
      tokens[at] = tokens[at - 1];
      logits[at] = logits[at - 1];
    }
    tokens[at] = token;
    logits[at] = logit;
  }
};

TopList TopOf(const float* logits, int32_t vocab, int32_t top_n) {
  TopList top;
  for (int32_t v = 0; v < top_n; ++v) top.Insert(v, logits[v], top_n);
  int64_t v = top_n;
  while (true) {
    v = HWY_DYNAMIC_DISPATCH(FindAbove)(logits, v, vocab, top.logits[top_n - 1]);
    if (v == vocab) return top;
    top.Insert(static_cast<int32_t>(v), logits[v], top_n);
    ++v;
  }
}

void LogprobsRow(const LogprobsArgs& args, int64_t row) {
  const float* logits = args.logits + row * args.vocab;
  const double total = HWY_DYNAMIC_DISPATCH(LogSumExp)(logits, args.vocab);
  const int32_t target = args.targets[row];
  SLUICE_CHECK(target >= -1 && target < args.vocab);
  args.target_logprobs[row] = target < 0 ? 0.0F : static_cast<float>(logits[target] - total);
  if (args.top_n == 0) return;
  const TopList top = TopOf(logits, args.vocab, args.top_n);
  for (int64_t i = 0; i < args.top_n; ++i) {
    args.top_tokens[row * args.top_n + i] = top.tokens[i];
    args.top_logprobs[row * args.top_n + i] = static_cast<float>(top.logits[i] - total);
  }
}

}  // namespace

void LogprobsCpu(const LogprobsArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.rows >= 0);
  SLUICE_CHECK(args.vocab > 0);
  SLUICE_CHECK(args.top_n >= 0 && args.top_n <= kMaxTopLogprobs && args.top_n <= args.vocab);
  pool.Ranges(args.rows, kElementGrain / args.vocab, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) LogprobsRow(args, row);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
