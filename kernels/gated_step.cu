#include "kernels/gated_step.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/mma.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kColumns = 4;                     // of a thread: 16 bytes of a row of the state
constexpr int kLanesV = 8;                      // threads side by side: one 128-byte line a row
constexpr int kTileV = kLanesV * kColumns;      // columns of a block
constexpr int kRowGroups = 16;                  // rows of the state that a block walks at once
constexpr int kThreads = kLanesV * kRowGroups;  // 128
constexpr int kWarps = kThreads / kWarp;
constexpr int kStages = 16;                         // steps on their way: 32 KB of a block
constexpr int kChannels = kMaxGatedDim / kThreads;  // whose factors a thread makes

// A thread's numbers of one row of the state, or of values: neighbouring columns.
struct Columns {
  float x[kColumns];
};

__device__ Columns UnpackState(uint4 raw) {
  return {{__uint_as_float(raw.x), __uint_as_float(raw.y), __uint_as_float(raw.z),
           __uint_as_float(raw.w)}};
}

// Written once and not read before much else has been: the first to leave the cache.
__device__ void StoreState(float* state, const Columns& row) {
  __stcs(reinterpret_cast<float4*>(state), make_float4(row.x[0], row.x[1], row.x[2], row.x[3]));
}

template <typename T>
__device__ Columns LoadColumns(const T* from) {
  const float4 x = LoadQuad(from);
  return {{x.x, x.y, x.z, x.w}};
}

// What the channels of a state head are multiplied by.
template <int kHeads>
struct Factors {
  float decay[kMaxGatedDim];
  float key[kMaxGatedDim];
  float own[kMaxGatedDim];  // the key times the bonus, if read exclusively
  float query[kHeads][kMaxGatedDim];
};

// Of a block. Of what there are two, one is made while the other is in use.
template <int kHeads>
struct Shared {
  // What a thread has asked for is read by that thread alone.
  uint4 steps[kStages][kThreads];
  Factors<kHeads> factors[2];
  float partial[2][kWarps][kHeads][kTileV];
};

// A visit is one pass over 32 columns of one state, for up to kHeads query heads. A block's visits
// are neighbours of those that other blocks make at the same time. All passes over a state read
// what was before, and the last one updates it.
template <int kHeads>
struct Visits {
  int32_t passes;  // over a state
  int32_t tiles;   // of a state
  int32_t count;   // of this block

  __device__ explicit Visits(const GatedStepArgs& args) {
    const GatedShape& s = args.shape;
    passes = kHeads == 1 ? 1 : (s.heads / s.kv_heads + kHeads - 1) / kHeads;
    tiles = (s.value_dim + kTileV - 1) / kTileV;
    const int32_t all = args.rows * s.kv_heads * tiles;
    const auto blocks = static_cast<int32_t>(gridDim.x);
    count = (all - static_cast<int32_t>(blockIdx.x) + blocks - 1) / blocks * passes;
  }
};

// Where a visit is, as one thread sees it.
template <int kHeads>
struct Place {
  int32_t row;  // of the batch
  int32_t kv_head;
  int32_t tile;
  int32_t pass;
  int32_t head;    // the first query head
  int32_t heads;   // at most kHeads
  int32_t value;   // this thread's first column of V
  bool active;     // whether it lies inside V
  int64_t offset;  // of its first number in its state

  __device__ Place(const GatedStepArgs& args, const Visits<kHeads>& visits, int32_t visit) {
    const GatedShape& s = args.shape;
    const int32_t group = s.heads / s.kv_heads;
    const auto at = static_cast<int32_t>(blockIdx.x + visit / visits.passes * gridDim.x);
    tile = at % visits.tiles;
    kv_head = at / visits.tiles % s.kv_heads;
    row = at / visits.tiles / s.kv_heads;
    pass = visit % visits.passes;
    head = kv_head * group + pass * kHeads;
    heads = min(kHeads, group - pass * kHeads);
    value = tile * kTileV + static_cast<int32_t>(threadIdx.x) % kLanesV * kColumns;
    active = value < s.value_dim;
    const int32_t key = static_cast<int32_t>(threadIdx.x) / kLanesV;
    offset = (int64_t{kv_head} * s.key_dim + key) * s.value_dim + value;
  }
};

