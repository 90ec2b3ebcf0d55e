#include "kernels/logprobs.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/ordered_key.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 1024;

// The thread's best token below `limit`; 0 if it has none.
__device__ unsigned long long BestBelow(const float* logits, int32_t vocab,
                                        unsigned long long limit) {
  unsigned long long best = 0;
  for (int32_t v = threadIdx.x; v < vocab; v += kThreads) {
    const unsigned long long candidate = CandidateKey(logits[v], v);
    if (candidate < limit) best = Larger()(best, candidate);
  }
  return best;
}

// Grid: rows. A block owns one row, a thread every 1024th token; a row is read twice, from the
// cache the second time. Of the most likely tokens each thread holds its own best one, and only
// the thread whose token was taken looks for its next.
__global__ __launch_bounds__(kThreads) void LogprobsKernel(
    const __grid_constant__ LogprobsArgs args) {
  EnterStream();
  const int32_t row = blockIdx.x;
  const float* const logits = args.logits + int64_t{row} * args.vocab;
  unsigned long long own = BestBelow(logits, args.vocab, ~0ULL);
  unsigned long long best = BlockReduce<kThreads>(own, Larger());
  const float max = ValueOf(best);
  float sum = 0.0F;
  for (int32_t v = threadIdx.x; v < args.vocab; v += kThreads) sum += expf(logits[v] - max);
  const float log_sum = logf(BlockReduce<kThreads>(sum, Plus()));

  if (threadIdx.x == 0) {
    const int32_t target = args.targets[row];
    args.target_logprobs[row] = target < 0 ? 0.0F : logits[target] - max - log_sum;
  }
  for (int32_t n = 0; n < args.top_n; ++n) {
    if (n > 0) best = BlockReduce<kThreads>(own, Larger());
    if (own != best) continue;
    const int64_t at = int64_t{row} * args.top_n + n;
    args.top_tokens[at] = TokenOf(best);
    args.top_logprobs[at] = ValueOf(best) - max - log_sum;
    own = BestBelow(logits, args.vocab, best);
  }
}

}  // namespace

void LogprobsCuda(const LogprobsArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0 && args.vocab > 0);
  SLUICE_CHECK(args.top_n >= 0 && args.top_n <= kMaxTopLogprobs && args.top_n <= args.vocab);
  if (args.rows == 0) return;
  LaunchKernel({args.rows, kThreads}, stream, LogprobsKernel, args);
}

}  // namespace sluice
