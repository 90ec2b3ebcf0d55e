#include "tests/kernels/gated_problem.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "gtest/gtest.h"
#include "kernels/check.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/log_gate_ref.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/state_image.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

// Floats between the slots, fewer than a cache line so that slots are not aligned to one.
constexpr int64_t kSlotPadding = 8;
// Numbers after q, k and v in a row of the wide matrix.
constexpr int64_t kWidePadding = 8;

float RandomGate(Gates gates, Random& random) {
  switch (gates) {
    case Gates::kZero:
      return 0;
    case Gates::kStrong:
      return -16;
    case Gates::kTypical:
      return static_cast<float>(ref::LogSigmoid(random.Normal()) / 16);
    case Gates::kMixed: {
      constexpr float kChoices[] = {0, -1e-4F, -0.03F, -1, -16};
      return kChoices[random.Below(5)];
    }
    case Gates::kUnbounded: {
      constexpr float kChoices[] = {0, -1e-3F, -50, -1e4F, -INFINITY};
      return kChoices[random.Below(5)];
    }
  }
  return std::nanf("");
}

std::vector<float> RandomGates(int64_t count, Gates gates, Random& random) {
  std::vector<float> values(count);
  for (float& gate : values) gate = RandomGate(gates, random);
  return values;
}

int64_t QueryCols(const GatedShape& s) { return int64_t{s.QueryHeads()} * s.key_dim; }
int64_t KeyCols(const GatedShape& s) { return int64_t{s.KeyHeads()} * s.key_dim; }
int64_t ValueCols(const GatedShape& s) { return int64_t{s.kv_heads} * s.value_dim; }
int64_t OutCols(const GatedShape& s) { return int64_t{s.heads} * s.value_dim; }

// Poison for the rows before the runs: whoever reads them shows it.
std::vector<float> WithRowsBefore(const std::vector<float>& dense, int64_t rows, int64_t cols) {
  std::vector<float> all(rows * cols, kPoisonNumber);
  all.insert(all.end(), dense.begin(), dense.end());
  return all;
}

// An op wants an address of what its shape says that there is, even of no rows.
std::vector<float> KeyGates(const GatedProblem& p) {
  std::vector<float> gates = WithRowsBefore(p.log_decay, p.first_row, p.shape.GateCols());
  if (gates.empty() && p.shape.gate != GateKind::kNone) gates.push_back(kPoisonNumber);
  return gates;
}

// Empty if there is none.
std::vector<float> RowsBefore(const GatedProblem& p, const std::vector<float>& dense,
                              int64_t cols) {
  return dense.empty() ? dense : WithRowsBefore(dense, p.first_row, cols);
}

float LogDecay(const GatedProblem& p, int64_t token, int64_t kv_head, int64_t channel) {
  const int64_t head = token * p.shape.kv_heads + kv_head;
  switch (p.shape.gate) {
    case GateKind::kNone:
      return 0;
    case GateKind::kConstant:
      return p.log_decay[kv_head];
    case GateKind::kScalar:
      return p.log_decay[head];
    case GateKind::kVector:
      return p.log_decay[head * p.shape.key_dim + channel];
  }
  return std::nanf("");
}

// q, k and v side by side.
std::vector<float> Wide(const GatedProblem& p) {
  const std::vector<const std::vector<float>*> parts = {&p.q, &p.k, &p.v};
  const int64_t cols[] = {QueryCols(p.shape), KeyCols(p.shape), ValueCols(p.shape)};
  std::vector<float> wide;
  for (int64_t t = 0; t < p.Tokens(); ++t) {
    for (size_t i = 0; i < parts.size(); ++i) {
      const auto row = parts[i]->begin() + t * cols[i];
      wide.insert(wide.end(), row, row + cols[i]);
    }
    wide.insert(wide.end(), kWidePadding, kPoisonNumber);
  }
  return wide;
}

int64_t WideCols(const GatedShape& s) {
  return QueryCols(s) + KeyCols(s) + ValueCols(s) + kWidePadding;
}

