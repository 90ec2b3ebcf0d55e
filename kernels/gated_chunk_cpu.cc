// Blocks of 16 rows, of the same grid as chunks: on a CPU the state is as near as the scores are,
// and shorter blocks mean fewer operations. Inside a block, decays between two rows are products of
// single decays, each at most 1: nothing can overflow, and nothing is lost by subtracting sums.
// Gated values are walked token by token, by the recurrent form.
#include "kernels/gated_chunk.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/gated_chunk_cpu.h"
#include "kernels/gated_step_cpu.h"
#include "kernels/thread_pool.h"
#include "kernels/unpacked_states_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gated_chunk_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/gated_gate-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// A tile of sums fills about half of the registers.
constexpr int64_t kTileRows = HWY_MAX_BYTES >= 64 ? 8 : 4;

// `rows` rows of the task from `row` on.
struct ChunkBlock {
  const ChunkTask& task;
  const ChunkScratch& scratch;
  int64_t row;
  int64_t rows;    // 1..16
  const float* k;  // [rows, K], rows k_stride apart, scaled
  int64_t k_stride;
};

// The keys as they are if nothing scales them, else in the scratch.
HWY_INLINE void ScaleKeys(ChunkBlock& block) {
  const Floats d;
  const ChunkTask& task = block.task;
  block.k = task.k + block.row * task.k_stride;
  block.k_stride = task.k_stride;
  if (task.input_scale == nullptr) return;
  for (int64_t i = 0; i < block.rows; ++i) {
    const auto scale = hn::Set(d, task.input_scale[(block.row + i) * task.scale_stride]);
    const float* k = block.k + i * block.k_stride;
    float* scaled = block.scratch.scaled + i * task.key_dim;
    for (int64_t c = 0; c < task.key_dim; c += FloatLanes()) {
      hn::StoreU(hn::Mul(hn::LoadU(d, k + c), scale), d, scaled + c);
    }
  }
  block.k = block.scratch.scaled;
  block.k_stride = task.key_dim;
}

HWY_INLINE void DecayKeys(const ChunkBlock& block) {
  const Floats d;
  const ChunkTask& task = block.task;
  const int64_t key_dim = task.key_dim;
  for (int64_t c = 0; c < key_dim; c += FloatLanes()) {
    auto sum = hn::Zero(d);
    for (int64_t i = 0; i < block.rows; ++i) {
      const auto g = LogDecays(task.gate, block.row + i, c);
      sum = hn::Add(sum, g);
      hn::StoreU(Decays(g), d, block.scratch.decay + i * key_dim + c);
    }
    hn::StoreU(Decays(sum), d, block.scratch.total + c);
    auto to_end = hn::Set(d, 1.0F);
    for (int64_t i = block.rows - 1; i >= 0; --i) {
      const auto decayed = hn::Mul(hn::LoadU(d, block.k + i * block.k_stride + c), to_end);
      hn::StoreU(decayed, d, block.scratch.k + i * key_dim + c);
      to_end = hn::Mul(to_end, hn::LoadU(d, block.scratch.decay + i * key_dim + c));
    }
  }
}

// Read exclusively, a query is decayed by the rows before it alone.
HWY_INLINE void DecayQueries(const ChunkBlock& block, const float* q) {
  const Floats d;
  const int64_t key_dim = block.task.key_dim;
  const bool exclusive = block.task.read == ReadKind::kExclusive;
  for (int64_t c = 0; c < key_dim; c += FloatLanes()) {
    auto before = hn::Set(d, 1.0F);
    for (int64_t i = 0; i < block.rows; ++i) {
      const auto after = hn::Mul(before, hn::LoadU(d, block.scratch.decay + i * key_dim + c));
      const auto decay = exclusive ? before : after;
      const auto decayed = hn::Mul(hn::LoadU(d, q + i * block.task.q_stride + c), decay);
      hn::StoreU(decayed, d, block.scratch.q + i * key_dim + c);
      before = after;
    }
  }
}

