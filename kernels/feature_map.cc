#include "kernels/feature_map.h"

#include "kernels/check.h"

namespace sluice {

void CheckFeatureMap(const FeatureMapArgs& args) {
  SLUICE_CHECK(args.rows >= 0 && args.heads >= 1);
  SLUICE_CHECK(args.dim >= 8 && args.dim <= kMaxFeatureDim && args.dim % 8 == 0);
  const int32_t features = FeatureDim(args.kind, args.dim);
  SLUICE_CHECK(features <= kMaxFeatureDim);
  SLUICE_CHECK(args.x_stride >= int64_t{args.heads} * args.dim && args.x_stride % 8 == 0);
  SLUICE_CHECK(args.y_stride >= int64_t{args.heads} * features && args.y_stride % 8 == 0);
  SLUICE_CHECK(args.sum_eps >= 0.0F);
  SLUICE_CHECK(args.rows == 0 || args.x != args.y);
}

}  // namespace sluice
