#include "kernels/gated_shape.h"

#include "kernels/check.h"

namespace sluice {
namespace {

void CheckDim(int32_t dim, int32_t most) {
  SLUICE_CHECK(dim >= kGatedDimMultiple && dim <= most && dim % kGatedDimMultiple == 0);
}

void CheckStateFormat(const StateFormat& format) {
  SLUICE_CHECK(format.type == StateType::kFloat32 || format.type == StateType::kFloat16 ||
               format.type == StateType::kInt8);
  SLUICE_CHECK(format.ring >= 0 && format.ring <= kMaxStateRing);
}

}  // namespace

void CheckGatedShape(const GatedShape& shape) {
  SLUICE_CHECK(shape.dtype == DType::kFloat32 || shape.dtype == DType::kBFloat16);
  SLUICE_CHECK(shape.heads >= 1 && shape.heads <= kMaxGatedHeads);
  SLUICE_CHECK(shape.kv_heads >= 1 && shape.heads % shape.kv_heads == 0);
  SLUICE_CHECK(shape.shared_keys >= 1 && shape.kv_heads % shape.shared_keys == 0);
  SLUICE_CHECK(shape.shared_keys == 1 || shape.heads == shape.kv_heads);
  CheckDim(shape.key_dim, kMaxGatedDim);
  CheckDim(shape.value_dim, kMaxGatedValueDim);
  CheckStateFormat(shape.state);
}

void CheckGatedOperands(const GatedShape& shape, const GatedOperands& operands) {
  CheckGatedShape(shape);
  SLUICE_CHECK(operands.q_stride >= int64_t{shape.QueryHeads()} * shape.key_dim);
  SLUICE_CHECK(operands.k_stride >= int64_t{shape.KeyHeads()} * shape.key_dim);
  SLUICE_CHECK(operands.v_stride >= int64_t{shape.kv_heads} * shape.value_dim);
  SLUICE_CHECK(operands.q_stride % 8 == 0);
  SLUICE_CHECK(operands.k_stride % 8 == 0);
  SLUICE_CHECK(operands.v_stride % 8 == 0);
  SLUICE_CHECK((operands.log_decay == nullptr) == (shape.gate == GateKind::kNone));
  SLUICE_CHECK((operands.value_log_decay != nullptr) == shape.value_gate);
  SLUICE_CHECK(operands.bonus == nullptr || shape.read == ReadKind::kExclusive);
  SLUICE_CHECK(operands.slot_stride >= shape.StateFloats());
}

}  // namespace sluice
