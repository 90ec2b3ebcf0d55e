// A step with the ops before and after it that it takes on gives the bits of the three alone.
#include <cstdint>
#include <functional>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/gated_problem.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/replay_problem.h"

namespace sluice {
namespace {

enum class Normed : uint8_t {
  kNot,
  kBare,       // no weight
  kWeighted,   // a weight
  kGated,      // and a gate
  kWide,       // a weight a head, and a gate
  kBareGated,  // a gate alone
  kGateFirst,
  kLayer,  // layer norm with bias
  kWhole,  // of all heads together
};

struct Case {
  int32_t rows;
  int32_t heads;
  int32_t kv_heads;
  int32_t key_dim;
  int32_t value_dim;
  int32_t rank;  // of the forget gate; 0: none
  Normed normed;
  GatedKind kind = {};
  StateFormat state = {};
  int32_t padding = 8;  // between rows of the low-rank activation
};

constexpr GatedKind kExclusive = {
    .name = "exclusive", .read = ReadKind::kExclusive, .input_scale = true, .bonus = true};
constexpr GatedKind kScalar = {.name = "scalar", .gate = GateKind::kScalar};
constexpr GatedKind kUngated = {.name = "none", .gate = GateKind::kNone};
constexpr GatedKind kConstant = {.name = "constant", .gate = GateKind::kConstant};
constexpr GatedKind kValueGate = {.name = "two gates", .value_gate = true};
constexpr GatedKind kSharedKeys = {
    .name = "shared keys", .gate = GateKind::kVector, .shared_keys = 2, .input_scale = true};

std::vector<Case> Table() {
  std::vector<Case> table = {
      // A tile a head, some tiles, the last one whole or not, and more than a cluster has.
      {1, 4, 4, 64, 64, 16, Normed::kGated},
      {3, 4, 4, 32, 16, 8, Normed::kGated},
      {3, 2, 2, 48, 80, 16, Normed::kWeighted},
      {3, 2, 2, 64, 192, 24, Normed::kGated},
      {1, 4, 4, 256, 512, 16, Normed::kGated},
      {3, 4, 4, 256, 512, 16, Normed::kGated},
      {3, 2, 2, 128, 496, 64, Normed::kGated},
      {3, 1, 1, 320, 256, 16, Normed::kBare},
      {2, 1, 1, 512, 272, 16, Normed::kBareGated},
      {3, 2, 2, 32, 528, 16, Normed::kGated},
      // Weights of the gate that a block has no room for.
      {2, 1, 1, 512, 64, 64, Normed::kGated},
      // A low-rank activation that is not aligned.
      {3, 2, 2, 32, 64, 16, Normed::kGated, {}, {}, 1},
      // Too many blocks for the norm, and for both.
      {20, 1, 1, 32, 512, 16, Normed::kGated},
      {40, 1, 1, 32, 512, 16, Normed::kGated},
      {150, 1, 1, 16, 64, 16, Normed::kGated},
      {300, 1, 1, 16, 64, 16, Normed::kGated},
      // Query heads that share a state.
      {3, 4, 2, 32, 80, 16, Normed::kGated},
      // One part alone.
      {3, 2, 2, 64, 128, 16, Normed::kNot},
      {3, 2, 2, 64, 128, 0, Normed::kGated},
      {3, 2, 2, 64, 128, 0, Normed::kNot},
      // Other recurrences.
      {3, 2, 2, 64, 128, 16, Normed::kGated, kExclusive},
      {3, 2, 2, 64, 128, 16, Normed::kGated, kValueGate},
      {3, 4, 4, 64, 128, 16, Normed::kGated, kSharedKeys},
      {3, 2, 2, 64, 128, 0, Normed::kGated, kScalar},
      {3, 2, 2, 64, 320, 0, Normed::kWeighted, kUngated},
      {3, 2, 2, 256, 512, 0, Normed::kGated, kConstant},
  };
  // Rounded states and rings: heads that some blocks share, whole or not, and that are many.
  for (const StateFormat& state :
       {StateFormat{StateType::kFloat16, 0}, StateFormat{StateType::kFloat16, 4},
        StateFormat{StateType::kInt8, 4}, StateFormat{StateType::kFloat32, 4}}) {
    table.push_back({1, 4, 4, 256, 512, 16, Normed::kGated, {}, state});
    table.push_back({24, 4, 4, 256, 512, 16, Normed::kGated, {}, state});
    table.push_back({3, 2, 2, 512, 48, 64, Normed::kWide, {}, state});
    table.push_back({2, 2, 2, 80, 528, 16, Normed::kBareGated, kExclusive, state});
    table.push_back({3, 2, 2, 32, 16, 8, Normed::kWeighted, {}, state});
    table.push_back({300, 1, 1, 16, 64, 16, Normed::kGated, {}, state});
    table.push_back({3, 4, 4, 64, 128, 16, Normed::kBare, kSharedKeys, state});
    table.push_back({3, 2, 2, 64, 128, 0, Normed::kGated, kScalar, state});
    table.push_back({3, 2, 2, 64, 128, 16, Normed::kNot, kValueGate, state});
    table.push_back({3, 2, 2, 32, 64, 16, Normed::kGated, {}, state, 1});
    table.push_back({3, 4, 2, 32, 80, 16, Normed::kGated, {}, state});
    for (const Normed normed : {Normed::kGateFirst, Normed::kLayer, Normed::kWhole}) {
      table.push_back({3, 2, 2, 32, 320, 16, normed, {}, state});
    }
  }
  for (const Normed normed :
       {Normed::kBare, Normed::kWeighted, Normed::kGated, Normed::kWide, Normed::kBareGated,
        Normed::kGateFirst, Normed::kLayer, Normed::kWhole}) {
    table.push_back({3, 2, 2, 32, 320, 16, normed});
  }
  return table;
}

// The operands of the parts, in the memory of a device.
class Parts {
 public:
  Parts(Device& device, const Case& c, DType dtype, Activation act)
      : case_(c),
        dtype_(dtype),
        act_(act),
        random_(900 + c.value_dim + c.rows),
        x_(device, random_.Normals(c.rows * XStride(), 1.0, dtype), dtype),
        gate_weight_(device, random_.Normals(GateDim() * c.rank, 0.5)),
        gate_bias_(device, random_.Normals(GateDim())),
        log_decay_(device, c.rows * GateDim() * 4),
        norm_weight_(device, random_.Normals(Width())),
        norm_bias_(device, random_.Normals(Width())),
        norm_gate_(device, random_.Normals(c.rows * GateStride(), 2.0, dtype), dtype) {}

