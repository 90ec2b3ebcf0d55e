// 100,000 tokens of a kind of gated linear attention, on a device and by the oracle side by side.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/device.h"
#include "tests/kernels/long_run.h"
#include "tests/kernels/random_data.h"

namespace sluice {

enum class LongNormalizer : uint8_t { kNone, kSum, kMlstm };

// Operands of kLongBlock tokens, [kLongBlock, kLongRows, ...].
struct GatedBlock {
  std::vector<float> q, k, v;
  std::vector<float> log_decay, value_log_decay, input_scale;
  std::vector<float> input, forget;  // of the mLSTM's gates
};

// The recurrence of a family, with gates as it makes them.
struct GatedLongKind {
  const char* name;
  GatedShape shape;  // of the model, without the normaliser's columns, in float32
  LongNormalizer normalizer;
  // Of the errors; of those of outputs that are bfloat16.
  double bound;
  double bfloat16_bound;
  // Fills in what the kind has besides v; q and k are there, drawn around zero.
  std::function<void(const GatedShape& shape, Random& random, GatedBlock* block)> draw;
};

std::vector<GatedLongKind> GatedLongKinds();

// Token by token, as decode steps do: mlstm_gates and the normaliser's ops where the kind has them,
// and gated_step.
LongRunErrors RunLong(Device& device, const GatedLongKind& kind, DType dtype);

}  // namespace sluice