// The problem's operands in the memory of a device.
class GatedMemory {
 public:
  GatedMemory(Device& device, const GatedProblem& p)
      : shape_(p.shape),
        first_row_(p.first_row),
        is_wide_(p.wide),
        wide_(
            device,
            p.wide ? WithRowsBefore(Wide(p), p.first_row, WideCols(p.shape)) : std::vector<float>(),
            p.shape.dtype),
        q_(device, WithRowsBefore(p.q, p.first_row, QueryCols(p.shape)), p.shape.dtype),
        k_(device, WithRowsBefore(p.k, p.first_row, KeyCols(p.shape)), p.shape.dtype),
        v_(device, WithRowsBefore(p.v, p.first_row, ValueCols(p.shape)), p.shape.dtype),
        log_decay_(device, KeyGates(p)),
        value_log_decay_(device, RowsBefore(p, p.value_log_decay, ValueCols(p.shape))),
        input_scale_(device, RowsBefore(p, p.input_scale, p.shape.kv_heads)),
        bonus_(device, p.bonus),
        states_(device, Spread(p.states, p.shape.StateFloats(), SlotStride())),
        out_(device, (p.first_row + p.Tokens()) * OutCols(p.shape) * DTypeBytes(p.shape.dtype)) {}

  GatedOperands Operands() const {
    const DType dtype = shape_.dtype;
    const int64_t keys = QueryCols(shape_);
    const int64_t values = keys + KeyCols(shape_);
    GatedOperands operands = {.q = is_wide_ ? wide_.data() : q_.data(),
                              .k = is_wide_ ? wide_.at(keys, dtype) : k_.data(),
                              .v = is_wide_ ? wide_.at(values, dtype) : v_.data(),
                              .q_stride = QueryCols(shape_),
                              .k_stride = KeyCols(shape_),
                              .v_stride = ValueCols(shape_),
                              .log_decay = log_decay_.as<float>(),
                              .value_log_decay = value_log_decay_.as<float>(),
                              .input_scale = input_scale_.as<float>(),
                              .bonus = bonus_.as<float>(),
                              .states = states_.as<float>(),
                              .slot_stride = SlotStride(),
                              .out = out_.data()};
    if (is_wide_) {
      operands.q_stride = operands.k_stride = operands.v_stride = WideCols(shape_);
    }
    return operands;
  }

  GatedOutcome Read() const {
    const int64_t size = shape_.StateFloats();
    const std::vector<float> states = states_.Read<float>();
    EXPECT_TRUE(AllPoison(Columns(states, size, kSlotPadding, SlotStride())))
        << "written between slots";
    const std::vector<float> out = out_.Read(shape_.dtype);
    const int64_t before = first_row_ * OutCols(shape_);
    EXPECT_TRUE(AllPoison(Part(out, 0, before))) << "written rows outside the segments";
    return {Part(out, before, out.size() - before), Columns(states, 0, size, SlotStride())};
  }

 private:
  int64_t SlotStride() const { return shape_.StateFloats() + kSlotPadding; }

  const GatedShape shape_;
  const int64_t first_row_;
  const bool is_wide_;
  const Input wide_;
  const Input q_;
  const Input k_;
  const Input v_;
  const Input log_decay_;
  const Input value_log_decay_;
  const Input input_scale_;
  const Input bonus_;
  const Output states_;
  const Output out_;
};

}  // namespace

int64_t GatedProblem::Tokens() const {
  int64_t tokens = 0;
  for (const TokenRun& run : runs) tokens += run.length;
  return tokens;
}

std::vector<float> GatedProblem::State(int32_t slot) const {
  return Part(states, slot * shape.StateFloats(), shape.StateFloats());
}

