#include "kernels/lerp.h"

#include "kernels/check.h"

namespace sluice {

void CheckLerp(const LerpArgs& args) {
  SLUICE_CHECK(args.rows >= 0);
  SLUICE_CHECK(args.dim > 0 && args.dim % 8 == 0);
  SLUICE_CHECK(args.x_stride >= args.dim && args.y_stride >= args.dim);
  SLUICE_CHECK(args.mix == nullptr || args.mix_stride >= args.dim);
  SLUICE_CHECK(args.count >= 1 && args.count <= kMaxLerps);
  SLUICE_CHECK(args.count == 1 || (args.mix_step % 8 == 0 && args.y_step % 8 == 0));
  if (args.mix != nullptr && args.mix == args.y) {
    SLUICE_CHECK(args.mix_stride == args.y_stride);
    SLUICE_CHECK(args.count == 1 || args.mix_step == args.y_step);
  }
}

}  // namespace sluice
