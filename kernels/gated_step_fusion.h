// Which of the parts that a step may have (gated_step.h) its kernel does itself on a GPU: the bits
// are the same either way.
#pragma once

namespace sluice {

struct StepFusion {
  bool log_gate;
  bool norm;
};

}  // namespace sluice