std::vector<GatedKind> AllGatedKinds() {
  constexpr ReadKind kExclusive = ReadKind::kExclusive;
  return {
      {.name = "vector"},
      {.name = "none", .gate = GateKind::kNone},
      {.name = "constant", .gate = GateKind::kConstant},
      {.name = "scalar", .gate = GateKind::kScalar},
      {.name = "scaled", .input_scale = true},
      {.name = "shared keys", .gate = GateKind::kScalar, .shared_keys = 2, .input_scale = true},
      {.name = "all keys shared", .shared_keys = 4},
      {.name = "exclusive", .read = kExclusive},
      {.name = "bonus", .read = kExclusive, .bonus = true},
      {.name = "scaled bonus",
       .gate = GateKind::kConstant,
       .read = kExclusive,
       .shared_keys = 2,
       .input_scale = true,
       .bonus = true},
      {.name = "value gate", .gate = GateKind::kNone, .value_gate = true},
      {.name = "two gates", .value_gate = true},
      {.name = "everything",
       .gate = GateKind::kScalar,
       .value_gate = true,
       .read = kExclusive,
       .shared_keys = 4,
       .input_scale = true,
       .bonus = true},
  };
}

GatedShape ScaledShape(DType dtype, int32_t heads, int32_t kv_heads, int32_t key_dim,
                       int32_t value_dim) {
  return {dtype, heads, kv_heads, key_dim, value_dim, 1 / std::sqrt(static_cast<float>(key_dim))};
}

GatedProblem MakeGatedProblem(const GatedShape& shape, const std::vector<TokenRun>& runs,
                              Gates gates, uint64_t seed, const GatedKind& kind) {
  Random random(seed);
  GatedProblem p = {.shape = shape, .runs = runs};
  GatedShape& s = p.shape;
  s.gate = kind.gate;
  s.value_gate = kind.value_gate;
  s.read = kind.read;
  s.shared_keys = kind.shared_keys;
  p.slot_count = static_cast<int32_t>(runs.size()) + 1;
  for (size_t i = 0; i < runs.size(); ++i) p.runs[i].slot = static_cast<int32_t>(runs.size() - i);
  const int64_t tokens = p.Tokens();
  p.q = random.Normals(tokens * QueryCols(s), 1.0, s.dtype);
  p.k = random.Normals(tokens * KeyCols(s), 1.0, s.dtype);
  p.v = random.Normals(tokens * ValueCols(s), 1.0, s.dtype);
  const bool is_constant = s.gate == GateKind::kConstant;
  p.log_decay = RandomGates(is_constant ? s.kv_heads : tokens * s.GateCols(), gates, random);
  for (int32_t slot = 0; slot < p.slot_count; ++slot) {
    const std::vector<float> state = PackState(s, random.Normals(s.StateSize(), 2.0));
    p.states.insert(p.states.end(), state.begin(), state.end());
  }
  if (kind.value_gate) p.value_log_decay = RandomGates(tokens * ValueCols(s), gates, random);
  if (kind.input_scale) p.input_scale = random.Normals(tokens * s.kv_heads);
  if (kind.bonus) p.bonus = random.Normals(int64_t{s.kv_heads} * s.key_dim);
  return p;
}

GatedProblem PartOf(const GatedProblem& problem, size_t run, int64_t begin, int64_t count,
                    const std::vector<float>& state) {
  int64_t token = begin;
  for (size_t i = 0; i < run; ++i) token += problem.runs[i].length;
  const auto rows = [&](const std::vector<float>& all, int64_t cols) {
    return all.empty() ? all : Part(all, token * cols, count * cols);
  };
  const bool is_constant = problem.shape.gate == GateKind::kConstant;
  const auto position = static_cast<int32_t>(problem.runs[run].position + begin);
  return {.shape = problem.shape,
          .runs = {{static_cast<int32_t>(count), position, 0}},
          .slot_count = 1,
          .first_row = 0,
          .wide = problem.wide,
          .q = rows(problem.q, QueryCols(problem.shape)),
          .k = rows(problem.k, KeyCols(problem.shape)),
          .v = rows(problem.v, ValueCols(problem.shape)),
          .log_decay =
              is_constant ? problem.log_decay : rows(problem.log_decay, problem.shape.GateCols()),
          .states = state,
          .value_log_decay = rows(problem.value_log_decay, ValueCols(problem.shape)),
          .input_scale = rows(problem.input_scale, problem.shape.kv_heads),
          .bonus = problem.bonus};
}