  // `args` with the parts that the case has, which this object keeps.
  GatedStepArgs With(GatedStepArgs args, void* y) {
    if (case_.rank > 0) {
      gate_ = Gate();
      args.operands.log_decay = gate_.log_decay;
      args.log_gate = &gate_;
    }
    if (case_.normed != Normed::kNot) {
      norm_ = Norm(args.operands.out, y);
      args.norm = &norm_;
    }
    return args;
  }

 private:
  int64_t GateDim() const { return int64_t{case_.kv_heads} * case_.key_dim; }
  int64_t Width() const { return int64_t{case_.heads} * case_.value_dim; }
  int64_t XStride() const { return case_.rank + case_.padding; }
  int64_t GateStride() const { return Width() + 8; }

  LogGateArgs Gate() const {
    return {.dtype = dtype_,
            .rows = case_.rows,
            .rank = case_.rank,
            .dim = static_cast<int32_t>(GateDim()),
            .normalizer = 16,
            .clamp_min = -0.2F,
            .x = x_.data(),
            .x_stride = XStride(),
            .weight = gate_weight_.as<float>(),
            .bias = gate_bias_.as<float>(),
            .log_decay = log_decay_.as<float>()};
  }

  NormArgs Norm(const void* out, void* y) const {
    const Normed normed = case_.normed;
    const bool is_bare = normed == Normed::kBare || normed == Normed::kBareGated;
    const bool is_ungated = normed == Normed::kBare || normed == Normed::kWeighted;
    const bool is_whole = normed == Normed::kWhole;
    return {.dtype = dtype_,
            .rows = case_.rows,
            .groups = is_whole ? 1 : case_.heads,
            .dim = static_cast<int32_t>(is_whole ? Width() : case_.value_dim),
            .eps = 1e-5F,
            .x = out,
            .x_stride = Width(),
            .weight = is_bare ? nullptr : norm_weight_.as<float>(),
            .gate_act = act_,
            .gate = is_ungated ? nullptr : norm_gate_.data(),
            .gate_stride = GateStride(),
            .y = y,
            .y_stride = Width(),
            .center = normed == Normed::kLayer,
            .bias = normed == Normed::kLayer ? norm_bias_.as<float>() : nullptr,
            .wide_weight = normed == Normed::kWide,
            .gate_first = normed == Normed::kGateFirst};
  }

  const Case case_;
  const DType dtype_;
  const Activation act_;
  Random random_;
  const Input x_;
  const Input gate_weight_;
  const Input gate_bias_;
  const Output log_decay_;
  const Input norm_weight_;
  const Input norm_bias_;
  const Input norm_gate_;
  LogGateArgs gate_{};
  NormArgs norm_{};
};

class GatedStepFusedTest : public DeviceTest {
 protected:
  GatedProblem ProblemOf(const Case& c, DType dtype) const {
    GatedShape shape = ScaledShape(dtype, c.heads, c.kv_heads, c.key_dim, c.value_dim);
    shape.state = c.state;
    return MakeGatedProblem(shape, std::vector<TokenRun>(c.rows, {1, 0, 0}), Gates::kTypical,
                            910 + c.rows, c.kind);
  }

