// The seam between the engine and the arithmetic: memory, copies, and one method an op.
//
// A Device belongs to one thread (the engine's) from construction on. On CUDA, ops and Upload /
// DownloadLater / Copy / Zero are queued on one stream and run in the order of the calls; Download
// and Synchronize wait. On the CPU everything is done on return. Ops neither allocate nor
// synchronise. Pointers in
// args are device pointers. What an args struct states as its limits is checked; breaking it ends
// the process, as does any CUDA error.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kernels/activation.h"
#include "kernels/decay.h"
#include "kernels/dtype.h"
#include "kernels/feature_map.h"
#include "kernels/fold_states.h"
#include "kernels/gated_chunk.h"
#include "kernels/gated_step.h"
#include "kernels/gated_unit.h"
#include "kernels/gather_rows.h"
#include "kernels/lerp.h"
#include "kernels/linear.h"
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

enum class DeviceKind : uint8_t { kCpu, kCuda };

// Ops that were recorded to be queued again as one. Its device outlives it.
class Recording {
 public:
  Recording() = default;
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  virtual ~Recording() = default;
};

class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  virtual DeviceKind kind() const = 0;
  // For people: "cpu (AMD EPYC 9B14, 2 threads, AVX-512 bf16)", "cuda:0 (NVIDIA H100, 79.2 GiB)".
  virtual std::string Description() const = 0;
  // Memory that could be taken now.
  virtual int64_t FreeBytes() const = 0;
  // Whether what was queued runs on while the caller does something else.
  virtual bool RunsBehind() const = 0;
  // What activations are stored in when weights are `weights`: CPU float32, CUDA as the weights.
  virtual DType ActivationType(DType weights) const = 0;

  // 256-aligned, or null if there is not that much. Taken at start, given back at the end.
  virtual void* Allocate(int64_t bytes) = 0;
  virtual void Free(void* data) = 0;
  // Copies from the host. The source may be reused on return.
  virtual void Upload(void* to, const void* from_host, int64_t bytes) = 0;
  // Copies to the host once everything queued before is done, and waits for it.
  virtual void Download(void* to_host, const void* from, int64_t bytes) = 0;
  // Memory of the host for DownloadLater, 256-aligned, or null if there is not that much.
  virtual void* AllocateHost(int64_t bytes) = 0;
  virtual void FreeHost(void* data) = 0;
  // Copies to memory of AllocateHost; what was copied can be read once Synchronize has returned.
  virtual void DownloadLater(void* to_host, const void* from, int64_t bytes) = 0;
  virtual void Copy(void* to, const void* from, int64_t bytes) = 0;
  virtual void Zero(void* to, int64_t bytes) = 0;
  virtual void Synchronize() = 0;

  // Calls `queue`, which queues ops, Copy and Zero alone, and keeps what it queues for Play instead
  // of running it. What ops make at their first use must be there: run them once before. Null,
  // without a call, if playing would gain nothing; and if there is no memory for it.
  virtual std::unique_ptr<Recording> Record(const std::function<void()>& queue) = 0;
  virtual void Play(const Recording& recording) = 0;

  virtual void Decay(const DecayArgs& args) = 0;
  virtual void MapFeatures(const FeatureMapArgs& args) = 0;
  virtual void MlstmGates(const MlstmGatesArgs& args) = 0;
  virtual void PadValues(const PadValuesArgs& args) = 0;
  virtual void Normalize(const NormalizeArgs& args) = 0;
  virtual void GatherRows(const GatherRowsArgs& args) = 0;
  virtual void Lerp(const LerpArgs& args) = 0;
  virtual void Norm(const NormArgs& args) = 0;
  virtual void Rotate(const RotaryArgs& args) = 0;
  virtual void Linear(const LinearArgs& args) = 0;
  // Both, of which neither reads what the other writes.
  virtual void LinearPair(const LinearArgs& first, const LinearArgs& second) {
    Linear(first);
    Linear(second);
  }
  virtual void ShortConv(const ShortConvArgs& args) = 0;
  virtual void TokenShift(const TokenShiftArgs& args) = 0;
  virtual void LogGate(const LogGateArgs& args) = 0;
  virtual void Activate(const ActivationArgs& args) = 0;
  virtual void GatedStep(const GatedStepArgs& args) = 0;
  virtual int64_t GatedChunkWorkspaceBytes(const GatedShape& shape, int32_t segments,
                                           int32_t chunks) const = 0;
  virtual void GatedChunk(const GatedChunkArgs& args) = 0;
  virtual void FoldStates(const FoldStatesArgs& args) = 0;
  virtual void GatedUnit(const GatedUnitArgs& args) = 0;
  virtual void MarkPrompt(const MarkPromptArgs& args) = 0;
  virtual void Sample(const SampleArgs& args) = 0;
  virtual int64_t SelectiveScanWorkspaceBytes(int32_t channels, int32_t state_size,
                                              int32_t chunks) const = 0;
  virtual void SelectiveScan(const SelectiveScanArgs& args) = 0;
  virtual void Logprobs(const LogprobsArgs& args) = 0;
};

// `threads`: at least 1. `batch_invariant`: no row of a matrix product depends on the number of
// rows, not even in its last bits (linear.h).
std::unique_ptr<Device> CreateCpuDevice(int32_t threads, bool batch_invariant = true);

struct CudaOptions {
  int32_t ordinal = 0;
  // What a sequence gets does not depend on the others of its batch, not even in its last bits.
  // Products are slower for it, and long segments where there are few.
  bool batch_invariant = false;
  // Recurrences by the kernels that every GPU of compute capability 8.0 and up can run, also where
  // there are others; products without those of warpgroups.
  bool portable = false;
  // Products with float8 weights will be asked for: takes the memory that some are widened into.
  bool float8_weights = false;
};

// Null with a reason in `*error` if this build has no CUDA, or there is no such GPU, or it is too
// old (compute capability below 8.0).
std::unique_ptr<Device> CreateCudaDevice(const CudaOptions& options, std::string* error);

// Number of GPUs that CreateCudaDevice could open; 0 in a build without CUDA.
int32_t CudaDeviceCount();

}  // namespace sluice
