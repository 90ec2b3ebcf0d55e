#include "kernels/linear.h"

#include "kernels/check.h"

namespace sluice {

void CheckLinearBatch(const LinearArgs& args) {
  SLUICE_CHECK(args.batch >= 1 && args.batch <= 65535);
  if (args.batch == 1 || args.rows == 0) return;
  SLUICE_CHECK(!args.accumulate);
  SLUICE_CHECK(args.x_step >= 0 && args.x_step % 8 == 0);
  SLUICE_CHECK(args.weight_step >= 0 && args.weight_step % 8 == 0);
  SLUICE_CHECK(args.y_step > 0 && args.y_step % 8 == 0);
}

void CheckFloat8Weight(const LinearArgs& args) {
  SLUICE_CHECK((args.weight_dtype == DType::kFloat8) == (args.weight_scale != nullptr));
  if (args.weight_dtype != DType::kFloat8) return;
  SLUICE_CHECK(args.in_dim % 16 == 0 && args.out_dim % 8 == 0 && args.batch == 1);
}

}  // namespace sluice
