#include "kernels/device.h"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "kernels/check.h"
#include "kernels/cublaslt_library.h"
#include "kernels/cuda_check.h"
#include "kernels/cuda_ops.h"
#include "kernels/graph_cuda.h"
#include "kernels/linear_cuda.h"
#include "kernels/transfer_cuda.h"

namespace sluice {
namespace {

constexpr int kLeastMajor = 8;  // compute capability: bfloat16 tensor cores, asynchronous copies

class CudaDevice final : public Device {
 public:
  CudaDevice(std::string description, const CudaOptions& options, cudaStream_t stream,
             std::unique_ptr<TransferCuda> transfer, std::unique_ptr<LinearCuda> linear)
      : description_(std::move(description)),
        portable_(options.portable),
        chunks_({!options.portable && HasWarpgroupProducts(), options.batch_invariant}),
        stream_(stream),
        transfer_(std::move(transfer)),
        linear_(std::move(linear)) {}
  ~CudaDevice() override {
    Synchronize();
    linear_.reset();
    transfer_.reset();
    SLUICE_CUDA_CHECK(cudaStreamDestroy(stream_));
  }

  cudaStream_t stream() const { return stream_; }
  DeviceKind kind() const override { return DeviceKind::kCuda; }
  std::string Description() const override { return description_; }
  int64_t FreeBytes() const override {
    size_t free = 0;
    size_t total = 0;
    SLUICE_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    return static_cast<int64_t>(free);
  }
  bool RunsBehind() const override { return true; }
  DType ActivationType(DType weights) const override {
    return weights == DType::kFloat32 ? DType::kFloat32 : DType::kBFloat16;
  }

  void* Allocate(int64_t bytes) override {
    SLUICE_CHECK(bytes >= 0);
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes));
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();  // It would be reported by the next launch.
      return nullptr;
    }
    SLUICE_CUDA_CHECK(error);
    return data;
  }
  void Free(void* data) override { SLUICE_CUDA_CHECK(cudaFree(data)); }
  void Upload(void* to, const void* from_host, int64_t bytes) override {
    transfer_->Upload(to, from_host, bytes);
  }
  void Download(void* to_host, const void* from, int64_t bytes) override {
    transfer_->Download(to_host, from, bytes);
  }
  void* AllocateHost(int64_t bytes) override {
    void* data = nullptr;
    const cudaError_t error = cudaMallocHost(&data, static_cast<size_t>(bytes));
    if (error != cudaErrorMemoryAllocation) SLUICE_CUDA_CHECK(error);
    (void)cudaGetLastError();
    return data;
  }
  void FreeHost(void* data) override { SLUICE_CUDA_CHECK(cudaFreeHost(data)); }
  void DownloadLater(void* to_host, const void* from, int64_t bytes) override {
    SLUICE_CUDA_CHECK(cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, stream_));
  }
  void Copy(void* to, const void* from, int64_t bytes) override {
    SLUICE_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_));
  }
  void Zero(void* to, int64_t bytes) override {
    SLUICE_CUDA_CHECK(cudaMemsetAsync(to, 0, bytes, stream_));
  }
  void Synchronize() override { SLUICE_CUDA_CHECK(cudaStreamSynchronize(stream_)); }
  std::unique_ptr<Recording> Record(const std::function<void()>& queue) override {
    return RecordGraph(stream_, queue);
  }
  void Play(const Recording& recording) override { PlayGraph(recording, stream_); }

  void Decay(const DecayArgs& args) override { DecayCuda(args, stream_); }
  void MapFeatures(const FeatureMapArgs& args) override { MapFeaturesCuda(args, stream_); }
  void MlstmGates(const MlstmGatesArgs& args) override { MlstmGatesCuda(args, stream_); }
  void PadValues(const PadValuesArgs& args) override { PadValuesCuda(args, stream_); }
  void Normalize(const NormalizeArgs& args) override { NormalizeCuda(args, stream_); }
  void GatherRows(const GatherRowsArgs& args) override { GatherRowsCuda(args, stream_); }
  void Lerp(const LerpArgs& args) override { LerpCuda(args, stream_); }
  void Norm(const NormArgs& args) override { NormCuda(args, stream_); }
  void Linear(const LinearArgs& args) override { linear_->Run(args, stream_); }
  void LinearPair(const LinearArgs& first, const LinearArgs& second) override {
    linear_->RunPair(first, second, stream_);
  }
  void Rotate(const RotaryArgs& args) override { RotateCuda(args, stream_); }
  void ShortConv(const ShortConvArgs& args) override { ShortConvCuda(args, stream_); }
  void TokenShift(const TokenShiftArgs& args) override { TokenShiftCuda(args, stream_); }
  void LogGate(const LogGateArgs& args) override { LogGateCuda(args, stream_); }
  void Activate(const ActivationArgs& args) override { ActivateCuda(args, stream_); }
  void GatedStep(const GatedStepArgs& args) override { GatedStepCuda(args, portable_, stream_); }
  int64_t GatedChunkWorkspaceBytes(const GatedShape& shape, int32_t segments,
                                   int32_t chunks) const override {
    return GatedChunkCudaWorkspaceBytes(shape, segments, chunks, chunks_);
  }
  void GatedChunk(const GatedChunkArgs& args) override { GatedChunkCuda(args, chunks_, stream_); }
  void FoldStates(const FoldStatesArgs& args) override { FoldStatesCuda(args, stream_); }
  void GatedUnit(const GatedUnitArgs& args) override { GatedUnitCuda(args, stream_); }
  void MarkPrompt(const MarkPromptArgs& args) override { MarkPromptCuda(args, stream_); }
  void Sample(const SampleArgs& args) override { SampleCuda(args, stream_); }
  int64_t SelectiveScanWorkspaceBytes(int32_t channels, int32_t state_size,
                                      int32_t chunks) const override {
    return SelectiveScanCudaWorkspaceBytes(channels, state_size, chunks);
  }
  void SelectiveScan(const SelectiveScanArgs& args) override { SelectiveScanCuda(args, stream_); }
  void Logprobs(const LogprobsArgs& args) override { LogprobsCuda(args, stream_); }

 private:
  const std::string description_;
  const bool portable_;
  const ChunkPolicy chunks_;
  cudaStream_t const stream_;
  std::unique_ptr<TransferCuda> transfer_;
  std::unique_ptr<LinearCuda> linear_;
};

