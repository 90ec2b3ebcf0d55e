// Prefill is a scan in chunks: states decay independently of one another, so that a chunk's effect
// on a state is one decay and one sum, found for all chunks at once.
//
//   local    (chunk, channels): the states after a chunk that began with none, and its steps' sum
//   combine  (segment, states): walks the segment's chunks; writes the state before each
//   output   (chunk, channels): walks the chunk's tokens again, from the state before it
//
// Each of the two walks takes an exponential a state and token. One walk of whole segments would
// take half as many, but has too few threads for one sequence; and which of the two it is may not
// depend on the number of sequences, on which a row's bits would then depend. By ncu 55 % of the
// issue slots are used (H200): registers leave room for no more than 16 warps of a multiprocessor.
#include <cfloat>
#include <cmath>
#include <cstdint>

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"
#include "kernels/selective_scan.cuh"
#include "kernels/selective_scan.h"

namespace sluice {
namespace {

constexpr int kStates = 16;  // of a channel, in a thread's registers
constexpr int kCombineThreads = 128;
constexpr int kCombineAhead = 8;                     // chunks whose loads are in flight
constexpr int kWarpChannels = 2 * kWarp;             // of a walk
constexpr int kMaxGroups = kMaxScanState / kStates;  // warps that share channels
constexpr int kFewWarps = 4;                         // of a block whose channels one warp holds
constexpr int kTokens = 2;                           // taken at once, while as many are loaded
constexpr int kTileNumbers = kChunk * kStates;       // of b, and of c, in shared memory
constexpr int kMaxParts = kTileNumbers / kStates * kWarp;

// What passes from kernel to kernel.
struct ScanBuffers {
  float* state;  // [chunks, N, D]: after the chunk if it began with zeros, then before the chunk
  float* steps;  // [chunks, D]: sum of the chunk's steps
};

ScanBuffers BuffersOf(const SelectiveScanArgs& args) {
  auto* const base = static_cast<float*>(args.workspace);
  return {base, base + int64_t{args.chunk_count} * args.state_size * args.channels};
}

__host__ __device__ constexpr int32_t ScanGroups(int32_t state_size) {
  return (state_size + kStates - 1) / kStates;
}

// Of channels, in a block: those of one group's warps, or of kFewWarps that need no others.
__host__ __device__ constexpr int32_t ChannelSets(int32_t groups) {
  return groups == 1 ? kFewWarps : 1;
}

__host__ __device__ constexpr int32_t ChannelBlocks(int32_t channels, int32_t sets) {
  return (channels + sets * kWarpChannels - 1) / (sets * kWarpChannels);
}

// Tokens whose b and c fit into shared memory.
__host__ __device__ constexpr int32_t TileTokens(int32_t groups) {
  return kChunk / groups / kTokens * kTokens;
}
static_assert(TileTokens(kMaxGroups) > 0, "a tile has tokens");

// A lane's two channels of one chunk, and its states' places.
struct ChunkThread {
  int32_t chunk;
  int32_t groups;    // warps that share the channels
  int32_t group;     // this one
  int32_t channel;   // the first of both; may lie behind the last
  int32_t read;      // the channel, or the last pair's
  int32_t tile_row;  // numbers of a token in a tile of b or c

