#include <algorithm>

#include "kernels/check.h"
#include "kernels/launch.cuh"
#include "kernels/linear_cuda.h"
#include "kernels/mma.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kUnit = 8;               // outputs: those of one tensor core product
constexpr int kTile = 2 * kUnit;       // outputs that a team sums at once
constexpr int kSlab = 64;              // of K: one line of each weight of a tile
constexpr int kParts = kSlab / 4 / 8;  // packs of a weight's slab that a lane holds
constexpr int kStages = 5;             // slabs of a warp on their way: 80 KB a multiprocessor
constexpr int kAhead = 4;              // slabs of x that are loaded at once

struct Shared {
  // What a lane has asked for is read by that lane alone.
  uint4 weights[kStages][kWarps][2 * kParts][kWarp];
  // A team's sums, by its members; of even and of odd tiles.
  float sums[2][kWarps][kLinearFewRows][kTile];
};

// A block owns neighbouring units of one product. Its warps form teams that take tiles of them in
// turn; the members of a team share K by slabs, by their number and K alone.
struct Work {
  int32_t members;  // warps of a team: a power of two
  int32_t member;
  int32_t teams;  // of the block
  int32_t team;
  int32_t slabs;   // of this warp
  int32_t begin;   // outputs of the block
  int32_t end;     // behind the last
  int32_t rounds;  // tiles of a team

  __device__ Work(const LinearArgs& args, int32_t team_members) : members(team_members) {
    const int32_t warp = threadIdx.x / kWarp;
    member = warp % members;
    team = warp / members;
    teams = kWarps / members;
    const int32_t all_slabs = (args.in_dim + kSlab - 1) / kSlab;
    slabs = (all_slabs - member + members - 1) / members;
    const int32_t units = (args.out_dim + kUnit - 1) / kUnit;
    const auto block = static_cast<int32_t>(blockIdx.x);
    const auto blocks = static_cast<int32_t>(gridDim.x);
    const int32_t share = units / blocks;
    const int32_t larger = units % blocks;  // blocks that have one more
    begin = (block * share + min(block, larger)) * kUnit;
    end = begin + (share + (block < larger ? 1 : 0)) * kUnit;
    rounds = (end - begin + teams * kTile - 1) / (teams * kTile);
    end = min(end, args.out_dim);
  }
  __device__ int32_t FirstOutput(int32_t round, int32_t of_team) const {
    return begin + (round * teams + of_team) * kTile;
  }
  // Where the lane's first pack of a slab of the warp's lies in K.
  __device__ int32_t FirstInput(int32_t slab) const {
    return (member + slab * members) * kSlab + static_cast<int32_t>(threadIdx.x) % 4 * kPack;
  }
};

// Fetches the lane's weights in the order in which they are used, kStages slabs ahead. With
// g = lane / 4 and t = lane % 4 a lane holds, of weights g and g + 8 of a tile, packs t and t + 4:
// a product takes its operands' columns of K in the order in which the packs hold them.
struct Feed {
  const __nv_bfloat16* weight;
  int32_t round = 0;
  int32_t slab = 0;

  __device__ void Fetch(const LinearArgs& args, const Work& work, uint4 (&to)[2 * kParts][kWarp]) {
    if (round < work.rounds && work.slabs > 0) {
      const int32_t lane = threadIdx.x % kWarp;
      const int32_t n = work.FirstOutput(round, work.team) + lane / 4;
      const int32_t k = work.FirstInput(slab);
#pragma unroll
      for (int i = 0; i < 2 * kParts; ++i) {
        const int32_t output = n + i / kParts * kUnit;
        const int32_t input = k + i % kParts * 4 * kPack;
        CopyAsync(&to[i][lane], weight + int64_t{output} * args.in_dim + input,
                  output < work.end && input < args.in_dim);
      }
      if (++slab == work.slabs) {
        slab = 0;
        ++round;
      }
    }
    CopyAsyncCommit();  // Also of nothing, so that every slab is a group.
  }
};

// A lane's numbers of a slab of x: of row g and of row g + 8, zeros where there are none.
struct Inputs {
  uint4 low[kParts];
  uint4 high[kParts];