// Asks for a thread's steps of all visits, kStages ahead of their use. A slot is looked up a visit
// before it is needed.
template <int kHeads>
struct Feed {
  const float* state;
  const float* next_state;
  bool active;
  bool next_active;
  int32_t visit = 0;
  int32_t step = 0;

  __device__ Feed(const GatedStepArgs& args, const Visits<kHeads>& visits) {
    Look(args, visits, 0);
    Advance(args, visits);
  }
  __device__ void Look(const GatedStepArgs& args, const Visits<kHeads>& visits, int32_t ahead) {
    if (ahead >= visits.count) return;
    const Place<kHeads> place(args, visits, ahead);
    const GatedOperands& op = args.operands;
    next_state = op.states + args.slots[place.row] * op.slot_stride + place.offset;
    next_active = place.active;
  }
  __device__ void Advance(const GatedStepArgs& args, const Visits<kHeads>& visits) {
    state = next_state;
    active = next_active;
    Look(args, visits, visit + 1);
  }
  __device__ void Fetch(const GatedStepArgs& args, const Visits<kHeads>& visits, int32_t steps,
                        uint4* to) {
    if (visit < visits.count) {
      CopyAsync(to, state + int64_t{step} * kRowGroups * args.shape.value_dim, active);
      if (++step == steps) {
        step = 0;
        ++visit;
        Advance(args, visits);
      }
    }
    CopyAsyncCommit();  // Also of nothing, so that every step is a group.
  }
};

// What a thread needs of a visit beside the state, loaded a visit ahead: its columns' values, its
// state, and of the channels whose factors it makes what they are made of.
template <typename T, int kHeads, ReadKind kRead>
struct Inputs {
  Columns value;
  Columns value_decay;  // natural log
  float* state;
  float scale;
  float log_decay[kChannels];
  float key[kChannels];
  float bonus[kChannels];
  float query[kHeads][kChannels];

  __device__ void Load(const GatedStepArgs& args, const Place<kHeads>& place) {
    const GatedShape& s = args.shape;
    const GatedOperands& op = args.operands;
    const int64_t row = place.row;
    state = op.states + args.slots[row] * op.slot_stride + place.offset;
    value = {};
    value_decay = {};
    if (place.active) {
      const int64_t column = int64_t{place.kv_head} * s.value_dim + place.value;
      value = LoadColumns(static_cast<const T*>(op.v) + row * op.v_stride + column);
      if (s.value_gate) {
        value_decay = LoadColumns(op.value_log_decay + row * s.kv_heads * s.value_dim + column);
      }
    }
    // Heads that share keys come one at a time.
    const T* const q = static_cast<const T*>(op.q) + row * op.q_stride +
                       int64_t{place.head / s.shared_keys} * s.key_dim;
    const T* const k = static_cast<const T*>(op.k) + row * op.k_stride +
                       int64_t{place.kv_head / s.shared_keys} * s.key_dim;
    const GateView gate = ViewGate(s, op, row, place.kv_head);
    scale = op.input_scale == nullptr ? 1.0F : op.input_scale[row * s.kv_heads + place.kv_head];
#pragma unroll
    for (int i = 0; i < kChannels; ++i) {
      const int32_t c = static_cast<int32_t>(threadIdx.x) + i * kThreads;
      if (c >= s.key_dim) break;
      log_decay[i] = gate.first == nullptr ? 0.0F : gate.first[c * gate.channel_stride];
      key[i] = ToFloat(k[c]);
      bonus[i] = 0.0F;
      if (kRead == ReadKind::kExclusive && op.bonus != nullptr) {
        bonus[i] = op.bonus[int64_t{place.kv_head} * s.key_dim + c];
      }
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        query[h][i] =
            kHeads == 1 || h < place.heads ? ToFloat(q[int64_t{h} * s.key_dim + c]) : 0.0F;
      }
    }
  }

  __device__ void MakeFactors(const GatedShape& s, Factors<kHeads>& factors) const {
#pragma unroll
    for (int i = 0; i < kChannels; ++i) {
      const int32_t c = static_cast<int32_t>(threadIdx.x) + i * kThreads;
      if (c >= s.key_dim) break;
      factors.decay[c] = expf(log_decay[i]);
      factors.key[c] = key[i] * scale;
      if (kRead == ReadKind::kExclusive) factors.own[c] = key[i] * scale * bonus[i];
#pragma unroll
      for (int h = 0; h < kHeads; ++h) factors.query[h][c] = query[h][i] * s.scale;
    }
  }
};