// Some channels of the key of row `row` of the block, decayed from row to row on the way to the
// queries. Its own query takes it as it is or, read exclusively, times the bonus.
template <int kVectors>
struct TravellingKey {
  int64_t row;
  FloatVec channels[kVectors];
  FloatVec own[kVectors];  // if read exclusively
};

// Adds to the scores of a key with the four query rows from `first` on. `q` and `decay` stand at
// the key's channels.
template <int kVectors, ReadKind kRead>
HWY_INLINE void ScoreFour(const ChunkBlock& block, int64_t first, const float* q,
                          const float* decay, TravellingKey<kVectors>& key) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  constexpr int64_t kLag = kRead == ReadKind::kExclusive ? 1 : 0;
  FloatVec sum[4];
#pragma GCC unroll 4
  for (int u = 0; u < 4; ++u) {
    const int64_t i = first + u;
    sum[u] = hn::Zero(d);
    if (i < key.row || i >= block.rows) continue;
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) {
      FloatVec& channels = key.channels[n];
      const float* decay_n = decay + (i - kLag) * block.task.key_dim + n * lanes;
      if (i - kLag > key.row) channels = hn::Mul(channels, hn::LoadU(d, decay_n));
      const auto query = hn::LoadU(d, q + i * block.task.q_stride + n * lanes);
      const bool is_own = kRead == ReadKind::kExclusive && i == key.row;
      sum[u] = hn::MulAdd(query, is_own ? key.own[n] : channels, sum[u]);
    }
  }
  float part[4];
  SumFour(sum, part);
  float* score = block.scratch.scores + key.row * kBlockRows + first;
  for (int u = 0; u < 4; ++u) score[u] += part[u];
}

// Adds what kVectors vectors of channels from `c` on give to the scores.
template <int kVectors, ReadKind kRead>
HWY_INLINE void AddScores(const ChunkBlock& block, const float* q, int64_t c) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  FloatVec bonus[kVectors];
#pragma GCC unroll 4
  for (int n = 0; n < kVectors; ++n) {
    const float* from = block.task.bonus;
    bonus[n] = from == nullptr ? hn::Zero(d) : hn::LoadU(d, from + c + n * lanes);
  }
  for (int64_t j = 0; j < block.rows; ++j) {
    const float* k = block.k + j * block.k_stride + c;
    TravellingKey<kVectors> key;
    key.row = j;
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) {
      key.channels[n] = hn::LoadU(d, k + n * lanes);
      if constexpr (kRead == ReadKind::kExclusive) {
        key.own[n] = hn::Mul(key.channels[n], bonus[n]);
      }
    }
    for (int64_t first = j / 4 * 4; first < block.rows; first += 4) {
      ScoreFour<kVectors, kRead>(block, first, q + c, block.scratch.decay + c, key);
    }
  }
}

template <ReadKind kRead>
HWY_INLINE void ScoresOf(const ChunkBlock& block, const float* q) {
  const int64_t lanes = FloatLanes();
  const int64_t key_dim = block.task.key_dim;
  std::fill_n(block.scratch.scores, kBlockRows * kBlockRows, 0.0F);
  int64_t c = 0;
  for (; c + 4 * lanes <= key_dim; c += 4 * lanes) AddScores<4, kRead>(block, q, c);
  for (; c < key_dim; c += lanes) AddScores<1, kRead>(block, q, c);
}

HWY_INLINE void Scores(const ChunkBlock& block, const float* q) {
  if (block.task.read == ReadKind::kExclusive) {
    ScoresOf<ReadKind::kExclusive>(block, q);
  } else {
    ScoresOf<ReadKind::kInclusive>(block, q);
  }
}

// kTileRows rows of the output by kVectors vectors of columns: queries times the state before the
// block, and scores times the block's values.
template <int kVectors>
HWY_INLINE void OutputTile(const ChunkBlock& block, int64_t first, int64_t column, float* out) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  const ChunkTask& task = block.task;
  FloatVec sum[kTileRows][kVectors];
