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
  const int64_t element = DTypeBytes(s.dtype);
  const int64_t attention =
      s.dtype == DType::kFloat32 ? int64_t{kChunk} * kChunk * element : kLowerTiles * kTileBytes;
  int64_t end = 0;
  const auto take = [&](int64_t size) {
    void* const at = static_cast<char*>(base) + end;
    end += Aligned(size);
    return at;
  };
  ChunkBuffers b;
  b.query = take(chunks * s.heads * kChunk * s.key_dim * element);
  b.key = take(chunks * s.kv_heads * kChunk * s.key_dim * element);
  b.decay = static_cast<float*>(take(chunks * s.kv_heads * s.key_dim * 4));
  b.attention = take(chunks * s.heads * attention);
  b.state = take(chunks * s.StateSize() * element);
  *bytes = end;
  return b;
}

}  // namespace

int64_t GatedChunkCudaWorkspaceBytes(const GatedShape& shape, int32_t chunks) {
  CheckGatedShape(shape);
  SLUICE_CHECK(chunks >= 0);
  if (shape.value_gate) return 0;
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
  if (args.segment_count == 0) return;
  if (args.shape.value_gate) {
    GatedChunkScan(args, stream);
    return;
  }
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
