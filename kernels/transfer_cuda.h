// Copies between the host's memory and the GPU's, through bounded page-locked memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

namespace sluice {

// Belongs to one thread and one stream, which outlives it.
//
// Uploads fill two halves of a ring in turn: the caller's memory is free on return, and only the
// half that is about to be filled again is waited for, once every kHalfBytes.
class TransferCuda {
 public:
  // Null if there is no page-locked memory.
  static std::unique_ptr<TransferCuda> Create(cudaStream_t stream);
  TransferCuda(const TransferCuda&) = delete;
  TransferCuda& operator=(const TransferCuda&) = delete;
  ~TransferCuda();

  void Upload(void* to, const void* from_host, int64_t bytes);
  // Waits for everything queued before.
  void Download(void* to_host, const void* from, int64_t bytes);

 private:
  static constexpr int64_t kHalfBytes = int64_t{8} << 20;
  static constexpr int64_t kDownloadBytes = int64_t{1} << 20;
  static constexpr int64_t kPieceAlign = 256;

  explicit TransferCuda(cudaStream_t stream) : stream_(stream) {}
  void NextHalf();

  cudaStream_t const stream_;
  char* memory_ = nullptr;      // two halves for uploads, then that for downloads
  cudaEvent_t copied_[2] = {};  // the half's last copy is done
  int half_ = 0;
  int64_t used_ = 0;  // bytes of the half
};

}  // namespace sluice