GatedProblem TokenOf(const GatedProblem& problem, int64_t token, const std::vector<float>& states) {
  GatedProblem one = problem;
  one.states = states;
  for (TokenRun& run : one.runs) {
    run.position += static_cast<int32_t>(token);
    run.length = 1;
  }
  const auto rows = [&](const std::vector<float>& all, int64_t cols, std::vector<float>* to) {
    to->clear();
    int64_t row = token;
    for (const TokenRun& run : problem.runs) {
      const std::vector<float> part =
          Part(all, all.empty() ? 0 : row * cols, all.empty() ? 0 : cols);
      to->insert(to->end(), part.begin(), part.end());
      row += run.length;
    }
  };
  const GatedShape& s = problem.shape;
  rows(problem.q, QueryCols(s), &one.q);
  rows(problem.k, KeyCols(s), &one.k);
  rows(problem.v, ValueCols(s), &one.v);
  if (s.gate != GateKind::kConstant) rows(problem.log_decay, s.GateCols(), &one.log_decay);
  rows(problem.value_log_decay, ValueCols(s), &one.value_log_decay);
  rows(problem.input_scale, s.kv_heads, &one.input_scale);
  return one;
}

GatedOutcome RunGatedChunk(Device& device, const GatedProblem& problem) {
  const PackedRows packed = PackRuns(problem.runs, problem.first_row);
  const Input segments(device, packed.segments);
  const Input chunks(device, packed.chunks);
  const auto chunk_count = static_cast<int32_t>(packed.chunks.size());
  const auto segment_count = static_cast<int32_t>(packed.segments.size());
  const Output workspace(
      device, device.GatedChunkWorkspaceBytes(problem.shape, segment_count, chunk_count));
  const GatedMemory memory(device, problem);
  device.GatedChunk({.shape = problem.shape,
                     .segment_count = segment_count,
                     .segments = segments.as<Segment>(),
                     .chunk_count = chunk_count,
                     .chunks = chunks.as<ChunkSpan>(),
                     .operands = memory.Operands(),
                     .workspace = workspace.data()});
  workspace.ReadBytes();  // Looks at the guards.
  return memory.Read();
}

GatedOutcome RunGatedStep(Device& device, const GatedProblem& problem) {
  return RunGatedStep(device, problem, [&](const GatedStepArgs& args) { device.GatedStep(args); });
}

GatedOutcome RunGatedStep(Device& device, const GatedProblem& problem,
                          const std::function<void(const GatedStepArgs&)>& step) {
  SLUICE_CHECK(problem.first_row == 0);
  std::vector<int32_t> slots;
  for (const TokenRun& run : problem.runs) slots.push_back(run.slot);
  const Input slot(device, slots);
  const GatedMemory memory(device, problem);
  step({.shape = problem.shape,
        .rows = static_cast<int32_t>(slots.size()),
        .slots = slot.as<int32_t>(),
        .operands = memory.Operands()});
  return memory.Read();
}

GatedOperands PlainOperands(const Output& memory, int64_t stride) {
  return {.q = memory.data(),
          .k = memory.data(),
          .v = memory.data(),
          .q_stride = stride,
          .k_stride = stride,
          .v_stride = stride,
          .log_decay = memory.as<float>(),
          .states = memory.as<float>() + 256,
          .slot_stride = 512,
          .out = memory.as<float>() + 800};
}

