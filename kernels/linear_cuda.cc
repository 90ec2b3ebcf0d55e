#include "kernels/linear_cuda.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/cuda_ops.h"

#define SLUICE_CUBLAS_CHECK(expression)                                     \
  do {                                                                      \
    const cublasStatus_t sluice_cublas_status = (expression);               \
    if (sluice_cublas_status != CUBLAS_STATUS_SUCCESS) {                    \
      ::sluice::CheckFailed(__FILE__, __LINE__, #expression,                \
                            cublasLtGetStatusString(sluice_cublas_status)); \
    }                                                                       \
  } while (false)

namespace sluice {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr int64_t kFewAdditions = int64_t{1} << 23;
constexpr uint32_t kAlignment = 16;  // bytes: x and y may be columns of a wider matrix
constexpr int64_t kPartGrain = 128;  // outputs of a part of a float8 weight

cudaDataType_t CudaType(DType dtype) {
  SLUICE_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16);
  return dtype == DType::kFloat32 ? CUDA_R_32F : CUDA_R_16BF;
}

template <typename T>
void SetPreference(cublasLtMatmulPreference_t preference,
                   cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  SLUICE_CUBLAS_CHECK(
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
}

// Whether our own kernel is the faster one. Of float32 it has no tensor cores, and is so for one
// row and for a few of a small product.
bool SuitsFewRows(const LinearArgs& args) {
  if (args.rows > kLinearFewRows) return false;
  if (args.rows == 1 || args.x_dtype == DType::kBFloat16) return true;
  const int64_t additions = int64_t{args.batch} * args.rows * args.in_dim * args.out_dim;
  return additions <= kFewAdditions;
}

void CheckArgs(const LinearArgs& args) {
  const bool is_float8 = args.weight_dtype == DType::kFloat8;
  const bool any_out_dim = args.y_dtype == DType::kFloat32 && !args.accumulate && !is_float8;
  SLUICE_CHECK(args.rows >= 0 && args.in_dim > 0 && args.out_dim >= 8);
  SLUICE_CHECK(args.in_dim % 8 == 0 && (args.out_dim % 8 == 0 || any_out_dim));
  SLUICE_CHECK(args.x_dtype == (is_float8 ? DType::kBFloat16 : args.weight_dtype));
  SLUICE_CHECK(args.y_dtype == args.x_dtype || args.y_dtype == DType::kFloat32);
  SLUICE_CHECK(args.x_stride >= args.in_dim && args.y_stride >= args.out_dim);
  SLUICE_CHECK(args.x_stride % 8 == 0 && (args.y_stride % 8 == 0 || any_out_dim));
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.weight) && IsAligned16(args.y));
  SLUICE_CHECK(IsAligned16(args.weight_scale));
  CheckLinearBatch(args);
  CheckFloat8Weight(args);
}

// The matrices of a batch of products, `step` elements apart.
void RepeatLayout(cublasLtMatrixLayout_t layout, int32_t batch, int64_t step) {
  if (batch == 1) return;
  SLUICE_CUBLAS_CHECK(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                       &batch, sizeof(batch)));
  SLUICE_CUBLAS_CHECK(cublasLtMatrixLayoutSetAttribute(
      layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof(step)));
}

}  // namespace

std::unique_ptr<LinearCuda> LinearCuda::Create(bool batch_invariant, bool float8_weights,
                                               bool portable) {
  void* workspace = nullptr;
  void* widened = nullptr;
  cublasLtHandle_t handle = nullptr;
  if (cudaMalloc(&workspace, kWorkspaceBytes) == cudaSuccess &&
      (!float8_weights || cudaMalloc(&widened, kWidenedBytes) == cudaSuccess) &&
      cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS) {
    return std::unique_ptr<LinearCuda>(new LinearCuda(handle, workspace, widened, batch_invariant,
                                                      !portable && HasWarpgroupProducts()));
  }
  (void)cudaGetLastError();
  SLUICE_CUDA_CHECK(cudaFree(workspace));
  SLUICE_CUDA_CHECK(cudaFree(widened));
  return nullptr;
}

LinearCuda::~LinearCuda() {
  SLUICE_CUBLAS_CHECK(cublasLtDestroy(handle_));
  SLUICE_CUDA_CHECK(cudaFree(workspace_));
  SLUICE_CUDA_CHECK(cudaFree(widened_));
}

void LinearCuda::LayOut(const Shape& shape, Plan* plan) {
  const cudaDataType_t x_type = CudaType(shape.x_dtype);
  const cudaDataType_t y_type = CudaType(shape.y_dtype);
  SLUICE_CUBLAS_CHECK(
      cublasLtMatrixLayoutInit(&plan->weight, x_type, shape.in_dim, shape.out_dim, shape.in_dim));
  SLUICE_CUBLAS_CHECK(
      cublasLtMatrixLayoutInit(&plan->x, x_type, shape.in_dim, shape.rows, shape.x_stride));
  SLUICE_CUBLAS_CHECK(
      cublasLtMatrixLayoutInit(&plan->y, y_type, shape.out_dim, shape.rows, shape.y_stride));
  RepeatLayout(&plan->weight, shape.batch, shape.weight_step);
  RepeatLayout(&plan->x, shape.batch, shape.x_step);
  RepeatLayout(&plan->y, shape.batch, shape.y_step);
}