// Multiplies a step's rows by the key channel's factors and adds up what the query heads read. The
// row as it is after the token.
template <int kHeads, ReadKind kRead>
__device__ Columns Update(const Columns& before, const Columns& value, const Columns& value_decay,
                          const Factors<kHeads>& factors, int32_t c, Columns (&sums)[kHeads]) {
  Columns now;
  Columns read;
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    const float decayed = before.x[i] * value_decay.x[i];
    now.x[i] = fmaf(factors.decay[c], decayed, factors.key[c] * value.x[i]);
    read.x[i] =
        kRead == ReadKind::kExclusive ? fmaf(factors.own[c], value.x[i], before.x[i]) : now.x[i];
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      sums[h].x[i] = fmaf(factors.query[h][c], read.x[i], sums[h].x[i]);
    }
  }
  return now;
}

// Adds up the thread's sums and those of the others of its warp, in a fixed order.
template <int kHeads>
__device__ void StorePartial(Columns (&sums)[kHeads], float (&partial)[kWarps][kHeads][kTileV]) {
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      float& sum = sums[h].x[i];
#pragma unroll
      for (int offset = kLanesV; offset < kWarp; offset *= 2) {
        sum += __shfl_xor_sync(kAllLanes, sum, offset);
      }
      if (lane < kLanesV) partial[warp][h][lane * kColumns + i] = sum;
    }
  }
}

// The same with the warps' sums; writes the visit's columns of its heads.
template <typename T, int kHeads>
__device__ void StoreOutput(const GatedStepArgs& args, const Place<kHeads>& place,
                            const float (&partial)[kWarps][kHeads][kTileV]) {
  const GatedShape& s = args.shape;
  for (int32_t i = threadIdx.x; i < place.heads * kTileV; i += kThreads) {
    const int32_t h = i / kTileV;
    const int32_t v = place.tile * kTileV + i % kTileV;
    if (v >= s.value_dim) continue;
    float total = partial[0][h][i % kTileV];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) total += partial[w][h][i % kTileV];
    const int64_t at = (int64_t{place.row} * s.heads + place.head + h) * s.value_dim + v;
    static_cast<T*>(args.operands.out)[at] = FromFloat<T>(total);
  }
}

// Blocks of a multiprocessor at once: with 32 KB each on their way, and what they keep beside it.
template <int kHeads>
constexpr int kBlocks = kHeads == 1 ? 4 : 2;

