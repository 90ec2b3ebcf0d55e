// What blocks make of their sums of a product with float8 weights: those of the blocks that share
// out K are added, scaled and stored.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cluster.cuh"
#include "kernels/linear.h"
#include "kernels/pack.cuh"

namespace sluice {

// The results of a cluster, of which each block has sums over its share of K.
struct Results {
  int32_t first_row;
  int32_t rows;
  int32_t first_output;  // a multiple of 8
  int32_t outputs;       // likewise
  int32_t rank;          // of the block
  int32_t blocks;
};

// By all threads of all blocks, whose results are a share each. `sums`, of each part of a block's
// threads by row and output, begin 16-byte aligned, as their rows do; all of them are added in one
// order.
template <typename Y, int kThreads, int kParts, int kRows, int kPitch>
__device__ void StoreResults(const LinearArgs& args, const Results& results,
                             float (&sums)[kParts][kRows][kPitch]) {
  SyncCluster(results.blocks);
  const float4 none = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  constexpr int kAtOnce = kMaxCluster / kParts;  // blocks whose sums are on their way together
  const int32_t quads = results.outputs / 4;
  for (int32_t i = results.rank * kThreads + static_cast<int32_t>(threadIdx.x);
       i < results.rows * quads; i += results.blocks * kThreads) {
    const int32_t row = i / quads;
    const int32_t output = i % quads * 4;
    const int32_t column = results.first_output + output;
    Y* const at = static_cast<Y*>(args.y) + (results.first_row + row) * args.y_stride + column;
    const float4 before = args.accumulate ? LoadQuad(at) : none;
    const float4 scale = LoadQuad(args.weight_scale + column);
    float4 sum = none;
#pragma unroll
    for (int first = 0; first < kMaxCluster; first += kAtOnce) {
      if (first >= results.blocks) break;
      float4 shares[kAtOnce][kParts];
#pragma unroll
      for (int b = 0; b < kAtOnce; ++b) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          shares[b][part] = none;
          if (first + b >= results.blocks) continue;
          shares[b][part] = LoadQuad(InBlock(&sums[part][row][output], first + b));
        }
      }
#pragma unroll
      for (int b = 0; b < kAtOnce; ++b) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) sum = Add(sum, 1.0F, shares[b][part]);
      }
    }
    StoreQuad(at, make_float4(fmaf(sum.x, scale.x, before.x), fmaf(sum.y, scale.y, before.y),
                              fmaf(sum.z, scale.z, before.z), fmaf(sum.w, scale.w, before.w)));
  }
  ArriveClusterUnwritten(results.blocks);
  WaitCluster(results.blocks);
}

}  // namespace sluice