  __device__ void Load(const LinearArgs& args, const __nv_bfloat16* x, int32_t k) {
    const int32_t row = threadIdx.x % kWarp / 4;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int32_t at = k + part * 4 * kPack;
      low[part] = make_uint4(0, 0, 0, 0);
      high[part] = make_uint4(0, 0, 0, 0);
      if (at >= args.in_dim) continue;
      const __nv_bfloat16* const from = x + row * args.x_stride + at;
      if (row < args.rows) low[part] = *reinterpret_cast<const uint4*>(from);
      if (row + 8 < args.rows) {
        high[part] = *reinterpret_cast<const uint4*>(from + 8 * args.x_stride);
      }
    }
  }
};

// Adds a slab's products to the sums of a tile's two units.
__device__ void AddSlab(const Inputs& x, const uint4 (&weights)[2 * kParts][kWarp],
                        float (&sums)[2][4]) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    const uint4 low = x.low[part];
    const uint4 high = x.high[part];
    const uint4 left = weights[part][lane];
    const uint4 right = weights[kParts + part][lane];
    Mma(sums[0], make_uint4(low.x, high.x, low.y, high.y), left.x, left.y);
    Mma(sums[1], make_uint4(low.x, high.x, low.y, high.y), right.x, right.y);
    Mma(sums[0], make_uint4(low.z, high.z, low.w, high.w), left.z, left.w);
    Mma(sums[1], make_uint4(low.z, high.z, low.w, high.w), right.z, right.w);
  }
}

// Result `i` of a round: (team, row, output). Null if there is none.
template <typename Y>
__device__ Y* ResultAt(const LinearArgs& args, const Work& work, int32_t round, int32_t i) {
  const int32_t team = i / (args.rows * kTile);
  const int32_t output = work.FirstOutput(round, team) + i % kTile;
  if (team >= work.teams || output >= work.end) return nullptr;
  return static_cast<Y*>(args.y) + blockIdx.y * args.y_step +
         i / kTile % args.rows * args.y_stride + output;
}

// Adds up what the members of the teams have, in their order. `before` is what the thread's first
// result is added to.
template <typename Y>
__device__ void StoreRound(const LinearArgs& args, const Work& work, int32_t round, float before,
                           const float (&sums)[kWarps][kLinearFewRows][kTile]) {
  for (int32_t i = threadIdx.x; i < work.teams * args.rows * kTile; i += kThreads) {
    Y* const at = ResultAt<Y>(args, work, round, i);
    if (at == nullptr) continue;
    const int32_t first = i / (args.rows * kTile) * work.members;
    float sum = 0.0F;
    for (int32_t m = 0; m < work.members; ++m) {
      sum += sums[first + m][i / kTile % args.rows][i % kTile];
    }
    if (args.accumulate) sum += i < kThreads ? before : ToFloat(*at);
    *at = FromFloat<Y>(sum);
  }
}

// Grid: (parts of the outputs, products of the batch), one block a multiprocessor. Rows of x, up to
// 16, are the tensor cores' first operand: rows that are not there are zeros, so that a row's bits
// do not depend on their number. Bound by memory: weights are read once, and asked for before what
// came before has ended.
template <typename Y>
__global__ __launch_bounds__(kThreads,
                             2) void LinearFewRowsKernel(const __grid_constant__ LinearArgs args,
                                                         int32_t members) {
  extern __shared__ __align__(16) unsigned char raw[];
  Shared& shared = *reinterpret_cast<Shared*>(raw);
  AllowNextKernel();
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const Work work(args, members);
  Feed feed{static_cast<const __nv_bfloat16*>(args.weight) + blockIdx.y * args.weight_step};
#pragma unroll
  for (int stage = 0; stage < kStages; ++stage) {
    feed.Fetch(args, work, shared.weights[stage][warp]);
  }
  AwaitEarlierKernels();

  const auto* const x = static_cast<const __nv_bfloat16*>(args.x) + blockIdx.y * args.x_step;
  int stage = 0;
  for (int32_t round = 0; round < work.rounds; ++round) {
    const Y* const own = ResultAt<Y>(args, work, round, threadIdx.x);
    const float before = args.accumulate && own != nullptr ? ToFloat(*own) : 0.0F;
    float sums[2][4] = {};
    for (int32_t first = 0; first < work.slabs; first += kAhead) {
      Inputs inputs[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (first + i < work.slabs) inputs[i].Load(args, x, work.FirstInput(first + i));
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (first + i >= work.slabs) break;
        CopyAsyncWait<kStages - 1>();
        AddSlab(inputs[i], shared.weights[stage][warp], sums);
        feed.Fetch(args, work, shared.weights[stage][warp]);
        stage = stage + 1 == kStages ? 0 : stage + 1;
      }
    }
    auto& totals = shared.sums[round % 2];
#pragma unroll
    for (int unit = 0; unit < 2; ++unit) {
      float* const to = &totals[warp][lane / 4][unit * kUnit + lane % 4 * 2];
      StorePair(to, make_float2(sums[unit][0], sums[unit][1]));
      StorePair(to + 8 * kTile, make_float2(sums[unit][2], sums[unit][3]));
    }
    __syncthreads();
    StoreRound<Y>(args, work, round, before, totals);
  }
}

