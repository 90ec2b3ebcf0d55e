// The CPU device's ops, one a file (<op>_cpu.cc). Contracts are those of <op>.h.
//
// `threads` is how many may be used; it changes no bit of a result. Linear keeps what it has built
// between calls and is a class: linear_cpu.h.
#pragma once

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/gated_chunk.h"
#include "kernels/gated_step.h"
#include "kernels/gather_rows.h"
#include "kernels/log_gate.h"
#include "kernels/logprobs.h"
#include "kernels/rms_norm.h"
#include "kernels/sample.h"
#include "kernels/short_conv.h"
#include "kernels/swiglu.h"
#include "kernels/token_counts.h"

namespace sluice {

void ActivateCpu(const ActivationArgs& args, int32_t threads);
void GatherRowsCpu(const GatherRowsArgs& args, int32_t threads);
void GatedChunkCpu(const GatedChunkArgs& args, int32_t threads);
int64_t GatedChunkCpuWorkspaceBytes(const GatedShape& shape, int32_t threads);
void GatedStepCpu(const GatedStepArgs& args, int32_t threads);
void LogGateCpu(const LogGateArgs& args, int32_t threads);
void LogprobsCpu(const LogprobsArgs& args, int32_t threads);
void MarkPromptCpu(const MarkPromptArgs& args);
void RmsNormCpu(const RmsNormArgs& args, int32_t threads);
void SampleCpu(const SampleArgs& args, int32_t threads);
void ShortConvCpu(const ShortConvArgs& args, int32_t threads);
void SwiGluCpu(const SwiGluArgs& args, int32_t threads);

// Each ends the process unless the limits of gated_shape.h are kept.
void CheckGatedShape(const GatedShape& shape);
void CheckGatedOperands(const GatedShape& shape, const GatedOperands& operands);

}  // namespace sluice
