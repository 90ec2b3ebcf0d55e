#include "kernels/cublaslt_library.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <string>

#include "kernels/check.h"

namespace sluice {
namespace {

void* library = nullptr;  // opened once, never closed

// The library's own function of that name and type.
template <typename Function>
Function* Find(const char* name) {
  SLUICE_CHECK(library != nullptr);
  void* const function = dlsym(library, name);
  if (function == nullptr) CheckFailed(__FILE__, __LINE__, "no such function in cuBLASLt", name);
  return reinterpret_cast<Function*>(function);
}

}  // namespace

bool OpenCublasLt(std::string* error) {
  // By name, as a program finds its libraries; else where it was when this was built.
  for (const char* file : {SLUICE_CUBLASLT_NAME, SLUICE_CUBLASLT_FILE}) {
    if (library == nullptr) library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) *error = std::string("cuBLASLt cannot be opened: ") + dlerror();
  return library != nullptr;
}

}  // namespace sluice

// What we call of cublasLt.h, handed on to the library. The number of parameters is the library's
// choice. NOLINTBEGIN(readability-function-size)
extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static auto* const function = sluice::Find<decltype(cublasLtCreate)>("cublasLtCreate");
  return function(handle);
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  static auto* const function = sluice::Find<decltype(cublasLtDestroy)>("cublasLtDestroy");
  return function(handle);
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  static auto* const function =
      sluice::Find<decltype(cublasLtGetStatusString)>("cublasLtGetStatusString");
  return function(status);
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t cols,
                                                 int64_t ld) {
  static auto* const function = sluice::Find<decltype(cublasLtMatrixLayoutInit_internal)>(
      "cublasLtMatrixLayoutInit_internal");
  return function(layout, size, type, rows, cols, ld);
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t size) {
  static auto* const function =
      sluice::Find<decltype(cublasLtMatrixLayoutSetAttribute)>("cublasLtMatrixLayoutSetAttribute");
  return function(layout, attribute, value, size);
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t product, size_t size,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  static auto* const function =
      sluice::Find<decltype(cublasLtMatmulDescInit_internal)>("cublasLtMatmulDescInit_internal");
  return function(product, size, compute, scale);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t size) {
  static auto* const function =
      sluice::Find<decltype(cublasLtMatmulDescSetAttribute)>("cublasLtMatmulDescSetAttribute");
  return function(product, attribute, value, size);
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference,
                                                     size_t size) {
  static auto* const function = sluice::Find<decltype(cublasLtMatmulPreferenceInit_internal)>(
      "cublasLtMatmulPreferenceInit_internal");
  return function(preference, size);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t size) {
  static auto* const function = sluice::Find<decltype(cublasLtMatmulPreferenceSetAttribute)>(
      "cublasLtMatmulPreferenceSetAttribute");
  return function(preference, attribute, value, size);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int asked,
                                              cublasLtMatmulHeuristicResult_t found[], int* count) {
  static auto* const function =
      sluice::Find<decltype(cublasLtMatmulAlgoGetHeuristic)>("cublasLtMatmulAlgoGetHeuristic");
  return function(handle, product, a, b, c, d, preference, asked, found, count);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t bytes,
                              cudaStream_t stream) {
  static auto* const function = sluice::Find<decltype(cublasLtMatmul)>("cublasLtMatmul");
  return function(handle, product, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout,
                  algorithm, workspace, bytes, stream);
}

}  // extern "C"
// NOLINTEND(readability-function-size)
