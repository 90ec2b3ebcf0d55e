#include "kernels/fold_states.h"

#include "kernels/check.h"

namespace sluice {

void CheckFoldStates(const FoldStatesArgs& args) {
  CheckGatedShape(args.shape);
  SLUICE_CHECK(args.count >= 0);
  SLUICE_CHECK(args.slot_stride >= args.shape.StateFloats());
}

}  // namespace sluice
