#include "tests/kernels/selective_scan_problem.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tests/kernels/batch_sequences.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

void FillSteps(const ScanShape& shape, int64_t rows, Random& random, ScanProblem* p) {
  for (int64_t i = 0; i < rows * shape.channels; ++i) {
    const int32_t kind = random.Below(3);
    const bool strong =
        shape.steps == ScanSteps::kStrong || (shape.steps == ScanSteps::kMixed && kind < 1);
    const bool none = shape.steps == ScanSteps::kMixed && kind == 1;
    double dt = -4.5 + 1.3 * random.Normal();
    if (shape.steps == ScanSteps::kLong) dt -= 4;
    if (strong) dt = 100 * random.Uniform();
    if (none) dt = -300;
    p->dt.push_back(static_cast<float>(dt));
  }
  p->dt = Rounded(p->dt, p->dtype);
  for (int64_t d = 0; d < shape.channels; ++d) {
    for (int64_t n = 0; n < shape.state_size; ++n) {
      const bool strong = shape.steps == ScanSteps::kStrong ||
                          (shape.steps == ScanSteps::kMixed && random.Below(2) == 0);
      const double a = strong ? std::pow(10.0, 4 * random.Uniform()) : static_cast<double>(n + 1);
      p->a_log.push_back(static_cast<float>(std::log(a)));
    }
  }
}

}  // namespace

ScanProblem MakeScanProblem(const ScanShape& shape, DType dtype, uint64_t seed) {
  Random random(seed);
  const auto sequences = shape.decode_rows + static_cast<int32_t>(shape.lengths.size());
  ScanProblem p = {.dtype = dtype,
                   .channels = shape.channels,
                   .state_size = shape.state_size,
                   .padding = shape.padding,
                   .slot_count = sequences + 2};
  p.runs = RandomRuns(shape.lengths, random);
  const int64_t rows = GiveSlots(shape.decode_rows, p);
  FillSteps(shape, rows, random, &p);
  p.x = random.Normals(rows * p.channels, 1.0, dtype);
  p.b = random.Normals(rows * p.state_size, 1.0, dtype);
  p.c = random.Normals(rows * p.state_size, 1.0, dtype);
  if (shape.extras) {
    p.gate = random.Normals(rows * p.channels, 1.5, dtype);
    p.dt_bias = random.Normals(p.channels, 0.3);
    p.skip = random.Normals(p.channels);
  }
  p.states = random.Normals(p.slot_count * p.StateSize());
  return p;
}

ScanProblem PartOf(const ScanProblem& p, int64_t row, const TokenRun& run,
                   const std::vector<float>& state) {
  ScanProblem part = p;
  part.slots.clear();
  part.runs = {{run.length, run.position, 0}};
  part.slot_count = 1;
  part.states = state;
  for (std::vector<float>* wide : {&part.x, &part.dt, &part.gate}) {
    if (!wide->empty()) *wide = Part(*wide, row * p.channels, run.length * p.channels);
  }
  for (std::vector<float>* narrow : {&part.b, &part.c}) {
    *narrow = Part(*narrow, row * p.state_size, run.length * p.state_size);
  }
  return part;
}

ScanOutcome RunScan(Device& device, const ScanProblem& p) {
  const auto decode_rows = static_cast<int32_t>(p.slots.size());
  const PackedRows packed = PackRuns(p.runs, decode_rows);
  const auto channels = static_cast<int32_t>(p.channels);
  const auto state_size = static_cast<int32_t>(p.state_size);
  const Input slots(device, p.slots);
  const Input segments(device, packed.segments);
  const Input chunks(device, packed.chunks);
  const auto chunk_count = static_cast<int32_t>(packed.chunks.size());
  const int64_t wide = p.channels + p.padding;
  const int64_t narrow = p.state_size + p.padding;
  const Input x(device, Spread(p.x, p.channels, wide), p.dtype);
  const Input dt(device, Spread(p.dt, p.channels, wide), p.dtype);
  const Input b(device, Spread(p.b, p.state_size, narrow), p.dtype);
  const Input c(device, Spread(p.c, p.state_size, narrow), p.dtype);
  const Input gate(device, Spread(p.gate, p.channels, wide), p.dtype);
  const Input dt_bias(device, p.dt_bias);
  const Input a_log(device, p.a_log);
  const Input skip(device, p.skip);
  const int64_t slot_stride = p.StateSize() + 24;
  const Output states(device, Spread(p.states, p.StateSize(), slot_stride));
  const Output workspace(device,
                         device.SelectiveScanWorkspaceBytes(channels, state_size, chunk_count));
  const Output out(device, static_cast<int64_t>(p.x.size()) * DTypeBytes(p.dtype));
  device.SelectiveScan({.dtype = p.dtype,
                        .channels = channels,
                        .state_size = state_size,
                        .decode_rows = decode_rows,
                        .slots = slots.as<int32_t>(),
                        .segment_count = static_cast<int32_t>(packed.segments.size()),
                        .segments = segments.as<Segment>(),
                        .chunk_count = chunk_count,
                        .chunks = chunks.as<ChunkSpan>(),
                        .rows = packed.rows,
                        .x = x.data(),
                        .x_stride = wide,
                        .dt = dt.data(),
                        .dt_stride = wide,
                        .dt_bias = dt_bias.as<float>(),
                        .b = b.data(),
                        .b_stride = narrow,
                        .c = c.data(),
                        .c_stride = narrow,
                        .a_log = a_log.as<float>(),
                        .skip = skip.as<float>(),
                        .gate = gate.data(),
                        .gate_stride = wide,
                        .states = states.as<float>(),
                        .slot_stride = slot_stride,
                        .out = out.data(),
                        .workspace = workspace.data()});
  workspace.ReadBytes();  // Looks at the guards.
  const std::vector<float> written = states.Read<float>();
  EXPECT_TRUE(AllPoison(Columns(written, p.StateSize(), 24, slot_stride)))
      << "written between states";
  return {out.Read(p.dtype), Columns(written, 0, p.StateSize(), slot_stride)};
}

ref::ScanSequence SequenceOf(const ScanProblem& p) {
  return {p.channels, p.state_size, p.x,    p.dt,   p.dt_bias, p.b,
          p.c,        p.a_log,      p.skip, p.gate, p.states};
}

}  // namespace sluice
