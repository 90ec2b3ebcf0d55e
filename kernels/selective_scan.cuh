// What the kernels of the selective scan are made of: the arithmetic of one token, in one place so
// that a decode step has the bits of a prefill, and the two kinds of threads that walk a segment.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"
#include "kernels/selective_scan.h"

namespace sluice {

constexpr int kHelperWarps = 4;

// How a block walks a segment. A warp has kStates states of 32 channels; their sums over a token's
// states are added warp by warp, and in a decode step alike. Double-buffered tiles of kTile tokens
// fit into 48 KiB.
struct SmallScan {
  static constexpr int kStates = 4;
  static constexpr int kTile = 16;
  static constexpr int kMaxState = 16;
  static constexpr int kBlocks = 3;  // of a multiprocessor
};
struct MediumScan {
  static constexpr int kStates = 4;
  static constexpr int kTile = 8;
  static constexpr int kMaxState = 64;
  static constexpr int kBlocks = 1;
};
struct LargeScan {
  static constexpr int kStates = 16;
  static constexpr int kTile = 4;
  static constexpr int kMaxState = kMaxScanState;
  static constexpr int kBlocks = 1;
};

template <class S>
constexpr int kMaxGroups = S::kMaxState / S::kStates;  // warps that scan
template <class S>
constexpr int kMaxThreads = (kMaxGroups<S> + kHelperWarps) * kWarp;
template <class S>
constexpr int kOwnTokens = S::kTile / kHelperWarps;  // of a helper, in a tile
template <class S>
constexpr int kOwnQuads = 2 * S::kTile* S::kMaxState / 4 / (kHelperWarps * kWarp);  // of b and c

// 2^x for x <= 0, to 2^-22; results below the normal numbers are zero.
__device__ inline float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// A in units of powers of two, finite always.
__device__ inline float LogDecay(float a_log) {
  return -1.44269504089F * expf(fminf(a_log, kMaxScanLogA));
}

__device__ inline float Softplus(float x) { return x > 20.0F ? x : log1pf(expf(x)); }

// Moves kStates states of a channel one token on and returns their part of C h.
template <int kStates>
__device__ inline float StepStates(const float* a, float2 step, const float* b, const float* c,
                                   float* h) {
  float sum = 0.0F;
#pragma unroll
  for (int j = 0; j < kStates; ++j) {
    h[j] = fmaf(Exp2(step.x * a[j]), h[j], step.y * b[j]);
    sum = fmaf(c[j], h[j], sum);
  }
  return sum;
}

// What a channel has besides its states.
struct ChannelTerms {
  float dt_bias;
  float skip;
  bool has_gate;

  // The step, and the step times x.
  __device__ float2 Step(float dt, float x) const {
    const float step = Softplus(dt + dt_bias);
    return make_float2(step, step * x);
  }
  __device__ float Output(float sum, float x, float gate) const {
    const float y = fmaf(skip, x, sum);
    return has_gate ? y * __fdividef(gate, 1.0F + __expf(-gate)) : y;
  }
};

__device__ inline ChannelTerms TermsOf(const SelectiveScanArgs& args, int32_t channel) {
  return {.dt_bias = args.dt_bias == nullptr ? 0.0F : args.dt_bias[channel],
          .skip = args.skip == nullptr ? 0.0F : args.skip[channel],
          .has_gate = args.gate != nullptr};
}

// One of the two halves of a block's shared memory.
template <class S>
struct TileBuffers {
  float2 steps[S::kTile][kWarp];
  float b[S::kTile][S::kMaxState];
  float c[S::kTile][S::kMaxState];
  float parts[S::kTile][kMaxGroups<S>][kWarp];  // of the sums over states
};

// Four numbers as they are stored, so that a load need not be waited for where it is issued.
template <typename T>
using QuadBits = std::conditional_t<std::is_same_v<T, float>, float4, uint2>;

__device__ inline float4 ToQuad(float4 bits) { return bits; }
__device__ inline float4 ToQuad(uint2 bits) {
  const float2 a = UnpackWord(bits.x);
  const float2 b = UnpackWord(bits.y);
  return make_float4(a.x, a.y, b.x, b.y);
}

// A thread that makes tiles ready for the scan and finishes what the scan gives: of each tile the
// tokens `warp`, warp + kHelperWarps, ... of one channel, and its share of b and c. Tokens outside
// the segment and channels behind the last are read as their neighbours and not written.
template <class S, typename T>
struct Helper {
  struct Inputs {
    T x[kOwnTokens<S>];
    T dt[kOwnTokens<S>];
    QuadBits<T> bc[kOwnQuads<S>];
  };
  // Quad `k` of a thread: which array, which token of a tile, which states.
  struct Place {
    bool is_c;
    int32_t token;
    int32_t state;
  };