// Float32, without tensor cores. Grid: (outputs, `kThreads` / `team` a block; products of the
// batch). A team of threads, part of a warp, owns one output of all rows; what it adds up in which
// order is a matter of in_dim alone.
__global__ __launch_bounds__(kThreads) void LinearFewFloatRowsKernel(
    const __grid_constant__ LinearArgs args, int32_t team) {
  EnterStream();
  const auto output = static_cast<int32_t>((blockIdx.x * kThreads + threadIdx.x) / team);
  const int32_t member = static_cast<int32_t>(threadIdx.x) % team;
  const float* const x = static_cast<const float*>(args.x) + blockIdx.y * args.x_step;
  const float* const weight = static_cast<const float*>(args.weight) +
                              blockIdx.y * args.weight_step + int64_t{output} * args.in_dim;
  float sums[kLinearFewRows] = {};
#pragma unroll 4
  for (int32_t k = member * kPack; output < args.out_dim && k < args.in_dim; k += team * kPack) {
    const Pack w = LoadPack(weight + k);
#pragma unroll
    for (int r = 0; r < kLinearFewRows; ++r) {
      if (r >= args.rows) break;
      const Pack xr = LoadPack(x + r * args.x_stride + k);
#pragma unroll
      for (int c = 0; c < kPack; ++c) sums[r] = fmaf(xr.v[c], w.v[c], sums[r]);
    }
  }
  float* const y = static_cast<float*>(args.y) + blockIdx.y * args.y_step + output;
#pragma unroll
  for (int r = 0; r < kLinearFewRows; ++r) {
    if (r >= args.rows) return;
    for (int32_t offset = team / 2; offset > 0; offset /= 2) {
      sums[r] += __shfl_xor_sync(kAllLanes, sums[r], offset);
    }
    if (member != 0 || output >= args.out_dim) continue;
    float* const at = y + r * args.y_stride;
    *at = args.accumulate ? *at + sums[r] : sums[r];
  }
}

// The smallest power of two, at most `most`, of which each has one of `parts` parts or more do.
int32_t TeamOf(int32_t parts, int32_t most) {
  int32_t team = 1;
  while (team < most && team < parts) team *= 2;
  return team;
}

void LaunchFloat(const LinearArgs& args, cudaStream_t stream) {
  const int32_t team = TeamOf(args.in_dim / kPack, kWarp);
  const int64_t threads = int64_t{args.out_dim} * team;
  const dim3 grid(static_cast<unsigned>((threads + kThreads - 1) / kThreads), args.batch);
  LaunchKernel({grid, kThreads}, stream, LinearFewFloatRowsKernel, args, team);
}

}  // namespace

void LinearFewRowsCuda(const LinearArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 1 && args.rows <= kLinearFewRows && args.batch <= 65535);
  if (args.x_dtype == DType::kFloat32) {
    LaunchFloat(args, stream);
    return;
  }
  const int32_t units = (args.out_dim + kUnit - 1) / kUnit;
  const int32_t parts = std::clamp(MultiprocessorCount() / args.batch, 1, units);
  const int32_t members = TeamOf((args.in_dim + kSlab - 1) / kSlab, kWarps);
  const LaunchShape shape = {dim3(parts, args.batch), kThreads, sizeof(Shared)};
  if (args.y_dtype == DType::kFloat32) {
    LaunchKernel(shape, stream, LinearFewRowsKernel<float>, args, members);
  } else {
    LaunchKernel(shape, stream, LinearFewRowsKernel<__nv_bfloat16>, args, members);
  }
}

}  // namespace sluice
