#include "kernels/mlstm_gates.h"

#include "kernels/check.h"

namespace sluice {

void CheckMlstmGates(const MlstmGatesArgs& args) {
  SLUICE_CHECK(args.heads >= 1);
  SLUICE_CHECK(args.decode_rows >= 0 && args.segment_count >= 0);
  SLUICE_CHECK(args.rows >= args.decode_rows);
  SLUICE_CHECK(args.input_stride >= args.heads && args.forget_stride >= args.heads);
  SLUICE_CHECK(args.slot_stride >= args.heads);
  SLUICE_CHECK(args.soft_cap >= 0.0F);
}

}  // namespace sluice