  const T* x;  // of the segment's first token, as those below
  const T* dt;
  const T* gate;
  const T* b;
  const T* c;
  T* out;  // null if there is no such channel
  int32_t length;
  int32_t groups;
  int32_t thread;
  ChannelTerms terms;

  __device__ static Helper Open(const SelectiveScanArgs& args, const Segment& segment,
                                int32_t channel) {
    const int64_t row = segment.row;
    const int32_t read = min(channel, args.channels - 1);
    return {.x = static_cast<const T*>(args.x) + row * args.x_stride + read,
            .dt = static_cast<const T*>(args.dt) + row * args.dt_stride + read,
            .gate = static_cast<const T*>(args.gate) + row * args.gate_stride + read,
            .b = static_cast<const T*>(args.b) + row * args.b_stride,
            .c = static_cast<const T*>(args.c) + row * args.c_stride,
            .out = channel < args.channels
                       ? static_cast<T*>(args.out) + row * args.channels + channel
                       : nullptr,
            .length = segment.length,
            .groups = static_cast<int32_t>(blockDim.x / kWarp) - kHelperWarps,
            .thread = static_cast<int32_t>(threadIdx.x),
            .terms = TermsOf(args, read)};
  }

  __device__ int32_t OwnToken(int k) const { return thread / kWarp + k * kHelperWarps; }
  __device__ int64_t Inside(int32_t token) const { return max(0, min(token, length - 1)); }
  __device__ Place PlaceOf(int k) const {
    constexpr int kRowQuads = S::kMaxState / 4;
    const int quad = thread + k * kHelperWarps * kWarp;
    return {.is_c = quad >= S::kTile * kRowQuads,
            .token = quad / kRowQuads % S::kTile,
            .state = quad % kRowQuads * 4};
  }

  __device__ void Fetch(const SelectiveScanArgs& args, int32_t tile, Inputs* inputs) const {
#pragma unroll
    for (int k = 0; k < kOwnTokens<S>; ++k) {
      const int64_t token = Inside(tile * S::kTile + OwnToken(k));
      inputs->x[k] = x[token * args.x_stride];
      inputs->dt[k] = dt[token * args.dt_stride];
    }
#pragma unroll
    for (int k = 0; k < kOwnQuads<S>; ++k) {
      const Place place = PlaceOf(k);
      const int64_t token = Inside(tile * S::kTile + place.token);
      const T* const from = place.is_c ? c + token * args.c_stride : b + token * args.b_stride;
      inputs->bc[k] = {};
      if (place.state < args.state_size) {
        inputs->bc[k] = *reinterpret_cast<const QuadBits<T>*>(from + place.state);
      }
    }
  }

  __device__ void FetchGate(const SelectiveScanArgs& args, int32_t tile, T* to) const {
    if (!terms.has_gate) return;
#pragma unroll
    for (int k = 0; k < kOwnTokens<S>; ++k) {
      to[k] = gate[Inside(tile * S::kTile + OwnToken(k)) * args.gate_stride];
    }
  }