// Grid: as many blocks as fit, each with every so many tiles of 32 columns of a state. A thread has
// 4 neighbouring columns of every 16th row, so that 8 threads read a 128-byte line. Bound by
// memory: the state read once and written once, and the reads never stop between one tile and the
// next.
template <typename T, int kHeads, ReadKind kRead>
__global__ __launch_bounds__(kThreads, kBlocks<kHeads>) void GatedStepKernel(
    const __grid_constant__ GatedStepArgs args) {
  EnterStream();
  extern __shared__ __align__(16) unsigned char raw[];
  auto& shared = *reinterpret_cast<Shared<kHeads>*>(raw);
  const GatedShape& s = args.shape;
  const Visits<kHeads> visits(args);
  const int32_t steps = s.key_dim / kRowGroups;
  const int64_t row_step = int64_t{kRowGroups} * s.value_dim;

  Feed<kHeads> feed(args, visits);
#pragma unroll 1
  for (int stage = 0; stage < kStages; ++stage) {
    feed.Fetch(args, visits, steps, &shared.steps[stage][threadIdx.x]);
  }
  Inputs<T, kHeads, kRead> inputs;
  inputs.Load(args, Place<kHeads>(args, visits, 0));
  inputs.MakeFactors(s, shared.factors[0]);
  __syncthreads();

  int stage = 0;
  for (int32_t visit = 0; visit < visits.count; ++visit) {
    const Place<kHeads> place(args, visits, visit);
    const bool stores = place.active && place.pass + 1 == visits.passes;
    const Columns value = inputs.value;
    Columns value_decay;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) value_decay.x[i] = expf(inputs.value_decay.x[i]);
    float* const state = inputs.state;
    const bool has_next = visit + 1 < visits.count;
    if (has_next) inputs.Load(args, Place<kHeads>(args, visits, visit + 1));

    Columns sums[kHeads] = {};
    for (int32_t step = 0; step < steps; ++step) {
      CopyAsyncWait<kStages - 1>();
      uint4& asked = shared.steps[stage][threadIdx.x];
      const int32_t c = static_cast<int32_t>(threadIdx.x) / kLanesV + step * kRowGroups;
      const Columns now = Update<kHeads, kRead>(UnpackState(asked), value, value_decay,
                                                shared.factors[visit % 2], c, sums);
      if (stores) StoreState(state + step * row_step, now);
      feed.Fetch(args, visits, steps, &asked);
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }

    // The other factors and partial sums were last read before the __syncthreads of the last visit.
    if (has_next) inputs.MakeFactors(s, shared.factors[(visit + 1) % 2]);
    StorePartial(sums, shared.partial[visit % 2]);
    __syncthreads();
    StoreOutput<T>(args, place, shared.partial[visit % 2]);
  }
}

template <typename T, int kHeads, ReadKind kRead>
void LaunchHeads(const GatedStepArgs& args, cudaStream_t stream) {
  const GatedShape& s = args.shape;
  const int32_t tiles = args.rows * s.kv_heads * ((s.value_dim + kTileV - 1) / kTileV);
  const int32_t blocks = std::min(tiles, kBlocks<kHeads> * MultiprocessorCount());
  LaunchKernel({blocks, kThreads, sizeof(Shared<kHeads>)}, stream,
               GatedStepKernel<T, kHeads, kRead>, args);
}

// One query head a state head is what models have; groups share passes of eight.
template <typename T, ReadKind kRead>
void LaunchStep(const GatedStepArgs& args, cudaStream_t stream) {
  if (args.shape.heads == args.shape.kv_heads) {
    LaunchHeads<T, 1, kRead>(args, stream);
  } else {
    LaunchHeads<T, 8, kRead>(args, stream);
  }
}

}  // namespace

void GatedStepCuda(const GatedStepArgs& args, cudaStream_t stream) {
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  CheckGatedOperands(s, op);
  SLUICE_CHECK(args.rows >= 0 && args.rows <= 65535);
  SLUICE_CHECK(op.slot_stride % 4 == 0 && IsAligned16(op.states) && IsAligned16(op.v));
  SLUICE_CHECK(IsAligned16(op.value_log_decay));
  if (args.rows == 0) return;
  DispatchDType(s.dtype, [&](auto zero) {
    if (s.read == ReadKind::kExclusive) {
      LaunchStep<decltype(zero), ReadKind::kExclusive>(args, stream);
    } else {
      LaunchStep<decltype(zero), ReadKind::kInclusive>(args, stream);
    }
  });
}

}  // namespace sluice