#pragma GCC unroll 8
  for (int64_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 2
    for (int n = 0; n < kVectors; ++n) sum[r][n] = hn::Zero(d);
  }
  const float* from = block.scratch.state + column;
  const float* q = block.scratch.q + first * task.key_dim;
  for (int64_t c = 0; c < task.key_dim; ++c, from += task.columns) {
    FloatVec state[kVectors];
#pragma GCC unroll 2
    for (int n = 0; n < kVectors; ++n) state[n] = hn::LoadU(d, from + n * lanes);
#pragma GCC unroll 8
    for (int64_t r = 0; r < kTileRows; ++r) {
      const auto factor = hn::Set(d, q[r * task.key_dim + c]);
#pragma GCC unroll 2
      for (int n = 0; n < kVectors; ++n) sum[r][n] = hn::MulAdd(factor, state[n], sum[r][n]);
    }
  }
  from = task.v + block.row * task.v_stride + column;
  const float* score = block.scratch.scores + first;
  const int64_t keys = std::min(block.rows, first + kTileRows);
  for (int64_t j = 0; j < keys; ++j, from += task.v_stride, score += kBlockRows) {
    FloatVec v[kVectors];
#pragma GCC unroll 2
    for (int n = 0; n < kVectors; ++n) v[n] = hn::LoadU(d, from + n * lanes);
#pragma GCC unroll 8
    for (int64_t r = 0; r < kTileRows; ++r) {
      const auto factor = hn::Set(d, score[r]);
#pragma GCC unroll 2
      for (int n = 0; n < kVectors; ++n) sum[r][n] = hn::MulAdd(factor, v[n], sum[r][n]);
    }
  }
  const auto scale = hn::Set(d, task.scale);
#pragma GCC unroll 8
  for (int64_t r = 0; r < kTileRows; ++r) {
    if (first + r >= block.rows) break;
    float* to = out + (block.row + first + r) * task.out_stride + column;
    for (int n = 0; n < kVectors; ++n) hn::StoreU(hn::Mul(sum[r][n], scale), d, to + n * lanes);
  }
}

// kTileRows channels of the state by kVectors vectors of columns, taken over the block.
template <int kVectors>
HWY_INLINE void StateTile(const ChunkBlock& block, int64_t channel, int64_t column) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  const ChunkTask& task = block.task;
  float* state = block.scratch.state + channel * task.columns + column;
  FloatVec sum[kTileRows][kVectors];
#pragma GCC unroll 8
  for (int64_t r = 0; r < kTileRows; ++r) {
    const auto decay = hn::Set(d, block.scratch.total[channel + r]);
#pragma GCC unroll 2
    for (int n = 0; n < kVectors; ++n) {
      sum[r][n] = hn::Mul(hn::LoadU(d, state + r * task.columns + n * lanes), decay);
    }
  }
  const float* from = task.v + block.row * task.v_stride + column;
  const float* k = block.scratch.k + channel;
  for (int64_t j = 0; j < block.rows; ++j, from += task.v_stride, k += task.key_dim) {
    FloatVec v[kVectors];
#pragma GCC unroll 2
    for (int n = 0; n < kVectors; ++n) v[n] = hn::LoadU(d, from + n * lanes);
#pragma GCC unroll 8
    for (int64_t r = 0; r < kTileRows; ++r) {
      const auto factor = hn::Set(d, k[r]);
#pragma GCC unroll 2
      for (int n = 0; n < kVectors; ++n) sum[r][n] = hn::MulAdd(factor, v[n], sum[r][n]);
    }
  }
#pragma GCC unroll 8
  for (int64_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 2
    for (int n = 0; n < kVectors; ++n) {
      hn::StoreU(sum[r][n], d, state + r * task.columns + n * lanes);
    }
  }
}

