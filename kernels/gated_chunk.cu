#include "kernels/gated_chunk.h"

#include <cstdint>

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/gated_chunk.cuh"
#include "kernels/launch.cuh"
#include "kernels/unpacked_states.cuh"
#include "kernels/wgmma.cuh"

namespace sluice {
namespace {

constexpr int64_t kAlign = 256;

int64_t Aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// Hands out arrays from `base` on, and counts their bytes.
class Workspace {
 public:
  explicit Workspace(void* base) : base_(static_cast<char*>(base)) {}

  void* Take(int64_t bytes) {
    void* const at = base_ + used_;
    used_ += Aligned(bytes);
    return at;
  }
  float* Floats(int64_t count) { return static_cast<float*>(Take(count * 4)); }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

// The arrays of kernels that put the states before chunks into memory.
ChunkBuffers LayOutChunks(const GatedShape& s, int64_t chunks, Workspace& workspace) {
  const bool is_float32 = s.dtype == DType::kFloat32;
  const int64_t element = DTypeBytes(s.dtype);
  const int64_t attention =
      is_float32 ? int64_t{kChunk} * kChunk * element : kLowerTiles * kTileBytes;
  const int64_t rows = chunks * s.heads * kChunk;
  const int64_t kv_rows = chunks * s.kv_heads * kChunk;
  ChunkBuffers b = {};
  if (is_float32 || ChunkKindOf(s) != ChunkKind::kRows) {
    b.query = workspace.Take(rows * s.key_dim * element);
    b.key = workspace.Take(kv_rows * s.key_dim * element);
  } else {
    b.query_weight = workspace.Floats(rows);
    b.value_weight = workspace.Floats(kv_rows);
  }
  if (s.value_gate) {
    b.value = workspace.Take(kv_rows * s.value_dim * element);
    b.value_decay = workspace.Floats(chunks * s.kv_heads * s.value_dim);
  }
  b.decay = workspace.Floats(chunks * s.kv_heads * s.key_dim);
  b.attention = workspace.Take(chunks * s.heads * attention);
  b.state = workspace.Take(chunks * s.StateSize() * element);
  return b;
}

// Those of a walk.
ChunkBuffers LayOutWalk(const GatedShape& s, int64_t chunks, Workspace& workspace) {
  const int64_t images = ImagesOf(s.key_dim);
  const int64_t channels = images * kImageColumns;
  ChunkBuffers b = {};
  b.query = workspace.Take(chunks * ImageHeads(s) * images * kImageBytes);
  b.key = workspace.Take(chunks * ImageHeads(s) * images * kImageBytes);
  b.attention = workspace.Take(chunks * s.heads * kImageBytes);
  if (ChunkKindOf(s) == ChunkKind::kRows) {
    b.query_weight = workspace.Floats(chunks * s.heads * kChunk);
    b.value_weight = workspace.Floats(chunks * s.heads * kChunk);
  }
  b.decay = workspace.Floats(chunks * s.heads * channels);
  return b;
}

void QueueChunks(const GatedChunkArgs& args, const ChunkPolicy& policy, cudaStream_t stream) {
  const GatedShape& shape = args.shape;
  Workspace workspace(args.workspace);
  if (policy.walks && HasWalk(shape)) {
    const int parts = policy.batch_invariant ? 1 : LargestCluster();
    const ChunkParams params = {args, LayOutWalk(shape, args.chunk_count, workspace), parts};
    GatedChunkWalk(params, stream);
    return;
  }
  const ChunkParams params = {args, LayOutChunks(shape, args.chunk_count, workspace), 1};
  if (shape.dtype == DType::kFloat32) {
    GatedChunkFloat32(params, stream);
  } else {
    GatedChunkBFloat16(params, stream);
  }
}

}  // namespace

int64_t GatedChunkCudaWorkspaceBytes(const GatedShape& shape, int32_t segments, int32_t chunks,
                                     const ChunkPolicy& policy) {
  CheckGatedShape(shape);
  SLUICE_CHECK(segments >= 0 && chunks >= 0);
  // Any base serves to measure; null may not be counted from.
  alignas(16) char base[1];
  Workspace workspace(base);
  if (policy.walks && HasWalk(shape)) {
    LayOutWalk(shape, chunks, workspace);
  } else {
    LayOutChunks(shape, chunks, workspace);
  }
  return UnpackedBytes(shape, segments) + workspace.used();
}

void GatedChunkCuda(const GatedChunkArgs& args, const ChunkPolicy& policy, cudaStream_t stream) {
  const GatedShape& shape = args.shape;
  const GatedOperands& op = args.operands;
  CheckGatedOperands(shape, op);
  SLUICE_CHECK(args.segment_count >= 0 && args.segment_count <= 65535);
  SLUICE_CHECK(args.chunk_count >= args.segment_count);
  SLUICE_CHECK(IsAligned16(op.q) && IsAligned16(op.k) && IsAligned16(op.v));
  SLUICE_CHECK(IsAligned16(op.out) && IsAligned16(op.log_decay) && IsAligned16(op.bonus));
  SLUICE_CHECK(IsAligned16(op.value_log_decay));
  for (const int64_t stride : {op.q_stride, op.k_stride, op.v_stride}) {
    SLUICE_CHECK(stride <= INT32_MAX / kChunk);
  }
  if (args.segment_count == 0) return;
  SLUICE_CHECK(args.workspace != nullptr && IsAligned16(args.workspace));
  if (shape.state.IsPlain()) {
    QueueChunks(args, policy, stream);
    return;
  }
  const UnpackedChunk unpacked = UnpackedArgs(args);
  UnpackStatesCuda(args, unpacked, stream);
  QueueChunks(unpacked.args, policy, stream);
  PackStatesCuda(unpacked, args, stream);
}

}  // namespace sluice
