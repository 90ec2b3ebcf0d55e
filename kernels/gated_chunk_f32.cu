// The chunkwise form in float32, for checkpoints in float32 and for exactness: plain sums, not
// built for speed.
#include "kernels/gated_chunk_f32.cuh"

#include "kernels/reduce.cuh"

namespace sluice {
namespace {

__device__ float LogDecay(const GateView& gate, int64_t row, int64_t channel) {
  if (gate.first == nullptr) return 0.0F;
  return gate.first[row * gate.row_stride + channel * gate.channel_stride];
}

// What multiplies the key of row `row` of the batch.
__device__ float InputScale(const GatedShape& s, const GatedOperands& op, int64_t row,
                            int kv_head) {
  return op.input_scale == nullptr ? 1.0F : op.input_scale[row * s.kv_heads + kv_head];
}

// q of row `row` of the batch for head `head`, and k for state head `kv_head`.
__device__ const float* QueryOf(const GatedShape& s, const GatedOperands& op, int64_t row,
                                int head) {
  return static_cast<const float*>(op.q) + row * op.q_stride +
         int64_t{head / s.shared_keys} * s.key_dim;
}
__device__ const float* KeyOf(const GatedShape& s, const GatedOperands& op, int64_t row,
                              int kv_head) {
  return static_cast<const float*>(op.k) + row * op.k_stride +
         int64_t{kv_head / s.shared_keys} * s.key_dim;
}

// Grid: (chunks, heads). A thread walks the rows of a channel: down for the queries, up for the
// keys, so that a decay is the exponential of a sum without cancellation.
__global__ __launch_bounds__(kThreads) void DecayKernel(const __grid_constant__ ChunkParams p) {
  EnterStream();
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const int head = blockIdx.y;
  const Indices at = IndicesOf(s, blockIdx.x, head);
  const bool writes_keys = head % (s.heads / s.kv_heads) == 0;
  const ChunkSpan span = p.args.chunks[blockIdx.x];
  const bool exclusive = s.read == ReadKind::kExclusive;
  const GateView gate = ViewGate(s, op, span.row, at.kv_head);
  const float* const q = QueryOf(s, op, span.row, head);
  const float* const k = KeyOf(s, op, span.row, at.kv_head);
  float* const query = static_cast<float*>(p.buffers.query) + at.head * kChunk * s.key_dim;
  float* const key = static_cast<float*>(p.buffers.key) + at.kv * kChunk * s.key_dim;
  for (int c = threadIdx.x; c < s.key_dim; c += kThreads) {
    float sum = 0.0F;
    for (int i = 0; i < span.length; ++i) {
      const float before = sum;
      sum += LogDecay(gate, i, c);
      const float decay = expf(exclusive ? before : sum);
      query[int64_t{i} * s.key_dim + c] = q[i * op.q_stride + c] * decay * s.scale;
    }
    if (!writes_keys) continue;
    p.buffers.decay[at.kv * s.key_dim + c] = expf(sum);
    sum = 0.0F;
    for (int i = span.length - 1; i >= 0; --i) {
      const float scale = InputScale(s, op, span.row + i, at.kv_head);
      key[int64_t{i} * s.key_dim + c] = k[i * op.k_stride + c] * scale * expf(sum);
      sum += LogDecay(gate, i, c);
    }
  }
}

constexpr int kSlice = 32;                 // channels of K in shared memory
constexpr int kSplit = kThreads / kChunk;  // threads that share a key
constexpr int kOwn = kSlice / kSplit;      // channels of a thread

// Copies columns [first, first + kColumns) of a matrix of `rows` rows by `columns`; what is not
// there is zero.
template <int kColumns>
__device__ void LoadColumns(const float* matrix, int64_t stride, int rows, int columns, int first,
                            float (*to)[kColumns]) {
  for (int i = threadIdx.x; i < kChunk * kColumns; i += kThreads) {
    const int row = i / kColumns;
    const int column = first + i % kColumns;
    const bool valid = row < rows && column < columns;
    to[row][i % kColumns] = valid ? matrix[row * stride + column] : 0.0F;
  }
}

// The same of decays, from their logarithms; what is not there is 1.
__device__ void LoadDecays(const GateView& gate, int rows, int columns, int first,
                           float (*to)[kSlice]) {
  for (int i = threadIdx.x; i < kChunk * kSlice; i += kThreads) {
    const int row = i / kSlice;
    const int channel = first + i % kSlice;
    const bool valid = row < rows && channel < columns;
    to[row][i % kSlice] = valid ? expf(LogDecay(gate, row, channel)) : 1.0F;
  }
}

// Grid: (chunks, heads). A thread holds 8 channels of one key and walks down the rows: the key
// decays by each row's gate, so no exponent of a difference is formed. Its own row, read
// exclusively, takes it times the bonus.
__global__ __launch_bounds__(kThreads) void AttentionKernel(const __grid_constant__ ChunkParams p) {
  EnterStream();
  __shared__ float gate[kChunk][kSlice];
  __shared__ float query[kChunk][kSlice];
  __shared__ float attention[kChunk][kChunk + 1];
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const int head = blockIdx.y;
  const Indices at = IndicesOf(s, blockIdx.x, head);
  const ChunkSpan span = p.args.chunks[blockIdx.x];
  const int j = threadIdx.x / kSplit;
  const int own = threadIdx.x % kSplit * kOwn;
  const bool exclusive = s.read == ReadKind::kExclusive;
  const GateView gates = ViewGate(s, op, span.row, at.kv_head);
  const float* const q = QueryOf(s, op, span.row, head);
  const float* const k = KeyOf(s, op, span.row, at.kv_head);
  const float* const bonus =
      op.bonus == nullptr ? nullptr : op.bonus + int64_t{at.kv_head} * s.key_dim;
  const float scale = j < span.length ? InputScale(s, op, span.row + j, at.kv_head) : 0.0F;

  for (int i = threadIdx.x; i < kChunk * kChunk; i += kThreads) {
    attention[i / kChunk][i % kChunk] = 0.0F;
  }
  for (int c0 = 0; c0 < s.key_dim; c0 += kSlice) {
    __syncthreads();
    LoadColumns(q, op.q_stride, span.length, s.key_dim, c0, query);
    LoadDecays(gates, span.length, s.key_dim, c0, gate);
    float key[kOwn];
    float weight[kOwn];  // of the key in its own row
#pragma unroll
    for (int c = 0; c < kOwn; ++c) {
      const int channel = c0 + own + c;
      const bool valid = j < span.length && channel < s.key_dim;
      key[c] = valid ? k[j * op.k_stride + channel] * scale : 0.0F;
      weight[c] = exclusive ? 0.0F : 1.0F;
      if (valid && bonus != nullptr) weight[c] = bonus[channel];
    }
    __syncthreads();
    for (int i = 0; i < span.length; ++i) {
      float sum = 0.0F;
#pragma unroll
      for (int c = 0; c < kOwn; ++c) {
        const float after = i > j ? key[c] * gate[i][own + c] : key[c];
        const float read = i == j ? key[c] * weight[c] : exclusive ? key[c] : after;
        sum = fmaf(query[i][own + c], read, sum);
        key[c] = after;
      }
#pragma unroll
      for (int offset = 1; offset < kSplit; offset *= 2) {
        sum += __shfl_xor_sync(kAllLanes, sum, offset);
      }
      if (own == 0 && i >= j) attention[i][j] += sum;
    }
  }
  __syncthreads();
  float* const out = static_cast<float*>(p.buffers.attention) + at.head * kChunk * kChunk;
  for (int i = threadIdx.x; i < kChunk * kChunk; i += kThreads) {
    out[i] = attention[i / kChunk][i % kChunk] * s.scale;
  }
}

// Grid: (chunks, kv heads), if values are gated. A thread walks up the rows of a column.
__global__ __launch_bounds__(kThreads) void ValuesKernel(const __grid_constant__ ChunkParams p) {
  EnterStream();
  const GatedShape& s = p.args.shape;
  const ChunkSpan span = p.args.chunks[blockIdx.x];
  const int64_t kv = int64_t{blockIdx.x} * s.kv_heads + blockIdx.y;
  float* const out = static_cast<float*>(p.buffers.value) + kv * kChunk * s.value_dim;
  for (int v = threadIdx.x; v < s.value_dim; v += kThreads) {
    const ValueColumn from = ValueColumnOf(s, p.args.operands, span.row, blockIdx.y, v);
    float sum = 0.0F;
    for (int i = span.length - 1; i >= 0; --i) {
      out[int64_t{i} * s.value_dim + v] = from.value[i * from.value_stride] * expf(sum);
      sum += from.gate[i * from.gate_stride];
    }
    p.buffers.value_decay[kv * s.value_dim + v] = expf(sum);
  }
}

constexpr int kTileK = 32;               // rows of S of a block
constexpr int kOwnK = kTileK / kSplitV;  // rows of S of a thread

// Grid: (tiles of K x tiles of V, kv heads, segments). A thread holds 8 rows of one column of the
// state and walks the segment's chunks.
__global__ __launch_bounds__(kThreads) void StatesKernel(const __grid_constant__ ChunkParams p) {
  EnterStream();
  __shared__ __align__(16) float key[kChunk][kTileK];
  __shared__ float value[kChunk][kTileV];
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const Segment segment = p.args.segments[blockIdx.z];
  const int kv_head = blockIdx.y;
  const int key_blocks = (s.key_dim + kTileK - 1) / kTileK;
  const int key0 = blockIdx.x % key_blocks * kTileK;
  const int value0 = blockIdx.x / key_blocks * kTileV;
  const int column = value0 + threadIdx.x % kTileV;
  const int own = threadIdx.x / kTileV * kOwnK;
  const int64_t state_size = int64_t{s.key_dim} * s.value_dim;
  float* const slot = op.states + segment.slot * op.slot_stride + kv_head * state_size;

  float state[kOwnK];
#pragma unroll
  for (int c = 0; c < kOwnK; ++c) {
    const bool valid = column < s.value_dim && key0 + own + c < s.key_dim;
    state[c] = valid ? slot[int64_t{key0 + own + c} * s.value_dim + column] : 0.0F;
  }
  const int chunk_count = ChunkCount(segment.position, segment.length);
  for (int n = 0; n < chunk_count; ++n) {
    const ChunkSpan span = p.args.chunks[segment.first_chunk + n];
    const int64_t kv = int64_t{segment.first_chunk + n} * s.kv_heads + kv_head;
    const float* const keys = static_cast<const float*>(p.buffers.key) + kv * kChunk * s.key_dim;
    const float* values =
        static_cast<const float*>(op.v) + span.row * op.v_stride + int64_t{kv_head} * s.value_dim;
    int64_t value_stride = op.v_stride;
    float column_decay = 1.0F;
    if (s.value_gate) {
      values = static_cast<const float*>(p.buffers.value) + kv * kChunk * s.value_dim;
      value_stride = s.value_dim;
      if (column < s.value_dim) column_decay = p.buffers.value_decay[kv * s.value_dim + column];
    }
    __syncthreads();
    LoadColumns(keys, s.key_dim, span.length, s.key_dim, key0, key);
    LoadColumns(values, value_stride, span.length, s.value_dim, value0, value);
    __syncthreads();
    float* const before = static_cast<float*>(p.buffers.state) + kv * state_size;
#pragma unroll
    for (int c = 0; c < kOwnK; ++c) {
      if (column >= s.value_dim || key0 + own + c >= s.key_dim) continue;
      before[int64_t{key0 + own + c} * s.value_dim + column] = state[c];
      state[c] *= p.buffers.decay[kv * s.key_dim + key0 + own + c] * column_decay;
    }
    for (int row = 0; row < span.length; ++row) {
      const float v = value[row][threadIdx.x % kTileV];
#pragma unroll
      for (int c = 0; c < kOwnK; ++c) state[c] = fmaf(key[row][own + c], v, state[c]);
    }
  }
#pragma unroll
  for (int c = 0; c < kOwnK; ++c) {
    if (column >= s.value_dim || key0 + own + c >= s.key_dim) continue;
    slot[int64_t{key0 + own + c} * s.value_dim + column] = state[c];
  }
}

}  // namespace

void GatedChunkFloat32(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const int chunks = params.args.chunk_count;
  LaunchKernel({dim3(chunks, s.heads), kThreads}, stream, DecayKernel, params);
  LaunchKernel({dim3(chunks, s.heads), kThreads}, stream, AttentionKernel, params);
  const int value_blocks = (s.value_dim + kTileV - 1) / kTileV;
  const int tiles = (s.key_dim + kTileK - 1) / kTileK * value_blocks;
  if (s.value_gate) {
    LaunchKernel({dim3(chunks, s.kv_heads), kThreads}, stream, ValuesKernel, params);
  }
  LaunchKernel({dim3(tiles, s.kv_heads, params.args.segment_count), kThreads}, stream, StatesKernel,
               params);
  OutputFloat32(params, stream);
}

}  // namespace sluice