HWY_INLINE void OutputBlock(const ChunkBlock& block, float* out) {
  const int64_t lanes = FloatLanes();
  for (int64_t first = 0; first < block.rows; first += kTileRows) {
    int64_t column = 0;
    for (; column + 2 * lanes <= block.task.columns; column += 2 * lanes) {
      OutputTile<2>(block, first, column, out);
    }
    for (; column < block.task.columns; column += lanes) OutputTile<1>(block, first, column, out);
  }
}

HWY_INLINE void StateBlock(const ChunkBlock& block) {
  const int64_t lanes = FloatLanes();
  for (int64_t channel = 0; channel < block.task.key_dim; channel += kTileRows) {
    int64_t column = 0;
    for (; column + 2 * lanes <= block.task.columns; column += 2 * lanes) {
      StateTile<2>(block, channel, column);
    }
    for (; column < block.task.columns; column += lanes) StateTile<1>(block, channel, column);
  }
}

void RunChunkTask(const ChunkTask& task, const ChunkScratch& scratch) {
  for (int64_t c = 0; c < task.key_dim; ++c) {
    std::copy_n(task.slot_state + c * task.value_dim, task.columns,
                scratch.state + c * task.columns);
  }
  int64_t row = 0;
  while (row < task.length) {
    const int64_t to_grid = kBlockRows - (task.position + row) % kBlockRows;
    ChunkBlock block = {task, scratch, row, std::min(to_grid, task.length - row), nullptr, 0};
    ScaleKeys(block);
    DecayKeys(block);
    for (int64_t h = 0; h < task.group; ++h) {
      const float* q = task.q + row * task.q_stride + h * task.key_dim;
      DecayQueries(block, q);
      Scores(block, q);
      OutputBlock(block, task.out + h * task.value_dim);
    }
    StateBlock(block);
    row += block.rows;
  }
  for (int64_t c = 0; c < task.key_dim; ++c) {
    std::copy_n(scratch.state + c * task.columns, task.columns,
                task.slot_state + c * task.value_dim);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(RunChunkTask);

namespace {

// Work worth a second thread, in multiplications.
constexpr int64_t kParallelWork = 65536;

int64_t ThreadBytes(const GatedShape& shape) {
  return (ChunkScratch::Floats(shape) * 4 + 255) / 256 * 256;
}

ChunkTask TaskOf(const GatedChunkArgs& args, int64_t segment_index, int64_t kv_head, int64_t column,
                 int64_t columns) {
  const GatedShape& shape = args.shape;
  const GatedOperands& op = args.operands;
  const Segment& segment = args.segments[segment_index];
  const int64_t key_dim = shape.key_dim;
  const int64_t value_dim = shape.value_dim;
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t row = segment.row;
  ChunkTask task = {};
  task.key_dim = key_dim;
  task.columns = columns;
  task.value_dim = value_dim;
  task.group = group;
  task.length = segment.length;
  task.position = segment.position;
  task.scale = shape.scale;
  task.q = static_cast<const float*>(op.q) + row * op.q_stride +
           kv_head * group / shape.shared_keys * key_dim;
  task.q_stride = op.q_stride;
  task.k =
      static_cast<const float*>(op.k) + row * op.k_stride + kv_head / shape.shared_keys * key_dim;
  task.k_stride = op.k_stride;
  task.v = static_cast<const float*>(op.v) + row * op.v_stride + kv_head * value_dim + column;
  task.v_stride = op.v_stride;
  task.gate = ViewGate(shape, op, row, kv_head);
  task.scale_stride = shape.kv_heads;
  if (op.input_scale != nullptr) task.input_scale = op.input_scale + row * shape.kv_heads + kv_head;
  task.read = shape.read;
  if (op.bonus != nullptr) task.bonus = op.bonus + kv_head * key_dim;
  task.slot_state =
      op.states + segment.slot * op.slot_stride + kv_head * key_dim * value_dim + column;
  task.out_stride = shape.heads * value_dim;
  task.out =
      static_cast<float*>(op.out) + row * task.out_stride + kv_head * group * value_dim + column;
  return task;
}

// Columns of each of `parts` tasks, but for the last one, which has what is left.
int64_t PartColumns(const GatedShape& shape, int64_t parts) {
  const int64_t tiles = shape.value_dim / kGatedDimMultiple;
  return (tiles + parts - 1) / parts * kGatedDimMultiple;
}

// Into how many tasks the columns of a head are cut: the fewest steps of the busiest thread. What
// a task does whatever its columns weighs as much as about 32 columns.
int64_t ColumnParts(const GatedShape& shape, int64_t heads, int32_t threads) {
  int64_t best = 1;
  int64_t best_cost = 0;
  for (int64_t parts = 1; parts <= 16; parts *= 2) {
    const int64_t columns = PartColumns(shape, parts);
    if ((parts - 1) * columns >= shape.value_dim) break;
    const int64_t rounds = (heads * parts + threads - 1) / threads;
    const int64_t cost = rounds * (32 + columns);
    if (parts > 1 && cost >= best_cost) continue;
    best = parts;
    best_cost = cost;
  }
  return best;
}

int64_t RowCount(const GatedChunkArgs& args) {
  int64_t rows = 0;
  for (int32_t s = 0; s < args.segment_count; ++s) {
    SLUICE_CHECK(args.segments[s].length >= 1 && args.segments[s].position >= 0);
    rows += args.segments[s].length;
  }
  return rows;
}

void RunChunks(const GatedChunkArgs& args, ThreadPool& pool) {
  const GatedShape& shape = args.shape;
  const int64_t kv_heads = shape.kv_heads;
  const int64_t heads = kv_heads * args.segment_count;
  const int64_t work = RowCount(args) * shape.StateSize();
  const bool alone = work < kParallelWork;
  const int64_t parts = ColumnParts(shape, heads, alone ? 1 : pool.threads());
  const int64_t part_columns = PartColumns(shape, parts);
  const auto run = [&](int64_t index, int32_t thread) {
    const int64_t head = index / parts;
    const int64_t column = index % parts * part_columns;
    const int64_t columns = std::min(part_columns, shape.value_dim - column);
    if (shape.value_gate) {
      const Segment& segment = args.segments[head / kv_heads];
      RunStepTask(shape, args.operands,
                  {segment.slot, segment.row, segment.length, head % kv_heads, column, columns});
      return;
    }
    const ChunkTask task = TaskOf(args, head / kv_heads, head % kv_heads, column, columns);
    char* workspace = static_cast<char*>(args.workspace) + thread * ThreadBytes(shape);
    const ChunkScratch scratch(reinterpret_cast<float*>(workspace), shape.key_dim, shape.value_dim);
    HWY_DYNAMIC_DISPATCH(RunChunkTask)(task, scratch);
  };
  if (alone) {
    for (int64_t index = 0; index < heads; ++index) run(index, 0);
  } else {
    pool.Run(heads * parts, run);
  }
}

}  // namespace

int64_t GatedChunkCpuWorkspaceBytes(const GatedShape& shape, int32_t segments, int32_t threads) {
  CheckGatedShape(shape);
  SLUICE_CHECK(segments >= 0);
  const int64_t scratch = shape.value_gate ? 0 : ThreadBytes(shape) * threads;
  return UnpackedBytes(shape, segments) + scratch;
}

void GatedChunkCpu(const GatedChunkArgs& args, ThreadPool& pool) {
  CheckGatedOperands(args.shape, args.operands);
  SLUICE_CHECK(args.shape.dtype == DType::kFloat32);
  SLUICE_CHECK(args.segment_count >= 0);
  if (args.shape.state.IsPlain()) {
    RunChunks(args, pool);
    return;
  }
  const UnpackedChunk unpacked = UnpackedArgs(args);
  UnpackStatesCpu(args, unpacked, pool);
  RunChunks(unpacked.args, pool);
  PackStatesCpu(unpacked, args, pool);
}

}  // namespace sluice
#endif  // HWY_ONCE