ref::GatedHead HeadOf(const GatedProblem& problem, size_t run, int32_t head) {
  const GatedShape& s = problem.shape;
  const TokenRun& tokens = problem.runs[run];
  const int32_t kv_head = head / (s.heads / s.kv_heads);
  int64_t token = 0;
  for (size_t i = 0; i < run; ++i) token += problem.runs[i].length;
  const auto columns = [&](const std::vector<float>& all, int64_t cols, int64_t at, int64_t dim) {
    const std::vector<float> part =
        Columns(Part(all, token * cols, tokens.length * cols), at * dim, dim, cols);
    return std::vector<double>(part.begin(), part.end());
  };
  const int64_t head_size = int64_t{s.key_dim} * s.value_dim;
  const std::vector<double> states = UnpackState(s, problem.State(tokens.slot));
  ref::GatedHead of = {
      .tokens = tokens.length,
      .key_dim = s.key_dim,
      .value_dim = s.value_dim,
      .scale = s.scale,
      .q = columns(problem.q, QueryCols(s), head / s.shared_keys, s.key_dim),
      .k = columns(problem.k, KeyCols(s), kv_head / s.shared_keys, s.key_dim),
      .v = columns(problem.v, ValueCols(s), kv_head, s.value_dim),
      .log_decay = std::vector<double>(tokens.length * s.key_dim),
      .state = Part(states, kv_head * head_size, head_size),
      .value_log_decay = std::vector<double>(tokens.length * s.value_dim),
      .input_scale = std::vector<double>(tokens.length, 1),
      .exclusive = s.read == ReadKind::kExclusive,
      .bonus = std::vector<double>(s.key_dim),
  };
  for (int64_t i = 0; i < tokens.length * s.key_dim; ++i) {
    of.log_decay[i] = LogDecay(problem, token + i / s.key_dim, kv_head, i % s.key_dim);
  }
  if (s.value_gate) {
    of.value_log_decay = columns(problem.value_log_decay, ValueCols(s), kv_head, s.value_dim);
  }
  if (!problem.input_scale.empty()) {
    of.input_scale = columns(problem.input_scale, s.kv_heads, kv_head, 1);
  }
  if (!problem.bonus.empty()) {
    const std::vector<float> bonus = Part(problem.bonus, int64_t{kv_head} * s.key_dim, s.key_dim);
    of.bonus.assign(bonus.begin(), bonus.end());
  }
  return of;
}

void ExpectAgreesWithOracle(const GatedProblem& problem, const GatedOutcome& got,
                            Tolerance tolerance) {
  const GatedShape& s = problem.shape;
  const int64_t group = s.heads / s.kv_heads;
  const int64_t head_size = int64_t{s.key_dim} * s.value_dim;
  std::vector<double> out(problem.Tokens() * OutCols(s));
  int64_t first_token = 0;
  std::set<int32_t> used;
  for (size_t run = 0; run < problem.runs.size(); ++run) {
    const TokenRun& tokens = problem.runs[run];
    used.insert(tokens.slot);
    std::vector<double> state;
    for (int32_t head = 0; head < s.heads; ++head) {
      const ref::GatedResult want = ref::GatedRecurrent(HeadOf(problem, run, head));
      for (int64_t t = 0; t < tokens.length; ++t) {
        std::copy_n(want.out.begin() + t * s.value_dim, s.value_dim,
                    out.begin() + (first_token + t) * OutCols(s) + head * s.value_dim);
      }
      if (head % group == 0) state.insert(state.end(), want.state.begin(), want.state.end());
    }
    EXPECT_TRUE(Near(Part(got.states, tokens.slot * s.kv_heads * head_size, state.size()), state,
                     tolerance))
        << "state of run " << run;
    first_token += tokens.length;
  }
  EXPECT_TRUE(Near(got.out, out, tolerance)) << "out";
  for (int32_t slot = 0; slot < problem.slot_count; ++slot) {
    if (used.count(slot) > 0) continue;
    EXPECT_TRUE(
        SameBits(Part(got.states, slot * s.StateFloats(), s.StateFloats()), problem.State(slot)))
        << "slot " << slot << " is not in the batch";
  }
}

}  // namespace sluice