  __device__ static ChunkThread Open(const SelectiveScanArgs& args) {
    const int32_t groups = ScanGroups(args.state_size);
    const int32_t sets = ChannelSets(groups);
    const int32_t blocks = ChannelBlocks(args.channels, sets);
    const int32_t warp = threadIdx.x / kWarp;
    const int32_t set = blockIdx.x % blocks * sets + warp / groups;
    const int32_t channel = set * kWarpChannels + threadIdx.x % kWarp * 2;
    return {.chunk = static_cast<int32_t>(blockIdx.x) / blocks,
            .groups = groups,
            .group = warp % groups,
            .channel = channel,
            .read = min(channel, args.channels - 2),
            .tile_row = groups * kStates};
  }
  __device__ int32_t State(int j) const { return group * kStates + j; }
  // Of state j in an array of [chunks, N, D].
  __device__ int64_t StateAt(const SelectiveScanArgs& args, int j) const {
    return (int64_t{chunk} * args.state_size + State(j)) * args.channels + read;
  }
};

// Copies b or c of `count` tokens from `row` on into a tile; zeros for states that do not exist and
// for tokens up to a multiple of kTokens.
template <typename T>
__device__ void LoadTile(const void* from, int64_t stride, int64_t row, int32_t count,
                         int32_t state_size, int32_t tile_row, float* tile) {
  const T* const first = static_cast<const T*>(from) + row * stride;
  const int32_t quads = tile_row / 4;
  const int32_t tokens = (count + kTokens - 1) / kTokens * kTokens;
  for (int32_t i = threadIdx.x; i < tokens * quads; i += blockDim.x) {
    const int32_t token = i / quads;
    const int32_t state = i % quads * 4;
    float4 quad = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    if (token < count && state < state_size) quad = LoadQuad(first + token * stride + state);
    reinterpret_cast<float4*>(tile)[i] = quad;
  }
}

// A token's sixteen numbers of a tile, the same for all lanes.
__device__ inline void ReadTile(const float* tile, float (&to)[kStates]) {
#pragma unroll
  for (int j = 0; j < kStates; j += 4) {
    const float4 quad = LoadQuad(tile + j);
    to[j] = quad.x;
    to[j + 1] = quad.y;
    to[j + 2] = quad.z;
    to[j + 3] = quad.w;
  }
}

struct ScanShared {
  float b[kTileNumbers];
  float c[kTileNumbers];
  float2 parts[kMaxParts];  // [token][group][lane], of the sums over states
};

// Where a lane's numbers of the next tokens stand.
template <typename T>
struct Cursor {
  const T* x;
  const T* dt;

  // Loads kTokens tokens, of which `count` exist, and moves behind them.
  __device__ void Load(const SelectiveScanArgs& args, int32_t count, float2 (&to_x)[kTokens],
                       float2 (&to_dt)[kTokens]) {
#pragma unroll
    for (int k = 0; k < kTokens; ++k) {
      to_x[k] = make_float2(0.0F, 0.0F);
      to_dt[k] = make_float2(-INFINITY, -INFINITY);
      if (k < count) {
        to_x[k] = LoadPair(x);
        to_dt[k] = LoadPair(dt);
      }
      x += args.x_stride;
      dt += args.dt_stride;
    }
  }
};

// The states of a lane's channels on their way through a chunk.
template <bool kOutput, typename T>
struct ChunkWalk {
  const SelectiveScanArgs& args;
  ChunkThread thread;
  ChannelTerms terms[2];
  float a[2][kStates];
  float h[2][kStates];
  float2 steps;  // sum so far

  __device__ void Open(const ScanBuffers& buffers) {
#pragma unroll
    for (int j = 0; j < kStates; ++j) {
      const bool exists = thread.State(j) < args.state_size;
      const float* const a_log =
          args.a_log + int64_t{thread.read} * args.state_size + thread.State(j);
      a[0][j] = exists ? LogDecay(a_log[0]) : 0.0F;
      a[1][j] = exists ? LogDecay(a_log[args.state_size]) : 0.0F;
      const bool begins = kOutput && exists;
      const float2 state =
          begins ? LoadPair(buffers.state + thread.StateAt(args, j)) : make_float2(0.0F, 0.0F);
      h[0][j] = state.x;
      h[1][j] = state.y;
    }
    steps = make_float2(0.0F, 0.0F);
  }

  // A walk from zeros leaves its states and the sum of its steps.
  __device__ void Close(const ScanBuffers& buffers) const {
    if (thread.channel >= args.channels) return;
#pragma unroll
    for (int j = 0; j < kStates; ++j) {
      if (thread.State(j) >= args.state_size) continue;
      StorePair(buffers.state + thread.StateAt(args, j), make_float2(h[0][j], h[1][j]));
    }
    if (thread.group > 0) return;
    StorePair(buffers.steps + int64_t{thread.chunk} * args.channels + thread.channel,
              make_float2(fminf(steps.x, FLT_MAX), fminf(steps.y, FLT_MAX)));
  }

  // The lane's channels in row `row` of a matrix.
  __device__ const T* At(const void* matrix, int64_t stride, int64_t row) const {
    return static_cast<const T*>(matrix) + row * stride + thread.read;
  }

