#include "kernels/token_counts.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 256;

// Grid: rows / kThreads; a thread owns one row. The same token may stand in many rows.
__global__ void MarkPromptKernel(const __grid_constant__ MarkPromptArgs args) {
  EnterStream();
  const int32_t row = blockIdx.x * kThreads + threadIdx.x;
  if (row >= args.rows || args.slots[row] < 0) return;
  atomicOr(args.counts + int64_t{args.slots[row]} * args.vocab + args.tokens[row], kInPrompt);
}

}  // namespace

void MarkPromptCuda(const MarkPromptArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0);
  if (args.rows == 0) return;
  LaunchKernel({(args.rows + kThreads - 1) / kThreads, kThreads}, stream, MarkPromptKernel, args);
}

}  // namespace sluice
