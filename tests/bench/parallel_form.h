// The parallel form of gated linear attention: quadratic in tokens, and no part of the engine. The
// bench of the three forms has it to show what the other two save.
//
//   o_i = scale * sum_{j<=i} (sum_c q_ic k_jc exp(G_ic - G_jc)) v_j,  G the running sum of log
//   gates
//
// In tiles of 64 x 64 scores. Below the diagonal the decay goes through the start a of the query's
// tile, exp(G_i - G_a) exp(G_a - G_j), so that no exponent is positive; on the diagonal it is taken
// for each pair. From an empty state, every head with keys, values and vector gates of its own.
//
// Source: Yang et al. 2023 (arXiv 2312.06635), section 3.
#pragma once

#include <cstdint>

#include "kernels/thread_pool.h"

namespace sluice {

constexpr int32_t kParallelTile = 64;  // tokens

struct ParallelFormArgs {
  int32_t tokens;     // multiple of kParallelTile
  int32_t heads;      // H
  int32_t key_dim;    // K: multiple of 64; on CUDA 256
  int32_t value_dim;  // V: multiple of 64; on CUDA 512
  float scale;
  const void* q;           // [tokens, H, K], as k float32 on the CPU, bfloat16 on CUDA
  const void* k;           // [tokens, H, K]
  const void* v;           // [tokens, H, V]
  const float* log_decay;  // [tokens, H, K], each <= 0
  void* out;               // [tokens, H, V]
  void* workspace;         // ParallelFormWorkspaceBytes, 256-aligned
};

int64_t ParallelFormWorkspaceBytes(const ParallelFormArgs& args);

void ParallelFormCpu(const ParallelFormArgs& args, ThreadPool& pool);

// Queued on the default stream, and waiting for it. In builds with CUDA.
void ParallelFormCuda(const ParallelFormArgs& args);
void WaitForParallelForm();

}  // namespace sluice