  // Takes the tile's first `count` tokens, rows from `row` on. Tokens behind the last one have a
  // step of nothing, which moves no state.
  __device__ void TakeTile(int64_t row, int32_t count, ScanShared& shared) {
    Cursor<T> next = {At(args.x, args.x_stride, row), At(args.dt, args.dt_stride, row)};
    const T* gate_at = At(args.gate, args.gate_stride, row);
    T* out_at = static_cast<T*>(args.out) + row * args.channels + thread.channel;
    const bool stores = thread.groups == 1 && thread.channel < args.channels;
    float2 x[kTokens];
    float2 dt[kTokens];
    next.Load(args, count, x, dt);
    for (int32_t first = 0; first < count; first += kTokens) {
      float2 own[kTokens];
      float2 low[kTokens];
      float2 high[kTokens];
      float2 gate[kTokens] = {};
#pragma unroll
      for (int k = 0; k < kTokens; ++k) {
        own[k] = x[k];
        low[k] = terms[0].Step(dt[k].x, x[k].x);
        high[k] = terms[1].Step(dt[k].y, x[k].y);
        steps = make_float2(steps.x + low[k].x, steps.y + high[k].x);
      }
      next.Load(args, count - first - kTokens, x, dt);
      if (kOutput && stores && terms[0].has_gate) {
#pragma unroll
        for (int k = 0; k < kTokens; ++k) {
          if (first + k < count) gate[k] = LoadPair(gate_at);
          gate_at += args.gate_stride;
        }
      }
#pragma unroll
      for (int k = 0; k < kTokens; ++k) {
        const float2 sum = TakeToken(low[k], high[k], first + k, shared);
        if (!kOutput) continue;
        if (thread.groups > 1) shared.parts[PartAt(first + k, thread.group)] = sum;
        if (stores && first + k < count) StorePair(out_at, Output(sum, own[k], gate[k]));
        out_at += args.channels;
      }
    }
  }

  // `low` and `high`: the channels' steps (ChannelTerms::Step).
  __device__ float2 TakeToken(float2 low, float2 high, int32_t token, const ScanShared& shared) {
    const int32_t at = token * thread.tile_row + thread.group * kStates;
    float b[kStates];
    float c[kStates] = {};
    ReadTile(shared.b + at, b);
    if (kOutput) ReadTile(shared.c + at, c);
    return make_float2(StepStates<kStates>(a[0], low, b, c, h[0]),
                       StepStates<kStates>(a[1], high, b, c, h[1]));
  }

  // Adds the groups' sums of the tile's tokens, each warp its share of the tokens.
  __device__ void AddGroups(int64_t row, int32_t count, const ScanShared& shared) const {
    if (thread.channel >= args.channels) return;
    for (int32_t t = thread.group; t < count; t += thread.groups) {
      float2 sum = make_float2(0.0F, 0.0F);
      for (int32_t g = 0; g < thread.groups; ++g) {
        const float2 part = shared.parts[PartAt(t, g)];
        sum = make_float2(sum.x + part.x, sum.y + part.y);
      }
      const float2 own = LoadPair(At(args.x, args.x_stride, row + t));
      float2 gate = make_float2(0.0F, 0.0F);
      if (terms[0].has_gate) gate = LoadPair(At(args.gate, args.gate_stride, row + t));
      StorePair(static_cast<T*>(args.out) + (row + t) * args.channels + thread.channel,
                Output(sum, own, gate));
    }
  }

  __device__ int32_t PartAt(int32_t token, int32_t group) const {
    return (token * thread.groups + group) * kWarp + static_cast<int32_t>(threadIdx.x) % kWarp;
  }

