// Which of the parts that a step may have (gated_step.h) its kernel does itself on a GPU: the bits
// are the same either way.
#pragma once

#include "kernels/cuda_ops.h"
#include "kernels/gated_step.h"

namespace sluice {

struct StepFusion {
  bool log_gate;
  bool norm;
};

// Whether there is a gate that a kernel can make: one that reads 16 bytes of its operand at a time.
inline bool HasGateToMake(const GatedStepArgs& args) {
  return args.log_gate != nullptr && args.shape.heads == args.shape.kv_heads &&
         IsAligned16(args.log_gate->x) && args.log_gate->x_stride % 8 == 0;
}

// Whether there is a norm that whoever has a head's outputs can do: of each head alone, by its mean
// square, with the gate behind it.
inline bool HasNormOfHeads(const GatedStepArgs& args) {
  return args.norm != nullptr && args.shape.heads == args.shape.kv_heads &&
         args.norm->dim == args.shape.value_dim && !args.norm->center &&
         args.norm->bias == nullptr && !args.norm->gate_first;
}

}  // namespace sluice
