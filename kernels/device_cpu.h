// The device that every build has: the processor itself. Its memory is the host's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kernels/device.h"
#include "kernels/linear_cpu.h"
#include "kernels/thread_pool.h"

namespace sluice {

// Not final: a test of models puts an oracle in the place of an op.
class CpuDevice : public Device {
 public:
  // Uses `threads` threads, the caller's being one of them.
  // `batch_invariant`: see CreateCpuDevice.
  explicit CpuDevice(int32_t threads, bool batch_invariant = true);

  DeviceKind kind() const override { return DeviceKind::kCpu; }
  std::string Description() const override;
  // What the system could give now, or what the container's limit leaves, if that is less.
  int64_t FreeBytes() const override;
  bool RunsBehind() const override { return false; }
  DType ActivationType(DType weights) const override;

  void* Allocate(int64_t bytes) override;
  void Free(void* data) override;
  void Upload(void* to, const void* from_host, int64_t bytes) override;
  void Download(void* to_host, const void* from, int64_t bytes) override;
  void* AllocateHost(int64_t bytes) override { return Allocate(bytes); }
  void FreeHost(void* data) override { Free(data); }
  void DownloadLater(void* to_host, const void* from, int64_t bytes) override {
    Download(to_host, from, bytes);
  }
  void Copy(void* to, const void* from, int64_t bytes) override;
  void Zero(void* to, int64_t bytes) override;
  void Synchronize() override;
  std::unique_ptr<Recording> Record(const std::function<void()>& /*queue*/) override {
    return nullptr;
  }
  void Play(const Recording& recording) override;

  void Decay(const DecayArgs& args) override;
  void MapFeatures(const FeatureMapArgs& args) override;
  void MlstmGates(const MlstmGatesArgs& args) override;
  void PadValues(const PadValuesArgs& args) override;
  void Normalize(const NormalizeArgs& args) override;
  void GatherRows(const GatherRowsArgs& args) override;
  void Lerp(const LerpArgs& args) override;
  void Norm(const NormArgs& args) override;
  void Rotate(const RotaryArgs& args) override;
  void Linear(const LinearArgs& args) override;
  void ShortConv(const ShortConvArgs& args) override;
  void TokenShift(const TokenShiftArgs& args) override;
  void LogGate(const LogGateArgs& args) override;
  void Activate(const ActivationArgs& args) override;
  void GatedStep(const GatedStepArgs& args) override;
  int64_t GatedChunkWorkspaceBytes(const GatedShape& shape, int32_t segments,
                                   int32_t chunks) const override;
  void GatedChunk(const GatedChunkArgs& args) override;
  void FoldStates(const FoldStatesArgs& args) override;
  void GatedUnit(const GatedUnitArgs& args) override;
  void MarkPrompt(const MarkPromptArgs& args) override;
  void Sample(const SampleArgs& args) override;
  int64_t SelectiveScanWorkspaceBytes(int32_t channels, int32_t state_size,
                                      int32_t chunks) const override;
  void SelectiveScan(const SelectiveScanArgs& args) override;
  void Logprobs(const LogprobsArgs& args) override;

 private:
  ThreadPool pool_;
  LinearCpu linear_;
};

}  // namespace sluice
