// Runs without a GPU: what it calls needs the library alone.

#include "kernels/cublaslt_library.h"

#include <cublasLt.h>
#include <pthread.h>

#include <cstdint>
#include <string>

#include "gtest/gtest.h"

namespace sluice {
namespace {

// The stack that the metrics page's web server gives its threads.
constexpr size_t kSmallStackBytes = 100 << 10;

int StartThreadWithSmallStack() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kSmallStackBytes);
  pthread_t thread;
  const auto nothing = [](void*) -> void* { return nullptr; };
  const int error = pthread_create(&thread, &attributes, nothing, nullptr);
  if (error == 0) pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  return error;
}

TEST(CublasLtLibrary, LeavesThreadsTheirStacks) {
  EXPECT_EQ(StartThreadWithSmallStack(), 0);
  std::string error;
  ASSERT_TRUE(OpenCublasLt(&error)) << error;
  EXPECT_EQ(StartThreadWithSmallStack(), 0);
}

TEST(CublasLtLibrary, HandsCallsOn) {
  std::string error;
  ASSERT_TRUE(OpenCublasLt(&error)) << error;
  EXPECT_STREQ(cublasLtGetStatusString(CUBLAS_STATUS_SUCCESS), "success");
  cublasLtMatmulDescOpaque_t product;
  ASSERT_EQ(cublasLtMatmulDescInit(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
            CUBLAS_STATUS_SUCCESS);
  const cublasOperation_t transpose = CUBLAS_OP_T;
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(&product, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                           sizeof(transpose)),
            CUBLAS_STATUS_SUCCESS);
  cublasLtMatrixLayoutOpaque_t layout;
  EXPECT_EQ(cublasLtMatrixLayoutInit(&layout, CUDA_R_16BF, 8, 8, 8), CUBLAS_STATUS_SUCCESS);
  const int32_t batch = 2;
  EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch,
                                             sizeof(batch)),
            CUBLAS_STATUS_SUCCESS);
  cublasLtMatmulPreferenceOpaque_t preference;
  EXPECT_EQ(cublasLtMatmulPreferenceInit(&preference), CUBLAS_STATUS_SUCCESS);
  const size_t bytes = 1 << 20;
  EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(
                &preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes)),
            CUBLAS_STATUS_SUCCESS);
}

}  // namespace
}  // namespace sluice
