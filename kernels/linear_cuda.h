// Linear on the GPU: of a few rows by a kernel of ours, which is bound by reading the weights, of
// more rows and float8 weights by two others, and by cuBLASLt.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "kernels/linear.h"

namespace sluice {

constexpr int32_t kLinearFewRows = 8;  // those of a tensor core product
constexpr int32_t kLinearFloat8Rows = 128;
constexpr int32_t kLinearFloat8GroupRows = 256;

// 1 to kLinearFewRows rows of what LinearCuda takes. A row gets the same bits whatever their
// number, and if in_dim > 128 the same of float8 weights as of the bfloat16 ones that they stand
// for. Reads weights of both before the kernels queued earlier have ended (launch.cuh).
void LinearFewRowsCuda(const LinearArgs& args, cudaStream_t stream);

// Two such products of as many rows in one launch, where there is one for them: of a float8 weight
// and of a bfloat16 one, in_dim > 128.
bool LinearFewRowsPairCuda(const LinearArgs& float8, const LinearArgs& beside, cudaStream_t stream);

// 1 to kLinearFloat8Rows rows of what LinearCuda takes with a float8 weight, which it too reads
// early. What a row gets may depend on how many there are.
void LinearFloat8RowsCuda(const LinearArgs& args, cudaStream_t stream);

// The same of 1 to kLinearFloat8GroupRows rows, by products of warpgroups (HasWarpgroupProducts).
void LinearFloat8GroupsCuda(const LinearArgs& args, cudaStream_t stream);

struct Float8Rows {
  int32_t rows;
  int32_t in_dim;       // multiple of 16
  const void* codes;    // [rows, in_dim]
  const float* scales;  // [rows]
};
// The bfloat16 numbers [rows, in_dim] that they stand for. Reads them early.
void WidenFloat8Cuda(const Float8Rows& from, void* widened, cudaStream_t stream);

// Belongs to one thread and one GPU. The library's choice of algorithm is asked for by shape, rows
// included, and kept; it answers the same question the same way, so that a shape gives the same
// bits for the life of the process. At most kMaxPlans are kept; should more shapes come, all are
// asked for anew. Sums are float32, also of float32 operands: no TF32.
//
// Batch invariant: whatever the rows, the algorithm is the one for kInvariantRows of them, and one
// that does not share out K, so that a result is the same sum in the same order.
//
// A float8 weight is widened to bfloat16 for the library: of more rows than the kernels above take,
// and of any number where it must not matter how many there are. What is widened at once has room
// in memory of kWidenedBytes; a larger weight is multiplied by parts of its outputs.
class LinearCuda {
 public:
  static constexpr size_t kMaxPlans = 8192;
  static constexpr int32_t kInvariantRows = 128;
  static constexpr int64_t kWidenedBytes = int64_t{64} << 20;

  // Takes workspace, memory to widen float8 weights in if there are to be any, and a library
  // handle; null if there is not that much memory. `portable`: no products of warpgroups.
  static std::unique_ptr<LinearCuda> Create(bool batch_invariant, bool float8_weights,
                                            bool portable);
  LinearCuda(const LinearCuda&) = delete;
  LinearCuda& operator=(const LinearCuda&) = delete;
  ~LinearCuda();

  // Queues the product. x, weight and y are 16-byte aligned, strides multiples of 16 bytes.
  void Run(const LinearArgs& args, cudaStream_t stream);
  // Both, of which neither reads what the other writes: at once if they have few rows and are of
  // float8 and of bfloat16.
  void RunPair(const LinearArgs& first, const LinearArgs& second, cudaStream_t stream);

 private:
  // What the choice of an algorithm depends on.
  struct Shape {
    int32_t rows;
    int32_t in_dim;
    int32_t out_dim;
    int64_t x_stride;
    int64_t y_stride;
    DType x_dtype;
    DType y_dtype;
    bool accumulate;
    int32_t batch;
    int64_t x_step;
    int64_t weight_step;
    int64_t y_step;

    // clang-tidy 14 takes the 0 in it for a pointer.
    auto operator<=>(const Shape&) const = default;  // NOLINT(modernize-use-nullptr)
  };
  struct Plan {
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t weight;
    cublasLtMatrixLayoutOpaque_t x;
    cublasLtMatrixLayoutOpaque_t y;
    cublasLtMatmulAlgo_t algorithm;
  };

  LinearCuda(cublasLtHandle_t handle, void* workspace, void* widened, bool batch_invariant,
             bool warpgroups)
      : handle_(handle),
        workspace_(workspace),
        widened_(widened),
        batch_invariant_(batch_invariant),
        warpgroups_(warpgroups) {}
  static void LayOut(const Shape& shape, Plan* plan);
  Plan MakePlan(const Shape& shape) const;
  void RunFloat8(const LinearArgs& args, cudaStream_t stream);
  void RunLibrary(const LinearArgs& args, cudaStream_t stream);

  cublasLtHandle_t const handle_;
  void* const workspace_;
  void* const widened_;  // null if no float8 weights are to come
  const bool batch_invariant_;
  const bool warpgroups_;
  std::map<Shape, Plan> plans_;
};

}  // namespace sluice