  // The three ops one by one.
  void Alone(GatedStepArgs args) {
    const LogGateArgs* const log_gate = args.log_gate;
    const NormArgs* const norm = args.norm;
    args.log_gate = nullptr;
    args.norm = nullptr;
    if (log_gate != nullptr) device().LogGate(*log_gate);
    device().GatedStep(args);
    if (norm != nullptr) device().Norm(*norm);
  }

  // Each by its own operands of the parts, the norm in place.
  void ExpectSameBits(const Case& c, DType dtype, Activation act, int32_t sink) {
    const GatedProblem p = ProblemOf(c, dtype);
    GatedOutcome outcomes[2];
    for (const bool fused : {false, true}) {
      Parts parts(device(), c, dtype, act);
      outcomes[fused ? 1 : 0] = RunGatedStep(device(), p, [&](GatedStepArgs args) {
        args.sink = sink;
        args = parts.With(args, args.operands.out);
        if (fused) {
          device().GatedStep(args);
        } else {
          Alone(args);
        }
        device().Synchronize();
      });
    }
    EXPECT_TRUE(SameBits(outcomes[0].out, outcomes[1].out));
    EXPECT_TRUE(SameState(outcomes[0].states, outcomes[1].states));
  }

  // What the last of many steps puts out, of which each takes its values and its low-rank
  // activation from what the one before has put out. With `waits` each is over before the next one
  // is queued.
  std::vector<float> Chained(DType dtype, const StateFormat& state, bool waits) {
    const Case c = {2, 4, 4, 256, 512, 16, Normed::kGated, {}, state};
    const int64_t width = int64_t{c.heads} * c.value_dim;
    Parts parts(device(), c, dtype, Activation::kSilu);
    const Output even(device(), c.rows * width * DTypeBytes(dtype));
    const Output odd(device(), c.rows * width * DTypeBytes(dtype));
    RunGatedStep(device(), ProblemOf(c, dtype), [&](const GatedStepArgs& args) {
      GatedStepArgs step = parts.With(args, even.data());
      LogGateArgs gate = *step.log_gate;
      NormArgs norm = *step.norm;
      step.log_gate = &gate;
      step.norm = &norm;
      for (int i = 0; i < 20; ++i) {
        norm.y = i % 2 == 0 ? even.data() : odd.data();
        device().GatedStep(step);
        if (waits) device().Synchronize();
        gate.x = step.operands.v = norm.y;
        gate.x_stride = step.operands.v_stride = width;
      }
      device().Synchronize();
    });
    return odd.Read(dtype);
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, GatedStepFusedTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(GatedStepFusedTest, GivesTheBitsOfTheOpsAlone) {
  for (const Case& c : Table()) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message()
                   << DTypeName(dtype) << " B=" << c.rows << " H=" << c.heads << "/" << c.kv_heads
                   << " K=" << c.key_dim << " V=" << c.value_dim << " rank " << c.rank << " norm "
                   << static_cast<int>(c.normed) << " " << c.kind.name << " state "
                   << static_cast<int>(c.state.type) << " ring " << c.state.ring);
      ExpectSameBits(c, dtype, Activation::kSilu, -1);
    }
  }
}

TEST_P(GatedStepFusedTest, GivesThemWhateverActivatesTheGate) {
  for (const Activation act : {Activation::kNone, Activation::kSigmoid, Activation::kRelu,
                               Activation::kGelu, Activation::kTanh, Activation::kElu1}) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(static_cast<int>(act));
      for (const StateFormat& state : {StateFormat{}, StateFormat{StateType::kFloat16, 4}}) {
        ExpectSameBits({3, 2, 2, 32, 320, 16, Normed::kGated, {}, state}, dtype, act, -1);
      }
    }
  }
}

// Zeros, which a norm makes zeros of either sign.
TEST_P(GatedStepFusedTest, GivesThemToRowsOfTheSink) {
  for (const Normed normed : {Normed::kNot, Normed::kWeighted, Normed::kGated}) {
    for (const int32_t value_dim : {64, 320, 512}) {
      for (const DType dtype : ActivationTypes()) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(normed) << " V=" << value_dim);
        ExpectSameBits({5, 2, 2, 32, value_dim, 16, normed}, dtype, Activation::kSilu, 2);
        ExpectSameBits({5, 2, 2, 256, value_dim, 16, normed, {}, {StateType::kFloat16, 4}}, dtype,
                       Activation::kSilu, 2);
      }
    }
  }
}

