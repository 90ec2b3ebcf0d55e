// Linear on the CPU.
//
// Up to kFewRows rows our own kernel runs: it reads each weight once for all rows, and gives a row
// the same bits whatever the number of rows and their content. More rows are cut into blocks of
// fixed sizes for oneDNN, and the rest goes to our own kernel, which is faster on so few. With a
// bfloat16 weight, x is rounded to bfloat16 if the processor multiplies that, else the weight is
// widened to float32 piece by piece. A float8 weight is widened to bfloat16, or to that float32, by
// the same pieces, or eight outputs at a time, so that the bits are those of a bfloat16 weight.
//
// Where it must not matter how many rows there are, our own kernel does all of them.
//
// Products of a batch come one after the other, each as if it were alone.
//
// oneDNN runs within tasks of our pool, one thread each; it never opens a parallel region.
//
// Nothing is allocated in steady state: a product of a shape not seen before builds its primitive
// and may grow the scratch memory; both are kept. At most kMaxProducts are kept; should more shapes
// come, all are built anew.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/linear.h"
#include "kernels/thread_pool.h"

namespace sluice {

class LinearCpu {
 public:
  static constexpr int32_t kFewRows = 63;  // fewer than the smallest block
  static constexpr int32_t kMaxProducts = 1024;

  // `pool` outlives this. `batch_invariant`: a row's bits do not depend on the number of rows.
  LinearCpu(ThreadPool& pool, bool batch_invariant);
  LinearCpu(const LinearCpu&) = delete;
  LinearCpu& operator=(const LinearCpu&) = delete;
  ~LinearCpu();

  void Run(const LinearArgs& args);

 private:
  class Products;

  void RunOne(const LinearArgs& args);

  ThreadPool& pool_;
  const bool batch_invariant_;
  std::unique_ptr<Products> products_;
};

// Whether the processor multiplies bfloat16.
bool CpuHasBFloat16();

}  // namespace sluice
