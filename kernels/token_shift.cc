#include "kernels/token_shift.h"

#include "kernels/check.h"

namespace sluice {

void CheckTokenShift(const TokenShiftArgs& args) {
  SLUICE_CHECK(args.dim > 0 && args.dim % 8 == 0);
  SLUICE_CHECK(args.decode_rows >= 0 && args.segment_count >= 0);
  SLUICE_CHECK(args.rows >= args.decode_rows);
  SLUICE_CHECK(args.x_stride >= args.dim && args.slot_stride >= args.dim);
  SLUICE_CHECK(args.rows == 0 || (args.x != args.delta && args.x != args.mixed));
  SLUICE_CHECK(args.mixes >= 0 && args.mixes <= kMaxTokenMixes);
  SLUICE_CHECK(args.delta == nullptr || args.delta != args.mixed);
  SLUICE_CHECK(args.mixes == 0 ||
               (args.mu != nullptr && (args.rows == 0 || args.mixed != nullptr)));
}

}  // namespace sluice
