// The ops of the CUDA device, one function each: they check the limits that the op's header states
// and queue kernels on `stream`. None allocates, synchronises or touches the host, so all of them
// can be captured into a graph.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/decay.h"
#include "kernels/feature_map.h"
#include "kernels/fold_states.h"
#include "kernels/gated_chunk.h"
#include "kernels/gated_step.h"
#include "kernels/gated_unit.h"
#include "kernels/gather_rows.h"
#include "kernels/lerp.h"
#include "kernels/log_gate.h"
#include "kernels/logprobs.h"
#include "kernels/mlstm_gates.h"
#include "kernels/norm.h"
#include "kernels/normalizer.h"
#include "kernels/rotary.h"
#include "kernels/sample.h"
#include "kernels/selective_scan.h"
#include "kernels/short_conv.h"
#include "kernels/token_counts.h"
#include "kernels/token_shift.h"

namespace sluice {

// Which kernels GatedChunk may use.
struct ChunkPolicy {
  bool walks;            // gated_chunk_walk.cu, which needs products of warpgroups
  bool batch_invariant;  // a segment's bits are its own: segments are not cut into parts
};
// Whether this build has products of warpgroups (wgmma.cuh) for this process's GPU.
bool HasWarpgroupProducts();

void ActivateCuda(const ActivationArgs& args, cudaStream_t stream);
void DecayCuda(const DecayArgs& args, cudaStream_t stream);
void FoldStatesCuda(const FoldStatesArgs& args, cudaStream_t stream);
void GatedChunkCuda(const GatedChunkArgs& args, const ChunkPolicy& policy, cudaStream_t stream);
int64_t GatedChunkCudaWorkspaceBytes(const GatedShape& shape, int32_t segments, int32_t chunks,
                                     const ChunkPolicy& policy);
// `portable`: as in CudaOptions.
void GatedStepCuda(const GatedStepArgs& args, bool portable, cudaStream_t stream);
void GatherRowsCuda(const GatherRowsArgs& args, cudaStream_t stream);
void LerpCuda(const LerpArgs& args, cudaStream_t stream);
void LogGateCuda(const LogGateArgs& args, cudaStream_t stream);
void LogprobsCuda(const LogprobsArgs& args, cudaStream_t stream);
void MapFeaturesCuda(const FeatureMapArgs& args, cudaStream_t stream);
void MarkPromptCuda(const MarkPromptArgs& args, cudaStream_t stream);
void MlstmGatesCuda(const MlstmGatesArgs& args, cudaStream_t stream);
void NormCuda(const NormArgs& args, cudaStream_t stream);
void NormalizeCuda(const NormalizeArgs& args, cudaStream_t stream);
void PadValuesCuda(const PadValuesArgs& args, cudaStream_t stream);
void RotateCuda(const RotaryArgs& args, cudaStream_t stream);
void SampleCuda(const SampleArgs& args, cudaStream_t stream);
int64_t SelectiveScanCudaWorkspaceBytes(int32_t channels, int32_t state_size, int32_t chunks);
void SelectiveScanCuda(const SelectiveScanArgs& args, cudaStream_t stream);
void ShortConvCuda(const ShortConvArgs& args, cudaStream_t stream);
void TokenShiftCuda(const TokenShiftArgs& args, cudaStream_t stream);
void GatedUnitCuda(const GatedUnitArgs& args, cudaStream_t stream);

class Device;

// The stream on which a CUDA device queues its ops.
cudaStream_t CudaStreamOf(const Device& device);

// Whether this build holds machine code for the current GPU: cudaSuccess if so.
cudaError_t CudaKernelImageError();

inline bool IsAligned16(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

}  // namespace sluice
