#include "kernels/decay.h"

#include "kernels/check.h"

namespace sluice {

void CheckDecay(const DecayArgs& args) {
  SLUICE_CHECK(args.rows >= 0 && args.dim >= 1);
  SLUICE_CHECK(args.x_stride >= args.dim);
  SLUICE_CHECK(args.normalizer > 0.0F && args.clamp_min <= 0.0F);
  SLUICE_CHECK(args.dt_min >= 0.0F && args.dt_max >= args.dt_min);
  SLUICE_CHECK(args.a_log != nullptr || args.formula != DecayFormula::kSoftplus);
  if (args.complement != nullptr) {
    SLUICE_CHECK(args.formula == DecayFormula::kLowerBound);
    SLUICE_CHECK(args.complement_stride >= args.dim);
  }
  if (args.input_scale != nullptr) {
    SLUICE_CHECK(args.formula == DecayFormula::kLogSigmoid ||
                 args.formula == DecayFormula::kSoftplus);
  }
}

}  // namespace sluice