  __device__ void Stage(const Inputs& inputs, TileBuffers<S>& buffers) const {
#pragma unroll
    for (int k = 0; k < kOwnTokens<S>; ++k) {
      buffers.steps[OwnToken(k)][thread % kWarp] =
          terms.Step(ToFloat(inputs.dt[k]), ToFloat(inputs.x[k]));
    }
#pragma unroll
    for (int k = 0; k < kOwnQuads<S>; ++k) {
      const Place place = PlaceOf(k);
      float(&rows)[S::kTile][S::kMaxState] = place.is_c ? buffers.c : buffers.b;
      *reinterpret_cast<float4*>(&rows[place.token][place.state]) = ToQuad(inputs.bc[k]);
    }
  }

  __device__ void Write(const SelectiveScanArgs& args, int32_t tile, const TileBuffers<S>& buffers,
                        const T* tile_x, const T* tile_gate) const {
#pragma unroll
    for (int k = 0; k < kOwnTokens<S>; ++k) {
      const int32_t token = tile * S::kTile + OwnToken(k);
      float sum = 0.0F;
#pragma unroll
      for (int group = 0; group < kMaxGroups<S>; ++group) {
        if (group < groups) sum += buffers.parts[OwnToken(k)][group][thread % kWarp];
      }
      const float own_gate = terms.has_gate ? ToFloat(tile_gate[k]) : 0.0F;
      const float y = terms.Output(sum, ToFloat(tile_x[k]), own_gate);
      if (token < length && out != nullptr) {
        out[int64_t{token} * args.channels] = FromFloat<T>(y);
      }
    }
  }
};

__device__ inline void SpreadQuad(float4 quad, float* to) {
  to[0] = quad.x;
  to[1] = quad.y;
  to[2] = quad.z;
  to[3] = quad.w;
}

// A thread that has kStates states of a channel, in registers.
template <class S>
struct Scanner {
  float a[S::kStates];
  float h[S::kStates];
  int32_t group;
  int32_t lane;

  __device__ int32_t State(int j) const { return group * S::kStates + j; }

  __device__ void Open(const SelectiveScanArgs& args, const float* states, int32_t channel) {
#pragma unroll
    for (int j = 0; j < S::kStates; ++j) {
      const bool exists = channel < args.channels && State(j) < args.state_size;
      a[j] = exists ? LogDecay(args.a_log[int64_t{channel} * args.state_size + State(j)]) : 0.0F;
      h[j] = exists ? states[int64_t{State(j)} * args.channels + channel] : 0.0F;
    }
  }

  __device__ float Step(const TileBuffers<S>& tile, int32_t t) {
    float b[S::kStates];
    float c[S::kStates];
#pragma unroll
    for (int j = 0; j < S::kStates; j += 4) {
      SpreadQuad(LoadQuad(&tile.b[t][State(j)]), b + j);
      SpreadQuad(LoadQuad(&tile.c[t][State(j)]), c + j);
    }
    return StepStates<S::kStates>(a, tile.steps[t][lane], b, c, h);
  }

  __device__ void Scan(TileBuffers<S>& tile, int32_t tokens) {
    if (tokens < S::kTile) {
      for (int32_t t = 0; t < tokens; ++t) tile.parts[t][group][lane] = Step(tile, t);
      return;
    }
    // Nothing is stored in between, so that later tokens' loads and decays are free to go first.
    float parts[S::kTile];
#pragma unroll
    for (int32_t t = 0; t < S::kTile; ++t) parts[t] = Step(tile, t);
#pragma unroll
    for (int32_t t = 0; t < S::kTile; ++t) tile.parts[t][group][lane] = parts[t];
  }

  __device__ void Close(const SelectiveScanArgs& args, float* states, int32_t channel) const {
#pragma unroll
    for (int j = 0; j < S::kStates; ++j) {
      if (channel >= args.channels || State(j) >= args.state_size) continue;
      states[int64_t{State(j)} * args.channels + channel] = h[j];
    }
  }
};

}  // namespace sluice
