// The CPU device's ops, one a file (<op>_cpu.cc). Contracts are those of <op>.h.
//
// How many threads there are changes no bit of a result. Linear keeps what it has built between
// calls and is a class: linear_cpu.h.
#pragma once

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
#include "kernels/thread_pool.h"
#include "kernels/token_counts.h"
#include "kernels/token_shift.h"

namespace sluice {

void ActivateCpu(const ActivationArgs& args, ThreadPool& pool);
void DecayCpu(const DecayArgs& args, ThreadPool& pool);
void FoldStatesCpu(const FoldStatesArgs& args, ThreadPool& pool);
void GatherRowsCpu(const GatherRowsArgs& args, ThreadPool& pool);
void GatedChunkCpu(const GatedChunkArgs& args, ThreadPool& pool);
int64_t GatedChunkCpuWorkspaceBytes(const GatedShape& shape, int32_t segments, int32_t threads);
void GatedStepCpu(const GatedStepArgs& args, ThreadPool& pool);
void LerpCpu(const LerpArgs& args, ThreadPool& pool);
void LogGateCpu(const LogGateArgs& args, ThreadPool& pool);
void LogprobsCpu(const LogprobsArgs& args, ThreadPool& pool);
void MapFeaturesCpu(const FeatureMapArgs& args, ThreadPool& pool);
void MarkPromptCpu(const MarkPromptArgs& args);
void MlstmGatesCpu(const MlstmGatesArgs& args, ThreadPool& pool);
void NormCpu(const NormArgs& args, ThreadPool& pool);
void NormalizeCpu(const NormalizeArgs& args, ThreadPool& pool);
void PadValuesCpu(const PadValuesArgs& args, ThreadPool& pool);
void RotateCpu(const RotaryArgs& args, ThreadPool& pool);
void SampleCpu(const SampleArgs& args, ThreadPool& pool);
void SelectiveScanCpu(const SelectiveScanArgs& args, ThreadPool& pool);
void ShortConvCpu(const ShortConvArgs& args, ThreadPool& pool);
void TokenShiftCpu(const TokenShiftArgs& args, ThreadPool& pool);
void GatedUnitCpu(const GatedUnitArgs& args, ThreadPool& pool);

}  // namespace sluice
