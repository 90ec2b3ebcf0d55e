// The last kernel of the chunkwise form in float32: what queries read of the state, and A of V.
#include "kernels/gated_chunk_f32.cuh"

namespace sluice {
namespace {

constexpr int kOwnRows = kChunk / kSplitV;  // rows of the output of a thread

// left [rows, depth] times the block's column of right.
struct Product {
  const float* left;
  int64_t left_stride;
  const float* right;  // this thread's column
  int64_t right_stride;
  int rows;
  int depth;
};

// Puts columns [c0, c0 + kTile) of the left matrix into shared memory. All threads take part.
__device__ void LoadLeft(const Product& product, int c0, float (*left)[kTile + 1]) {
  __syncthreads();
  for (int i = threadIdx.x; i < kChunk * kTile; i += kThreads) {
    const int row = i / kTile;
    const int c = c0 + i % kTile;
    const bool valid = row < product.rows && c < product.depth;
    left[row][i % kTile] = valid ? product.left[row * product.left_stride + c] : 0.0F;
  }
  __syncthreads();
}

// sum[i] += the product's row 16 * (thread / kTileV) + i. All threads take part.
__device__ void AddProduct(const Product& product, bool column_valid, float (*left)[kTile + 1],
                           float (&sum)[kOwnRows]) {
  const int row0 = threadIdx.x / kTileV * kOwnRows;
  for (int c0 = 0; c0 < product.depth; c0 += kTile) {
    LoadLeft(product, c0, left);
#pragma unroll
    for (int c = 0; c < kTile; ++c) {
      const bool valid = column_valid && c0 + c < product.depth;
      const float x = valid ? product.right[(c0 + c) * product.right_stride] : 0.0F;
#pragma unroll
      for (int i = 0; i < kOwnRows; ++i) sum[i] = fmaf(left[row0 + i][c], x, sum[i]);
    }
  }
}

// A times gated values: what the rows before the thread's 16 give, decayed to the first of these,
// and what those 16 themselves give. `left` holds A's columns of a row tile.
struct GatedSums {
  float earlier[kOwnRows] = {};
  float own[kOwnRows] = {};
  float before = 0.0F;  // sum of the log gates of the rows before
};

// Adds a row tile before the thread's own, from its last row to its first.
__device__ void AddEarlier(const ValueColumn& column, int first, const float (*left)[kTile + 1],
                           GatedSums& sums) {
  const int row0 = threadIdx.x / kTileV * kOwnRows;
  for (int c = kTile - 1; c >= 0; --c) {
    const int64_t row = first + c;
    const float x = column.value[row * column.value_stride] * expf(sums.before);
    sums.before += column.gate[row * column.gate_stride];
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i) {
      sums.earlier[i] = fmaf(left[row0 + i][c], x, sums.earlier[i]);
    }
  }
}

// Adds the thread's own row tile, `rows` of it: values decay row by row as the walk goes down.
__device__ void AddOwn(const ValueColumn& column, int rows, bool exclusive,
                       const float (*left)[kTile + 1], GatedSums& sums) {
  const int row0 = threadIdx.x / kTileV * kOwnRows;
  float value[kOwnRows];
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
    const int64_t row = row0 + i;
    const bool valid = i < rows;
    const float decay = valid ? expf(column.gate[row * column.gate_stride]) : 1.0F;
    value[i] = valid ? column.value[row * column.value_stride] : 0.0F;
#pragma unroll
    for (int j = 0; j <= i; ++j) {
      const float after = j < i ? value[j] * decay : value[j];
      sums.own[i] = fmaf(left[row][j], exclusive ? value[j] : after, sums.own[i]);
      value[j] = after;
    }
  }
}

// Decays the sums from the chunk's start to their rows, and adds A times gated values. All threads
// take part.
__device__ void AddGatedValues(const Product& attention, const ValueColumn& column,
                               bool column_valid, bool exclusive, float (*left)[kTile + 1],
                               float (&sum)[kOwnRows]) {
  const int own = threadIdx.x / kTileV;
  const int rows = column_valid ? attention.rows - own * kTile : 0;  // of the thread's 16
  GatedSums sums;
  for (int tile = kChunkTiles - 1; tile >= 0; --tile) {
    LoadLeft(attention, tile * kTile, left);
    if (rows <= 0 || tile > own) continue;
    if (tile == own) {
      AddOwn(column, rows, exclusive, left, sums);
    } else {
      AddEarlier(column, tile * kTile, left, sums);
    }
  }
  const float before = expf(sums.before);
  float within = 0.0F;  // sum of the log gates from the row tile's start on
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
    if (i >= rows) continue;
    const float read_before = within;
    within += column.gate[(own * kTile + i) * column.gate_stride];
    const float decay = expf(exclusive ? read_before : within);
    sum[i] = fmaf(fmaf(sum[i], before, sums.earlier[i]), decay, sums.own[i]);
  }
}

// Grid: (chunks x tiles of V, heads). A thread owns 16 rows, a row tile, of one column of the
// output.
template <bool kGatedValues>
__global__ __launch_bounds__(kThreads) void OutputKernel(const __grid_constant__ ChunkParams p) {
  EnterStream();
  static_assert(kOwnRows == kTile, "a thread owns a row tile");
  __shared__ float left[kChunk][kTile + 1];
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const int value_blocks = (s.value_dim + kTileV - 1) / kTileV;
  const int chunk = blockIdx.x / value_blocks;
  const int column = blockIdx.x % value_blocks * kTileV + threadIdx.x % kTileV;
  const bool valid = column < s.value_dim;
  const int head = blockIdx.y;
  const Indices at = IndicesOf(s, chunk, head);
  const ChunkSpan span = p.args.chunks[chunk];
  const ValueColumn values = ValueColumnOf(s, op, span.row, at.kv_head, column);
  const int row0 = threadIdx.x / kTileV * kOwnRows;

  Product queries;  // times the state before the chunk
  queries.left = static_cast<const float*>(p.buffers.query) + at.head * kChunk * s.key_dim;
  queries.left_stride = s.key_dim;
  queries.right =
      static_cast<const float*>(p.buffers.state) + at.kv * s.key_dim * s.value_dim + column;
  queries.right_stride = s.value_dim;
  queries.rows = span.length;
  queries.depth = s.key_dim;
  Product attention;  // times the chunk's values
  attention.left = static_cast<const float*>(p.buffers.attention) + at.head * kChunk * kChunk;
  attention.left_stride = kChunk;
  attention.right = values.value;
  attention.right_stride = values.value_stride;
  attention.rows = span.length;
  attention.depth = span.length;
  float sum[kOwnRows] = {};
  AddProduct(queries, valid, left, sum);
  if constexpr (kGatedValues) {
    AddGatedValues(attention, values, valid, s.read == ReadKind::kExclusive, left, sum);
  } else {
    AddProduct(attention, valid, left, sum);
  }

  if (!valid) return;
  float* const out =
      static_cast<float*>(op.out) + (int64_t{span.row} * s.heads + head) * s.value_dim + column;
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
    if (row0 + i >= span.length) return;
    out[int64_t{row0 + i} * s.heads * s.value_dim] = sum[i];
  }
}

}  // namespace

void OutputFloat32(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const int blocks = params.args.chunk_count * ((s.value_dim + kTileV - 1) / kTileV);
  const dim3 grid(blocks, s.heads);
  if (s.value_gate) {
    LaunchKernel({grid, kThreads}, stream, OutputKernel<true>, params);
  } else {
    LaunchKernel({grid, kThreads}, stream, OutputKernel<false>, params);
  }
}

}  // namespace sluice
