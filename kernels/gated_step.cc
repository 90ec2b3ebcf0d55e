#include "kernels/gated_step.h"

#include "kernels/check.h"

namespace sluice {
namespace {

void CheckLogGateOf(const GatedStepArgs& args) {
  const GatedShape& s = args.shape;
  const LogGateArgs& gate = *args.log_gate;
  SLUICE_CHECK(gate.dtype == s.dtype && gate.rows == args.rows);
  SLUICE_CHECK(s.gate == GateKind::kVector && gate.dim == s.GateCols());
  SLUICE_CHECK(gate.log_decay == args.operands.log_decay);
}

void CheckNormOf(const GatedStepArgs& args) {
  const int64_t width = int64_t{args.shape.heads} * args.shape.value_dim;
  const NormArgs& norm = *args.norm;
  SLUICE_CHECK(norm.dtype == args.shape.dtype && norm.rows == args.rows);
  SLUICE_CHECK(int64_t{norm.groups} * norm.dim == width);
  SLUICE_CHECK(norm.x == args.operands.out && norm.x_stride == width);
  const GatedOperands& op = args.operands;
  SLUICE_CHECK(norm.y != op.q && norm.y != op.k && norm.y != op.v);
  SLUICE_CHECK(norm.y != op.log_decay && norm.y != op.value_log_decay);
  SLUICE_CHECK(args.log_gate == nullptr || norm.y != args.log_gate->x);
}

}  // namespace

void CheckGatedStep(const GatedStepArgs& args) {
  CheckGatedOperands(args.shape, args.operands);
  SLUICE_CHECK(args.rows >= 0);
  if (args.log_gate != nullptr) CheckLogGateOf(args);
  if (args.norm != nullptr) CheckNormOf(args);
}

}  // namespace sluice
