// The norm of a head's outputs: a part of the replay step (gated_replay.cu).
#pragma once

#include <cstdint>

#include "kernels/activation.cuh"
#include "kernels/cluster.cuh"
#include "kernels/gated_replay.cuh"
#include "kernels/gated_replay_head.cuh"
#include "kernels/norm.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {

// Quads of columns of a head that a block stores, at most one a thread: those of a cluster share
// them.
static_assert(kMaxGatedValueDim / 4 <= kReplayThreads);
struct OwnQuad {
  bool is_there;
  int32_t column;  // of the head, its first
};
template <StateType kType>
__device__ OwnQuad QuadOfThread(const ReplayWork<kType>& w) {
  const int32_t quads = w.shape().value_dim / 4 / w.plan().blocks;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  return {thread < quads, 4 * (w.rank * quads + thread)};
}

// What a quad is multiplied by once it is normed.
struct NormFactors {
  float4 weight;
  float4 gate;  // activated
};
template <StateType kType>
__device__ NormFactors LoadNormFactors(const ReplayWork<kType>& w, int32_t column) {
  const NormArgs& norm = w.params.norm;
  const float4 ones = make_float4(1.0F, 1.0F, 1.0F, 1.0F);
  NormFactors factors = {ones, ones};
  const int64_t head = int64_t{w.kv_head} * norm.dim;
  if (norm.weight != nullptr) {
    factors.weight = LoadQuad(norm.weight + (norm.wide_weight ? head : 0) + column);
  }
  if (norm.gate == nullptr) return factors;
  float4& gate = factors.gate;
  gate = LoadNumbers(norm.gate, w.row * norm.gate_stride + head + column, norm.dtype);
  WithActivation(norm.gate_act, [&](auto constant) {
    constexpr Activation kAct = decltype(constant)::value;
    gate = make_float4(Activated<kAct>(gate.x), Activated<kAct>(gate.y), Activated<kAct>(gate.z),
                       Activated<kAct>(gate.w));
  });
  return factors;
}

// One over the root of the mean square of a head's outputs, which its blocks have at `values`
// [V], each those of its quads; summed in the order of norm.cuh. For all lanes of a warp.
template <StateType kType>
__device__ float InverseOfOutputs(const ReplayWork<kType>& w, float* values) {
  const NormArgs& norm = w.params.norm;
  const int32_t columns = norm.dim / w.plan().blocks;  // of a block
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarp;
  float sum = 0.0F;
  for (int32_t first = 0; first < norm.dim; first += kNormRun) {
    const int32_t at = first + lane * kPack;
    float squares = 0.0F;
    if (at < norm.dim) {
      const float4 a = LoadQuad(InBlock(values + at, at / columns));
      const float4 b = LoadQuad(InBlock(values + at + 4, (at + 4) / columns));
      squares = AddPack({{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}}, 0.0F, true, 0.0F);
    }
    sum += WarpReduce(squares, Plus());
  }
  return InverseRoot(sum / static_cast<float>(norm.dim), norm);
}

template <StateType kType>
__device__ void StoreNormed(const ReplayWork<kType>& w, float4 x, float inverse,
                            const NormFactors& factors, int32_t column) {
  const NormArgs& norm = w.params.norm;
  const auto normed = [&](float value, float weight, float gate) {
    return Normed(value, 0.0F, inverse, weight) * gate;
  };
  const float4& weight = factors.weight;
  const float4& gate = factors.gate;
  StoreNumbers(norm.y, w.row * norm.y_stride + int64_t{w.kv_head} * norm.dim + column, norm.dtype,
               make_float4(normed(x.x, weight.x, gate.x), normed(x.y, weight.y, gate.y),
                           normed(x.z, weight.z, gate.z), normed(x.w, weight.w, gate.w)));
}

// Norms the quads of all threads, rounded as the step alone would have stored them. The rows of the
// matrix have been read: their buffers are free.
template <StateType kType>
__device__ void StoreNormedOutputs(const ReplayWork<kType>& w, const OwnQuad& quad, float4 out) {
  const int32_t blocks = w.plan().blocks;
  float* const values = w.at(w.plan().at.batches);
  NormFactors factors = {};
  if (quad.is_there) {
    factors = LoadNormFactors(w, quad.column);
    out = RoundTo(w.params.norm.dtype, out);
    StoreQuad(values + quad.column, out);
  }
  SyncCluster(blocks);
  const float inverse = InverseOfOutputs(w, values);
  if (quad.is_there) StoreNormed(w, out, inverse, factors, quad.column);
}

// Of a row that only fills up a batch: what is normed is 0.
template <StateType kType>
__device__ void StoreNormedZeros(const ReplayWork<kType>& w) {
  const OwnQuad quad = QuadOfThread(w);
  if (!quad.is_there) return;
  const float4 zero = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  StoreNormed(w, zero, InverseRoot(0.0F, w.params.norm), LoadNormFactors(w, quad.column),
              quad.column);
}

}  // namespace sluice
