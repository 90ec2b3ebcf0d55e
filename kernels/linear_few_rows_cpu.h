// Products of a few rows on the CPU, made of eight outputs at a time.
#pragma once

#include <cstdint>

#include "kernels/linear.h"
#include "kernels/thread_pool.h"

namespace sluice {

// Some rows of x from `row` on, against the eight outputs from `output` on.
using LinearEight = void (*)(const LinearArgs& args, int64_t row, int64_t output);

// What operands of one type are multiplied by, on one instruction set. The order of a sum is the
// same in all of them.
struct LinearEights {
  LinearEight first[4];  // of 1, 2, 3 and 4 rows; fetches the weight of the next eight outputs
  LinearEight four;      // of four rows, whose weight is in the nearest cache
};

// Of bfloat16 operands, by the processor's own dot product; only where CpuHasBFloat16() says so.
LinearEights LinearEightsOfDots();

// 1 to LinearCpu::kFewRows rows, x as float32, or as bfloat16 where CpuHasBFloat16().
void LinearFewRowsCpu(const LinearArgs& args, ThreadPool& pool);

}  // namespace sluice