// The library counts by columns: y^T [N, M] = weight^T^T x^T, each of our rows a column.
LinearCuda::Plan LinearCuda::MakePlan(const Shape& shape) const {
  Plan plan;
  SLUICE_CUBLAS_CHECK(cublasLtMatmulDescInit(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const cublasOperation_t transpose = CUBLAS_OP_T;
  SLUICE_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(&plan.product, CUBLASLT_MATMUL_DESC_TRANSA,
                                                     &transpose, sizeof(transpose)));
  LayOut(shape, &plan);
  Plan asked = plan;
  uint64_t workspace = kWorkspaceBytes;
  if (batch_invariant_) {
    Shape reference = shape;
    reference.rows = kInvariantRows;
    // Products that lie one behind the other do so there.
    const auto rescale = [&](int64_t stride, int64_t* step) {
      if (*step >= shape.rows * stride) *step = *step / shape.rows * kInvariantRows;
    };
    rescale(shape.x_stride, &reference.x_step);
    rescale(shape.y_stride, &reference.y_step);
    LayOut(reference, &asked);
    workspace = 0;  // Without any, K is not shared out.
  }
  cublasLtMatmulPreferenceOpaque_t preference;
  SLUICE_CUBLAS_CHECK(cublasLtMatmulPreferenceInit(&preference));
  SetPreference(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
  SetPreference(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kAlignment);
  SetPreference(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kAlignment);
  SetPreference(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, kAlignment);
  SetPreference(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, kAlignment);
  cublasLtMatmulHeuristicResult_t found;
  int count = 0;
  SLUICE_CUBLAS_CHECK(cublasLtMatmulAlgoGetHeuristic(handle_, &plan.product, &asked.weight,
                                                     &asked.x, &asked.y, &asked.y, &preference, 1,
                                                     &found, &count));
  SLUICE_CHECK(count == 1);
  SLUICE_CUBLAS_CHECK(found.state);
  plan.algorithm = found.algo;
  return plan;
}

void LinearCuda::Run(const LinearArgs& args, cudaStream_t stream) {
  CheckArgs(args);
  if (args.rows == 0) return;
  if (!batch_invariant_ && SuitsFewRows(args)) {
    LinearFewRowsCuda(args, stream);
  } else if (args.weight_dtype == DType::kFloat8) {
    RunFloat8(args, stream);
  } else {
    RunLibrary(args, stream);
  }
}

void LinearCuda::RunPair(const LinearArgs& first, const LinearArgs& second, cudaStream_t stream) {
  CheckArgs(first);
  CheckArgs(second);
  const bool few = !batch_invariant_ && first.rows == second.rows && first.rows > 0 &&
                   SuitsFewRows(first) && SuitsFewRows(second);
  if (few && LinearFewRowsPairCuda(second, first, stream)) return;
  if (few && LinearFewRowsPairCuda(first, second, stream)) return;
  Run(first, stream);
  Run(second, stream);
}

// How a weight is cut into parts depends on its own size alone.
void LinearCuda::RunFloat8(const LinearArgs& args, cudaStream_t stream) {
  if (!batch_invariant_ && warpgroups_ && args.rows <= kLinearFloat8GroupRows) {
    LinearFloat8GroupsCuda(args, stream);
    return;
  }
  if (!batch_invariant_ && !warpgroups_ && args.rows <= kLinearFloat8Rows) {
    LinearFloat8RowsCuda(args, stream);
    return;
  }
  const int64_t in_dim = args.in_dim;
  const int64_t most = kWidenedBytes / (in_dim * 2) / kPartGrain * kPartGrain;
  SLUICE_CHECK(widened_ != nullptr && most > 0);
  const int64_t parts = (args.out_dim + most - 1) / most;
  const int64_t grains = (args.out_dim + parts * kPartGrain - 1) / (parts * kPartGrain);
  const int64_t part_outputs = grains * kPartGrain;
  for (int64_t begin = 0; begin < args.out_dim; begin += part_outputs) {
    LinearArgs part = args;
    part.out_dim = static_cast<int32_t>(std::min(part_outputs, args.out_dim - begin));
    WidenFloat8Cuda({.rows = part.out_dim,
                     .in_dim = args.in_dim,
                     .codes = static_cast<const char*>(args.weight) + begin * in_dim,
                     .scales = args.weight_scale + begin},
                    widened_, stream);
    part.weight_dtype = DType::kBFloat16;
    part.weight = widened_;
    part.weight_scale = nullptr;
    part.y = static_cast<char*>(args.y) + begin * DTypeBytes(args.y_dtype);
    RunLibrary(part, stream);
  }
}

void LinearCuda::RunLibrary(const LinearArgs& args, cudaStream_t stream) {
  const bool batched = args.batch > 1;
  const Shape shape{.rows = args.rows,
                    .in_dim = args.in_dim,
                    .out_dim = args.out_dim,
                    .x_stride = args.x_stride,
                    .y_stride = args.y_stride,
                    .x_dtype = args.x_dtype,
                    .y_dtype = args.y_dtype,
                    .accumulate = args.accumulate,
                    .batch = args.batch,
                    .x_step = batched ? args.x_step : 0,
                    .weight_step = batched ? args.weight_step : 0,
                    .y_step = batched ? args.y_step : 0};
  auto plan = plans_.find(shape);
  if (plan == plans_.end()) {
    if (plans_.size() == kMaxPlans) plans_.clear();
    plan = plans_.emplace(shape, MakePlan(shape)).first;
  }
  Plan& p = plan->second;
  const float alpha = 1.0F;
  const float beta = args.accumulate ? 1.0F : 0.0F;
  SLUICE_CUBLAS_CHECK(cublasLtMatmul(handle_, &p.product, &alpha, args.weight, &p.weight, args.x,
                                     &p.x, &beta, args.y, &p.y, args.y, &p.y, &p.algorithm,
                                     workspace_, kWorkspaceBytes, stream));
}

}  // namespace sluice