  __device__ float2 Output(float2 sum, float2 own, float2 gate) const {
    return make_float2(terms[0].Output(sum.x, own.x, gate.x),
                       terms[1].Output(sum.y, own.y, gate.y));
  }
};

// Grid: chunks x blocks of channels. A lane has two channels, a warp kStates states of them; b and
// c are read from shared memory, the same for all lanes. Channels behind the last are read as it is
// and not written.
template <bool kOutput, typename T>
__global__ __launch_bounds__(kMaxGroups* kWarp) void WalkChunksKernel(
    const __grid_constant__ SelectiveScanArgs args, const ScanBuffers buffers) {
  EnterStream();
  __shared__ __align__(16) ScanShared shared;
  const ChunkThread thread = ChunkThread::Open(args);
  const ChunkSpan chunk = args.chunks[thread.chunk];
  ChunkWalk<kOutput, T> walk{.args = args,
                             .thread = thread,
                             .terms = {TermsOf(args, thread.read), TermsOf(args, thread.read + 1)}};
  walk.Open(buffers);
  const int32_t tile_tokens = TileTokens(thread.groups);
  for (int32_t first = 0; first < chunk.length; first += tile_tokens) {
    const int64_t row = int64_t{chunk.row} + first;
    const int32_t count = min(tile_tokens, chunk.length - first);
    __syncthreads();  // All are done with the last tile and its sums.
    LoadTile<T>(args.b, args.b_stride, row, count, args.state_size, thread.tile_row, shared.b);
    if (kOutput) {
      LoadTile<T>(args.c, args.c_stride, row, count, args.state_size, thread.tile_row, shared.c);
    }
    __syncthreads();
    walk.TakeTile(row, count, shared);
    if (!kOutput || thread.groups == 1) continue;
    __syncthreads();
    walk.AddGroups(row, count, shared);
  }
  if constexpr (!kOutput) walk.Close(buffers);
}

// Grid: (states x channels / kCombineThreads, segments). A thread walks one number of a state over
// its segment's chunks, kCombineAhead of them in flight. Bound by the buffers' traffic.
__global__ __launch_bounds__(kCombineThreads) void CombineKernel(
    const __grid_constant__ SelectiveScanArgs args, const ScanBuffers buffers) {
  EnterStream();
  const int64_t size = int64_t{args.state_size} * args.channels;
  const int64_t number = int64_t{blockIdx.x} * kCombineThreads + threadIdx.x;
  if (number >= size) return;
  const Segment segment = args.segments[blockIdx.y];
  const int32_t chunks = ChunkCount(segment.position, segment.length);
  const int64_t channel = number % args.channels;
  const float a = LogDecay(args.a_log[channel * args.state_size + number / args.channels]);
  float* const state = buffers.state + segment.first_chunk * size + number;
  const float* const steps = buffers.steps + int64_t{segment.first_chunk} * args.channels + channel;
  float* const slot = args.states + segment.slot * args.slot_stride + number;
  float h = *slot;
  for (int32_t c = 0; c < chunks; c += kCombineAhead) {
    float local[kCombineAhead];
    float decay[kCombineAhead];
#pragma unroll
    for (int k = 0; k < kCombineAhead; ++k) {
      const int64_t chunk = min(c + k, chunks - 1);
      local[k] = state[chunk * size];
      decay[k] = steps[chunk * args.channels];
    }
#pragma unroll
    for (int k = 0; k < kCombineAhead; ++k) {
      if (c + k >= chunks) break;
      state[(c + k) * size] = h;
      h = fmaf(Exp2(decay[k] * a), h, local[k]);
    }
  }
  *slot = h;
}

template <bool kOutput>
void WalkChunks(const SelectiveScanArgs& args, const ScanBuffers& buffers, cudaStream_t stream) {
  const int32_t groups = ScanGroups(args.state_size);
  const int32_t sets = ChannelSets(groups);
  const int64_t blocks = int64_t{ChannelBlocks(args.channels, sets)} * args.chunk_count;
  SLUICE_CHECK(blocks <= INT32_MAX);
  DispatchDType(args.dtype, [&](auto zero) {
    LaunchKernel({static_cast<unsigned>(blocks), sets * groups * kWarp}, stream,
                 WalkChunksKernel<kOutput, decltype(zero)>, args, buffers);
  });
}

void Combine(const SelectiveScanArgs& args, const ScanBuffers& buffers, cudaStream_t stream) {
  const int64_t size = int64_t{args.state_size} * args.channels;
  const auto blocks = static_cast<uint32_t>((size + kCombineThreads - 1) / kCombineThreads);
  LaunchKernel({dim3(blocks, args.segment_count), kCombineThreads}, stream, CombineKernel, args,
               buffers);
}

}  // namespace

int64_t SelectiveScanCudaWorkspaceBytes(int32_t channels, int32_t state_size, int32_t chunks) {
  return int64_t{chunks} * channels * (state_size + 1) * static_cast<int64_t>(sizeof(float));
}

void SelectiveScanChunks(const SelectiveScanArgs& args, cudaStream_t stream) {
  const ScanBuffers buffers = BuffersOf(args);
  WalkChunks</*kOutput=*/false>(args, buffers, stream);
  Combine(args, buffers, stream);
  WalkChunks</*kOutput=*/true>(args, buffers, stream);
}

}  // namespace sluice