// Where the norm's results are others than the step's.
TEST_P(GatedStepFusedTest, NormsIntoOtherMemory) {
  const Case c = {3, 2, 2, 64, 192, 16, Normed::kGated};
  for (const DType dtype : ActivationTypes()) {
    const GatedProblem p = ProblemOf(c, dtype);
    Parts parts(device(), c, dtype, Activation::kSilu);
    const int64_t bytes = int64_t{c.rows} * c.heads * c.value_dim * DTypeBytes(dtype);
    const Output want(device(), bytes);
    const Output got(device(), bytes);
    RunGatedStep(device(), p, [&](const GatedStepArgs& args) {
      Alone(parts.With(args, want.data()));
      device().Synchronize();
    });
    RunGatedStep(device(), p, [&](const GatedStepArgs& args) {
      device().GatedStep(parts.With(args, got.data()));
      device().Synchronize();
    });
    EXPECT_TRUE(SameBits(want.Read(dtype), got.Read(dtype)));
  }
}

TEST_P(GatedStepFusedTest, FollowsTheStepBefore) {
  for (const StateFormat& state : {StateFormat{}, StateFormat{StateType::kFloat16, 4}}) {
    for (const DType dtype : ActivationTypes()) {
      EXPECT_TRUE(SameBits(Chained(dtype, state, false), Chained(dtype, state, true)));
    }
  }
}

TEST_P(GatedStepFusedTest, TakesNoRows) {
  const Case c = {0, 2, 2, 32, 64, 16, Normed::kGated};
  Parts parts(device(), c, DType::kFloat32, Activation::kSilu);
  const GatedProblem p = ProblemOf(c, DType::kFloat32);
  const GatedOutcome got = RunGatedStep(device(), p, [&](const GatedStepArgs& args) {
    device().GatedStep(parts.With(args, args.operands.out));
  });
  EXPECT_TRUE(SameBits(got.states, p.states));
}

using GatedStepFusedDeathTest = GatedStepFusedTest;
INSTANTIATE_TEST_SUITE_P(Devices, GatedStepFusedDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(GatedStepFusedDeathTest, RefusesPartsOfAnotherStep) {
  const Case c = {2, 2, 2, 32, 64, 16, Normed::kGated};
  const GatedProblem p = ProblemOf(c, DType::kFloat32);
  Parts parts(device(), c, DType::kFloat32, Activation::kSilu);
  const auto run = [&](const std::function<void(GatedStepArgs&, LogGateArgs&, NormArgs&)>& change) {
    RunGatedStep(device(), p, [&](GatedStepArgs args) {
      args = parts.With(args, args.operands.out);
      LogGateArgs gate = *args.log_gate;
      NormArgs norm = *args.norm;
      args.log_gate = &gate;
      args.norm = &norm;
      change(args, gate, norm);
      device().GatedStep(args);
      device().Synchronize();
    });
  };
  run([](GatedStepArgs&, LogGateArgs&, NormArgs&) {});
  EXPECT_DEATH(run([](GatedStepArgs& args, LogGateArgs&, NormArgs& norm) {
                 norm.y = const_cast<void*>(args.operands.v);
               }),
               kCheckFailed);
  EXPECT_DEATH(run([](GatedStepArgs&, LogGateArgs& gate, NormArgs& norm) {
                 norm.y = const_cast<void*>(gate.x);
               }),
               kCheckFailed);
  EXPECT_DEATH(run([](GatedStepArgs&, LogGateArgs& gate, NormArgs&) { gate.clamp_min = 1; }),
               kCheckFailed);
  EXPECT_DEATH(run([](GatedStepArgs&, LogGateArgs& gate, NormArgs&) { gate.x_stride = 8; }),
               kCheckFailed);
  EXPECT_DEATH(run([](GatedStepArgs&, LogGateArgs& gate, NormArgs&) { gate.rows = 1; }),
               kCheckFailed);
  EXPECT_DEATH(run([](GatedStepArgs&, LogGateArgs& gate, NormArgs&) { gate.dim = 32; }),
               kCheckFailed);
  EXPECT_DEATH(run([](GatedStepArgs& args, LogGateArgs&, NormArgs&) {
                 args.operands.log_decay = static_cast<const float*>(args.operands.out);
               }),
               kCheckFailed);
  EXPECT_DEATH(run([](GatedStepArgs&, LogGateArgs&, NormArgs& norm) { norm.rows = 1; }),
               kCheckFailed);
  EXPECT_DEATH(run([](GatedStepArgs&, LogGateArgs&, NormArgs& norm) { norm.x = norm.gate; }),
               kCheckFailed);
  EXPECT_DEATH(run([](GatedStepArgs&, LogGateArgs&, NormArgs& norm) { norm.groups = 1; }),
               kCheckFailed);
  EXPECT_DEATH(run([](GatedStepArgs&, LogGateArgs&, NormArgs& norm) { norm.eps = 0; }),
               kCheckFailed);
}

}  // namespace
}  // namespace sluice
