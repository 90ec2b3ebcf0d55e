#include "kernels/gated_chunk.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/gated_chunk.cuh"

namespace sluice {
namespace {

constexpr int64_t kAlign = 256;

int64_t Aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// Lays the arrays out from `base` on; `*bytes` gets their size.
ChunkBuffers Layout(const GatedShape& s, int64_t chunks, void* base, int64_t* bytes) {
  const bool is_float32 = s.dtype == DType::kFloat32;
  const int64_t element = DTypeBytes(s.dtype);
  const int64_t attention =
      is_float32 ? int64_t{kChunk} * kChunk * element : kLowerTiles * kTileBytes;
  const int64_t rows = chunks * s.heads * kChunk;
  const int64_t kv_rows = chunks * s.kv_heads * kChunk;
  int64_t end = 0;
  const auto take = [&](int64_t size) {
    void* const at = static_cast<char*>(base) + end;
    end += Aligned(size);
    return at;
  };
  const auto take_floats = [&](int64_t count) { return static_cast<float*>(take(count * 4)); };
  ChunkBuffers b = {};
  if (is_float32 || ChunkKindOf(s) != ChunkKind::kRows) {
    b.query = take(rows * s.key_dim * element);
    b.key = take(kv_rows * s.key_dim * element);
  } else {
    b.query_weight = take_floats(rows);
    b.value_weight = take_floats(kv_rows);
  }
  if (s.value_gate) {
    b.value = take(kv_rows * s.value_dim * element);
    b.value_decay = take_floats(chunks * s.kv_heads * s.value_dim);
  }
  b.decay = take_floats(chunks * s.kv_heads * s.key_dim);
  b.attention = take(chunks * s.heads * attention);
  b.state = take(chunks * s.StateSize() * element);
  *bytes = end;
  return b;
}

}  // namespace

int64_t GatedChunkCudaWorkspaceBytes(const GatedShape& shape, int32_t chunks) {
  CheckGatedShape(shape);
  SLUICE_CHECK(chunks >= 0);
  int64_t bytes = 0;
  // Any base serves to measure; null may not be counted from.
  alignas(16) char base[1];
  (void)Layout(shape, chunks, base, &bytes);
  return bytes;
}

void GatedChunkCuda(const GatedChunkArgs& args, cudaStream_t stream) {
  const GatedOperands& op = args.operands;
  CheckGatedOperands(args.shape, op);
  SLUICE_CHECK(args.segment_count >= 0 && args.segment_count <= 65535);
  SLUICE_CHECK(args.chunk_count >= args.segment_count);
  SLUICE_CHECK(IsAligned16(op.q) && IsAligned16(op.k) && IsAligned16(op.v));
  SLUICE_CHECK(IsAligned16(op.out) && IsAligned16(op.log_decay) && IsAligned16(op.bonus));
  SLUICE_CHECK(IsAligned16(op.value_log_decay));
  SLUICE_CHECK(op.k_stride <= INT32_MAX && op.v_stride <= INT32_MAX);
  if (args.segment_count == 0) return;
  SLUICE_CHECK(args.workspace != nullptr && IsAligned16(args.workspace));
  int64_t bytes = 0;
  const ChunkParams params{args, Layout(args.shape, args.chunk_count, args.workspace, &bytes)};
  if (args.shape.dtype == DType::kFloat32) {
    GatedChunkFloat32(params, stream);
  } else {
    GatedChunkBFloat16(params, stream);
  }
}

}  // namespace sluice
