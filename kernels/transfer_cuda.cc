#include "kernels/transfer_cuda.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cuda_check.h"

namespace sluice {

std::unique_ptr<TransferCuda> TransferCuda::Create(cudaStream_t stream) {
  std::unique_ptr<TransferCuda> transfer(new TransferCuda(stream));
  void* memory = nullptr;
  if (cudaMallocHost(&memory, 2 * kHalfBytes + kDownloadBytes) != cudaSuccess) {
    (void)cudaGetLastError();
    return nullptr;
  }
  transfer->memory_ = static_cast<char*>(memory);
  for (cudaEvent_t& event : transfer->copied_) {
    SLUICE_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
  return transfer;
}

TransferCuda::~TransferCuda() {
  if (memory_ == nullptr) return;
  SLUICE_CUDA_CHECK(cudaStreamSynchronize(stream_));
  for (cudaEvent_t event : copied_) SLUICE_CUDA_CHECK(cudaEventDestroy(event));
  SLUICE_CUDA_CHECK(cudaFreeHost(memory_));
}

void TransferCuda::NextHalf() {
  SLUICE_CUDA_CHECK(cudaEventRecord(copied_[half_], stream_));
  half_ = 1 - half_;
  used_ = 0;
  // Returns at once if the event was never recorded.
  SLUICE_CUDA_CHECK(cudaEventSynchronize(copied_[half_]));
}

void TransferCuda::Upload(void* to, const void* from_host, int64_t bytes) {
  SLUICE_CHECK(bytes >= 0);
  for (int64_t done = 0; done < bytes;) {
    if (used_ == kHalfBytes) NextHalf();  // Pieces fill a half exactly.
    const int64_t piece = std::min(bytes - done, kHalfBytes - used_);
    char* const staged = memory_ + half_ * kHalfBytes + used_;
    std::memcpy(staged, static_cast<const char*>(from_host) + done, piece);
    SLUICE_CUDA_CHECK(cudaMemcpyAsync(static_cast<char*>(to) + done, staged, piece,
                                      cudaMemcpyHostToDevice, stream_));
    done += piece;
    used_ += (piece + kPieceAlign - 1) / kPieceAlign * kPieceAlign;
  }
}

void TransferCuda::Download(void* to_host, const void* from, int64_t bytes) {
  SLUICE_CHECK(bytes >= 0);
  char* const staged = memory_ + 2 * kHalfBytes;
  for (int64_t done = 0; done < bytes; done += kDownloadBytes) {
    const int64_t piece = std::min(bytes - done, kDownloadBytes);
    SLUICE_CUDA_CHECK(cudaMemcpyAsync(staged, static_cast<const char*>(from) + done, piece,
                                      cudaMemcpyDeviceToHost, stream_));
    SLUICE_CUDA_CHECK(cudaStreamSynchronize(stream_));
    std::memcpy(static_cast<char*>(to_host) + done, staged, piece);
  }
}

}  // namespace sluice
