// A batch for gated linear attention, run by either form on a device, and by the oracle.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/device.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/gated_ref.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/packed_rows.h"

namespace sluice {

enum class Gates : uint8_t {
  kTypical,    // logsigmoid(normal) / 16, as GLA makes them
  kZero,       // nothing is forgotten
  kStrong,     // exp(-16) a step in every channel
  kMixed,      // from channel to channel and step to step: none, weak or exp(-16)
  kUnbounded,  // the same, down to a decay of 0
};

// What a problem has of what the op can do. `shape` of MakeGatedProblem says the sizes.
struct GatedKind {
  const char* name = "vector";
  GateKind gate = GateKind::kVector;
  bool value_gate = false;
  ReadKind read = ReadKind::kInclusive;
  int32_t shared_keys = 1;
  bool input_scale = false;
  bool bonus = false;
};

// Each of the features alone or as some model has it. For 4 state heads, and 4 heads where keys are
// shared.
std::vector<GatedKind> AllGatedKinds();

// Of a vector gate, and with the scale that its keys have in a model.
GatedShape ScaledShape(DType dtype, int32_t heads, int32_t kv_heads, int32_t key_dim,
                       int32_t value_dim);

struct GatedProblem {
  GatedShape shape;
  std::vector<TokenRun> runs;
  int32_t slot_count;
  int32_t first_row = 0;  // rows before the runs, not to be touched
  bool wide = false;      // q, k and v are columns of one matrix
  // By token of the runs, without the rows before them.
  std::vector<float> q;                // [tokens, H / shared_keys, K]
  std::vector<float> k;                // [tokens, kv_heads / shared_keys, K]
  std::vector<float> v;                // [tokens, kv_heads, V]
  std::vector<float> log_decay;        // [tokens, GateCols], or [kv_heads] if constant
  std::vector<float> states;           // [slot_count, StateFloats]
  std::vector<float> value_log_decay;  // [tokens, kv_heads, V], or empty
  std::vector<float> input_scale;      // [tokens, kv_heads], or empty
  std::vector<float> bonus;            // [kv_heads, K], or empty

  int64_t Tokens() const;
  std::vector<float> State(int32_t slot) const;
};

struct GatedOutcome {
  std::vector<float> out;     // [tokens, H, V]
  std::vector<float> states;  // [slot_count, StateFloats]
};

// Random operands, and a random state in every slot, of which the first is not used. Run i has slot
// runs.size() - i.
GatedProblem MakeGatedProblem(const GatedShape& shape, const std::vector<TokenRun>& runs,
                              Gates gates, uint64_t seed, const GatedKind& kind = {});

// `count` tokens of run `run` from its token `begin` on, as a problem with the one slot 0, which
// holds `state`.
GatedProblem PartOf(const GatedProblem& problem, size_t run, int64_t begin, int64_t count,
                    const std::vector<float>& state);

// Token `token` of every run, one row each, over the states of all slots.
GatedProblem TokenOf(const GatedProblem& problem, int64_t token, const std::vector<float>& states);

// Fail the test if anything is written that is not to be.
GatedOutcome RunGatedChunk(Device& device, const GatedProblem& problem);
GatedOutcome RunGatedStep(Device& device, const GatedProblem& problem);  // runs of one token
// The same by `step`, which gets what GatedStep would.
GatedOutcome RunGatedStep(Device& device, const GatedProblem& problem,
                          const std::function<void(const GatedStepArgs&)>& step);

// Operands of one row of two heads of 16 x 16, all within `memory`, which has 1000 floats.
GatedOperands PlainOperands(const Output& memory, int64_t stride);

// Head `head` of run `run` as the oracle takes it.
ref::GatedHead HeadOf(const GatedProblem& problem, size_t run, int32_t head);

// By the oracle's recurrent form. Slots that are not used keep their bits.
void ExpectAgreesWithOracle(const GatedProblem& problem, const GatedOutcome& got,
                            Tolerance tolerance);

}  // namespace sluice
