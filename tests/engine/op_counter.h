// A device that counts the ops it passes on to another. On a GPU nearly every op is one launch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "kernels/device.h"

namespace sluice {

class OpCounter : public Device {
 public:
  explicit OpCounter(std::unique_ptr<Device> device) : device_(std::move(device)) {}

  // Since the last call.
  int64_t TakeCount() { return std::exchange(count_, 0); }

  DeviceKind kind() const override { return device_->kind(); }
  std::string Description() const override { return device_->Description(); }
  int64_t FreeBytes() const override { return device_->FreeBytes(); }
  bool RunsBehind() const override { return device_->RunsBehind(); }
  DType ActivationType(DType weights) const override { return device_->ActivationType(weights); }
  void* Allocate(int64_t bytes) override { return device_->Allocate(bytes); }
  void Free(void* data) override { device_->Free(data); }
  void Upload(void* to, const void* from_host, int64_t bytes) override {
    device_->Upload(to, from_host, bytes);
  }
  void Download(void* to_host, const void* from, int64_t bytes) override {
    device_->Download(to_host, from, bytes);
  }
  void* AllocateHost(int64_t bytes) override { return device_->AllocateHost(bytes); }
  void FreeHost(void* data) override { device_->FreeHost(data); }
  void DownloadLater(void* to_host, const void* from, int64_t bytes) override {
    device_->DownloadLater(to_host, from, bytes);
  }
  void Copy(void* to, const void* from, int64_t bytes) override { device_->Copy(to, from, bytes); }
  void Zero(void* to, int64_t bytes) override { device_->Zero(to, bytes); }
  void Synchronize() override { device_->Synchronize(); }
  std::unique_ptr<Recording> Record(const std::function<void()>& queue) override {
    return device_->Record(queue);
  }
  void Play(const Recording& recording) override { device_->Play(recording); }
  int64_t GatedChunkWorkspaceBytes(const GatedShape& shape, int32_t segments,
                                   int32_t chunks) const override {
    return device_->GatedChunkWorkspaceBytes(shape, segments, chunks);
  }
  int64_t SelectiveScanWorkspaceBytes(int32_t channels, int32_t state_size,
                                      int32_t chunks) const override {
    return device_->SelectiveScanWorkspaceBytes(channels, state_size, chunks);
  }
  void LinearPair(const LinearArgs& first, const LinearArgs& second) override {
    ++count_;
    device_->LinearPair(first, second);
  }

#define SLUICE_COUNTED(Op, Args)       \
  void Op(const Args& args) override { \
    ++count_;                          \
    device_->Op(args);                 \
  }
  SLUICE_COUNTED(Activate, ActivationArgs)
  SLUICE_COUNTED(Decay, DecayArgs)
  SLUICE_COUNTED(FoldStates, FoldStatesArgs)
  SLUICE_COUNTED(GatedChunk, GatedChunkArgs)
  SLUICE_COUNTED(GatedStep, GatedStepArgs)
  SLUICE_COUNTED(GatedUnit, GatedUnitArgs)
  SLUICE_COUNTED(GatherRows, GatherRowsArgs)
  SLUICE_COUNTED(Lerp, LerpArgs)
  SLUICE_COUNTED(Linear, LinearArgs)
  SLUICE_COUNTED(LogGate, LogGateArgs)
  SLUICE_COUNTED(Logprobs, LogprobsArgs)
  SLUICE_COUNTED(MapFeatures, FeatureMapArgs)
  SLUICE_COUNTED(MarkPrompt, MarkPromptArgs)
  SLUICE_COUNTED(MlstmGates, MlstmGatesArgs)
  SLUICE_COUNTED(Norm, NormArgs)
  SLUICE_COUNTED(Normalize, NormalizeArgs)
  SLUICE_COUNTED(PadValues, PadValuesArgs)
  SLUICE_COUNTED(Rotate, RotaryArgs)
  SLUICE_COUNTED(Sample, SampleArgs)
  SLUICE_COUNTED(SelectiveScan, SelectiveScanArgs)
  SLUICE_COUNTED(ShortConv, ShortConvArgs)
  SLUICE_COUNTED(TokenShift, TokenShiftArgs)
#undef SLUICE_COUNTED

 private:
  std::unique_ptr<Device> device_;
  int64_t count_ = 0;
};

}  // namespace sluice
