#include "kernels/gated_chunk_bf16.cuh"

namespace sluice {

void GatedChunkBFloat16(const ChunkParams& params, cudaStream_t stream) {
  const ChunkKind kind = ChunkKindOf(params.args.shape);
  if (kind == ChunkKind::kRows) {
    ScoresBFloat16(params, OperandForm::kFragments, stream);
  } else {
    PrepareBFloat16(params, OperandForm::kFragments, stream);
  }
  if (kind == ChunkKind::kColumns) ValuesBFloat16(params, stream);
  StatesBFloat16(params, stream);
  if (kind == ChunkKind::kColumns) {
    ValueOutputBFloat16(params, stream);
  } else {
    OutputBFloat16(params, stream);
  }
}

void GatedChunkWalk(const ChunkParams& params, cudaStream_t stream) {
  if (ChunkKindOf(params.args.shape) == ChunkKind::kRows) {
    ScoresBFloat16(params, OperandForm::kImages, stream);
  } else {
    PrepareBFloat16(params, OperandForm::kImages, stream);
  }
  WalkBFloat16(params, stream);
}

}  // namespace sluice
