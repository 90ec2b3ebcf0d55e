// Opens cuBLASLt when a GPU is opened, not when the program starts.
//
// libcublasLt keeps 94 KiB of thread-local memory (13.0). Linked to a program, that comes out of
// the stack of every thread, and threads with small stacks, such as those that serve the metrics
// page, cannot be started. Opened later, it does not; and a program built for GPUs starts where
// there is no CUDA library at all.
#pragma once

#include <string>

namespace sluice {

// Whether the library is there; `*error` says why not. The functions of cublasLt.h may be called
// afterwards.
bool OpenCublasLt(std::string* error);

}  // namespace sluice
