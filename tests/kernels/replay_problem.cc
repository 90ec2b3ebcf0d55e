#include "tests/kernels/replay_problem.h"

#include <set>

#include "gtest/gtest.h"
#include "tests/kernels/replay_ref.h"
#include "tests/kernels/state_image.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

// Of a run, by head: the oracle's outputs as an op has them, [tokens, H, V], and its states.
struct RunOracle {
  std::vector<double> out;
  std::vector<double> state;  // [kv_heads, K, V]
  std::vector<int64_t> held;  // [kv_heads]; of an oracle without rings empty
};

// `oracle` makes a result of a GatedHead.
template <typename Oracle>
RunOracle OracleOf(const GatedProblem& p, size_t run, const Oracle& oracle) {
  const GatedShape& s = p.shape;
  const int64_t group = s.heads / s.kv_heads;
  const int64_t tokens = p.runs[run].length;
  const int64_t value_dim = s.value_dim;
  RunOracle all;
  all.out.resize(tokens * s.heads * value_dim);
  for (int32_t head = 0; head < s.heads; ++head) {
    const ref::ReplayResult want = oracle(HeadOf(p, run, head));
    for (int64_t t = 0; t < tokens; ++t) {
      std::copy_n(want.out.begin() + t * value_dim, value_dim,
                  all.out.begin() + (t * s.heads + head) * value_dim);
    }
    if (head % group != 0) continue;
    all.state.insert(all.state.end(), want.state.begin(), want.state.end());
    all.held.push_back(want.held);
  }
  return all;
}

template <typename Oracle>
void ExpectAgrees(const GatedProblem& p, const GatedOutcome& got, const ReplayTolerance& tolerance,
                  const Oracle& oracle) {
  const int64_t floats = p.shape.StateFloats();
  std::vector<double> out;
  for (size_t run = 0; run < p.runs.size(); ++run) {
    const RunOracle want = OracleOf(p, run, oracle);
    out.insert(out.end(), want.out.begin(), want.out.end());
    const std::vector<float> slot = Part(got.states, p.runs[run].slot * floats, floats);
    const std::vector<double> state = UnpackState(p.shape, slot);
    EXPECT_TRUE(Near(std::vector<float>(state.begin(), state.end()), want.state, tolerance.state))
        << "state of run " << run;
    for (size_t head = 0; head < want.held.size(); ++head) {
      if (want.held[head] < 0) continue;
      EXPECT_EQ(HeldTokens(p.shape, slot, head), want.held[head]) << "head " << head;
    }
  }
  EXPECT_TRUE(Near(got.out, out, tolerance.out)) << "out";
}

}  // namespace

std::string FormatName(const StateFormat& format) {
  constexpr const char* kNames[] = {"float32", "float16", "int8"};
  return std::string(kNames[static_cast<int>(format.type)]) + " ring " +
         std::to_string(format.ring);
}

GatedShape WithState(GatedShape shape, const StateFormat& format) {
  shape.state = format;
  return shape;
}

GatedOutcome RunReplay(Device& device, const GatedProblem& problem, int64_t begin, int64_t end,
                       const std::vector<float>& states) {
  const auto runs = static_cast<int64_t>(problem.runs.size());
  const int64_t cols = int64_t{problem.shape.heads} * problem.shape.value_dim;
  GatedOutcome all = {std::vector<float>(runs * (end - begin) * cols), states};
  for (int64_t t = begin; t < end; ++t) {
    const GatedOutcome step = RunGatedStep(device, TokenOf(problem, t, all.states));
    all.states = step.states;
    for (int64_t run = 0; run < runs; ++run) {
      std::copy_n(step.out.begin() + run * cols, cols,
                  all.out.begin() + (run * (end - begin) + t - begin) * cols);
    }
  }
  return all;
}

std::vector<float> RunFold(Device& device, const GatedShape& shape,
                           const std::vector<int32_t>& slots, const std::vector<float>& states) {
  constexpr int64_t kPadding = 8;
  const int64_t floats = shape.StateFloats();
  const Input slot(device, slots);
  const Output memory(device, Spread(states, floats, floats + kPadding));
  device.FoldStates({.shape = shape,
                     .count = static_cast<int32_t>(slots.size()),
                     .slots = slot.as<int32_t>(),
                     .states = memory.as<float>(),
                     .slot_stride = floats + kPadding});
  const std::vector<float> after = memory.Read<float>();
  EXPECT_TRUE(AllPoison(Columns(after, floats, kPadding, floats + kPadding)))
      << "written between slots";
  return Columns(after, 0, floats, floats + kPadding);
}

void ExpectAgreesWithReplay(const GatedProblem& problem, const GatedOutcome& got,
                            const ReplayTolerance& tolerance) {
  ExpectAgrees(problem, got, tolerance, [&](const ref::GatedHead& head) {
    return ref::GatedReplay(head, problem.shape.state);
  });
  const int64_t floats = problem.shape.StateFloats();
  std::set<int32_t> used;
  for (const TokenRun& run : problem.runs) used.insert(run.slot);
  for (int32_t slot = 0; slot < problem.slot_count; ++slot) {
    if (used.count(slot) > 0) continue;
    EXPECT_TRUE(SameState(Part(got.states, slot * floats, floats), problem.State(slot)))
        << "slot " << slot << " is not in the batch";
  }
}

void ExpectIsNearRecurrence(const GatedProblem& problem, const GatedOutcome& got,
                            Tolerance tolerance) {
  ExpectAgrees(problem, got, {tolerance, tolerance}, [](const ref::GatedHead& head) {
    const ref::GatedResult exact = ref::GatedRecurrent(head);
    return ref::ReplayResult{exact.out, exact.state, -1};
  });
}

void ExpectIsRoundedRecurrence(const GatedProblem& problem, const GatedOutcome& got,
                               const ReplayTolerance& tolerance) {
  ExpectAgrees(problem, got, tolerance, [&](const ref::GatedHead& head) {
    ref::GatedResult exact = ref::GatedRecurrent(head);
    ref::RoundMatrix(problem.shape.state.type, head.value_dim, &exact.state);
    return ref::ReplayResult{exact.out, exact.state, 0};
  });
}

bool SameState(const std::vector<float>& a, const std::vector<float>& b) {
  return AsBytes(a) == AsBytes(b);
}

}  // namespace sluice
