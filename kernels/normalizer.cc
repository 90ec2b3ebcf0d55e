#include "kernels/normalizer.h"

#include "kernels/check.h"

namespace sluice {

void CheckPadValues(const PadValuesArgs& args) {
  SLUICE_CHECK(args.rows >= 0 && args.heads >= 1);
  SLUICE_CHECK(args.dim >= 8 && args.dim % 8 == 0);
  SLUICE_CHECK(args.v_stride >= int64_t{args.heads} * args.dim && args.v_stride % 8 == 0);
}

void CheckNormalize(const NormalizeArgs& args) {
  SLUICE_CHECK(args.rows >= 0 && args.heads >= 1);
  SLUICE_CHECK(args.dim >= 8 && args.dim % 8 == 0);
  SLUICE_CHECK(args.eps >= 0.0F);
  SLUICE_CHECK(args.rows == 0 || args.x != args.y);
  SLUICE_CHECK(args.log_floor != nullptr || args.kind != NormalizeKind::kMlstm || args.rows == 0);
}

}  // namespace sluice