std::string Describe(int32_t ordinal, const cudaDeviceProp& properties) {
  char text[400];
  std::snprintf(text, sizeof(text), "cuda:%d (%s, %.1f GiB)", ordinal, properties.name,
                static_cast<double>(properties.totalGlobalMem) / (1 << 30));
  return text;
}

std::string Reason(const char* what, cudaError_t error) {
  (void)cudaGetLastError();
  return std::string(what) + ": " + cudaGetErrorString(error);
}

// Empty if the GPU can be used.
std::string WhyNot(int32_t ordinal, cudaDeviceProp* properties) {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return Reason("no GPU can be used", error);
  if (ordinal < 0 || ordinal >= count) {
    return "there is no GPU " + std::to_string(ordinal) + "; GPUs here: " + std::to_string(count);
  }
  error = cudaGetDeviceProperties(properties, ordinal);
  if (error != cudaSuccess) return Reason("the GPU does not answer", error);
  if (properties->major < kLeastMajor) {
    return Describe(ordinal, *properties) + " has compute capability " +
           std::to_string(properties->major) + "." + std::to_string(properties->minor) +
           "; at least 8.0 is needed";
  }
  return "";
}

std::unique_ptr<Device> OpenDevice(const CudaOptions& options, const cudaDeviceProp& properties,
                                   std::string* error) {
  cudaError_t status = cudaSetDevice(options.ordinal);
  if (status == cudaSuccess) status = cudaFree(nullptr);  // Makes the context.
  if (status != cudaSuccess) {
    *error = Reason("the GPU cannot be opened", status);
    return nullptr;
  }
  status = CudaKernelImageError();
  if (status != cudaSuccess) {
    *error = Reason("this build holds no code for the GPU (SLUICE_CUDA_ARCHITECTURES)", status);
    return nullptr;
  }
  cudaStream_t stream = nullptr;
  SLUICE_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  std::unique_ptr<TransferCuda> transfer = TransferCuda::Create(stream);
  if (!OpenCublasLt(error)) return nullptr;
  std::unique_ptr<LinearCuda> linear =
      LinearCuda::Create(options.batch_invariant, options.float8_weights, options.portable);
  if (transfer == nullptr || linear == nullptr) {
    *error = "not enough memory on the GPU or page-locked on the host to open the GPU";
    transfer.reset();
    SLUICE_CUDA_CHECK(cudaStreamDestroy(stream));
    return nullptr;
  }
  return std::make_unique<CudaDevice>(Describe(options.ordinal, properties), options, stream,
                                      std::move(transfer), std::move(linear));
}

}  // namespace

cudaStream_t CudaStreamOf(const Device& device) {
  SLUICE_CHECK(device.kind() == DeviceKind::kCuda);
  return static_cast<const CudaDevice&>(device).stream();
}

std::unique_ptr<Device> CreateCudaDevice(const CudaOptions& options, std::string* error) {
  cudaDeviceProp properties;
  *error = WhyNot(options.ordinal, &properties);
  if (!error->empty()) return nullptr;
  return OpenDevice(options, properties, error);
}

int32_t CudaDeviceCount() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  int32_t usable = 0;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (WhyNot(i, &properties).empty()) ++usable;
  }
  return usable;
}

}  // namespace sluice
