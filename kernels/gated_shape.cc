#include "kernels/gated_shape.h"

#include "kernels/check.h"

namespace sluice {
namespace {

void CheckDim(int32_t dim) {
  SLUICE_CHECK(dim >= kGatedDimMultiple && dim <= kMaxGatedDim && dim % kGatedDimMultiple == 0);
}

}  // namespace

void CheckGatedShape(const GatedShape& shape) {
  SLUICE_CHECK(shape.dtype == DType::kFloat32 || shape.dtype == DType::kBFloat16);
  SLUICE_CHECK(shape.heads >= 1 && shape.heads <= kMaxGatedHeads);
  SLUICE_CHECK(shape.kv_heads >= 1 && shape.heads % shape.kv_heads == 0);
  CheckDim(shape.key_dim);
  CheckDim(shape.value_dim);
}

void CheckGatedOperands(const GatedShape& shape, const GatedOperands& operands) {
  CheckGatedShape(shape);
  SLUICE_CHECK(operands.q_stride >= int64_t{shape.heads} * shape.key_dim);
  SLUICE_CHECK(operands.k_stride >= int64_t{shape.kv_heads} * shape.key_dim);
  SLUICE_CHECK(operands.v_stride >= int64_t{shape.kv_heads} * shape.value_dim);
  SLUICE_CHECK(operands.q_stride % 8 == 0);
  SLUICE_CHECK(operands.k_stride % 8 == 0);
  SLUICE_CHECK(operands.v_stride % 8 == 0);
  SLUICE_CHECK(operands.slot_stride >= shape.StateSize());
}

}  // namespace sluice
