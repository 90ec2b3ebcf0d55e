#include "kernels/device_cpu.h"

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "hwy/targets.h"
#include "kernels/check.h"
#include "kernels/cpu_memory.h"
#include "kernels/cpu_ops.h"

namespace sluice {
namespace {

constexpr int64_t kAlignment = 256;

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown processor";
}

std::string InstructionSet() {
  if (CpuHasBFloat16()) return "AVX-512 bf16";
  const int64_t targets = hwy::SupportedTargets();
  if ((targets & HWY_AVX3) != 0) return "AVX-512";
  if ((targets & HWY_AVX2) != 0) return "AVX2";
  if ((targets & HWY_SSE4) != 0) return "SSE4";
  if ((targets & HWY_NEON) != 0) return "NEON";
  return "no vector instructions";
}

}  // namespace

CpuDevice::CpuDevice(int32_t threads, bool batch_invariant)
    : pool_(threads), linear_(pool_, batch_invariant) {}

std::string CpuDevice::Description() const {
  return "cpu (" + ProcessorName() + ", " + std::to_string(pool_.threads()) +
         (pool_.threads() == 1 ? " thread, " : " threads, ") + InstructionSet() + ")";
}

int64_t CpuDevice::FreeBytes() const { return AvailableMemoryBytes(); }

DType CpuDevice::ActivationType(DType /*weights*/) const { return DType::kFloat32; }

void* CpuDevice::Allocate(int64_t bytes) {
  SLUICE_CHECK(bytes > 0);
  if (bytes > FreeBytes()) return nullptr;
  return std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
}

void CpuDevice::Free(void* data) { std::free(data); }

void CpuDevice::Upload(void* to, const void* from_host, int64_t bytes) {
  Copy(to, from_host, bytes);
}

void CpuDevice::Download(void* to_host, const void* from, int64_t bytes) {
  Copy(to_host, from, bytes);
}

void CpuDevice::Copy(void* to, const void* from, int64_t bytes) {
  SLUICE_CHECK(bytes >= 0);
  if (bytes > 0) std::memmove(to, from, bytes);
}

void CpuDevice::Zero(void* to, int64_t bytes) {
  SLUICE_CHECK(bytes >= 0);
  if (bytes > 0) std::memset(to, 0, bytes);
}

void CpuDevice::Synchronize() {}

void CpuDevice::Play(const Recording& /*recording*/) { SLUICE_CHECK(false); }

void CpuDevice::Decay(const DecayArgs& args) { DecayCpu(args, pool_); }
void CpuDevice::MapFeatures(const FeatureMapArgs& args) { MapFeaturesCpu(args, pool_); }
void CpuDevice::MlstmGates(const MlstmGatesArgs& args) { MlstmGatesCpu(args, pool_); }
void CpuDevice::PadValues(const PadValuesArgs& args) { PadValuesCpu(args, pool_); }
void CpuDevice::Normalize(const NormalizeArgs& args) { NormalizeCpu(args, pool_); }
void CpuDevice::GatherRows(const GatherRowsArgs& args) { GatherRowsCpu(args, pool_); }
void CpuDevice::Lerp(const LerpArgs& args) { LerpCpu(args, pool_); }
void CpuDevice::Norm(const NormArgs& args) { NormCpu(args, pool_); }
void CpuDevice::Rotate(const RotaryArgs& args) { RotateCpu(args, pool_); }
void CpuDevice::Linear(const LinearArgs& args) { linear_.Run(args); }
void CpuDevice::ShortConv(const ShortConvArgs& args) { ShortConvCpu(args, pool_); }
void CpuDevice::TokenShift(const TokenShiftArgs& args) { TokenShiftCpu(args, pool_); }
void CpuDevice::LogGate(const LogGateArgs& args) { LogGateCpu(args, pool_); }
void CpuDevice::Activate(const ActivationArgs& args) { ActivateCpu(args, pool_); }
void CpuDevice::GatedStep(const GatedStepArgs& args) { GatedStepCpu(args, pool_); }

int64_t CpuDevice::GatedChunkWorkspaceBytes(const GatedShape& shape, int32_t segments,
                                            int32_t /*chunks*/) const {
  return GatedChunkCpuWorkspaceBytes(shape, segments, pool_.threads());
}

void CpuDevice::GatedChunk(const GatedChunkArgs& args) { GatedChunkCpu(args, pool_); }
void CpuDevice::FoldStates(const FoldStatesArgs& args) { FoldStatesCpu(args, pool_); }
void CpuDevice::GatedUnit(const GatedUnitArgs& args) { GatedUnitCpu(args, pool_); }
void CpuDevice::MarkPrompt(const MarkPromptArgs& args) { MarkPromptCpu(args); }
void CpuDevice::Sample(const SampleArgs& args) { SampleCpu(args, pool_); }

int64_t CpuDevice::SelectiveScanWorkspaceBytes(int32_t /*channels*/, int32_t /*state_size*/,
                                               int32_t /*chunks*/) const {
  return 0;
}

void CpuDevice::SelectiveScan(const SelectiveScanArgs& args) { SelectiveScanCpu(args, pool_); }
void CpuDevice::Logprobs(const LogprobsArgs& args) { LogprobsCpu(args, pool_); }

std::unique_ptr<Device> CreateCpuDevice(int32_t threads, bool batch_invariant) {
  return std::make_unique<CpuDevice>(threads, batch_invariant);
}

}  // namespace sluice
