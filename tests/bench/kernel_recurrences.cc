// What keeps a state from token to token.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device_buffer.h"
#include "tests/bench/kernel_cases.h"
#include "tests/kernels/packed_rows.h"

namespace sluice {
namespace {

GatedShape WithFormat(KernelTimer& timer, GatedShape shape) {
  shape.dtype = Activations(timer);
  shape.scale = 1 / std::sqrt(static_cast<float>(shape.key_dim));
  return shape;
}

// Random, or of a format whose bytes are not all states, zero.
Ring StatesOf(const Rotation& rotation, const GatedShape& s, int64_t slots) {
  const int64_t floats = slots * s.StateFloats();
  return s.state.IsPlain() ? rotation.Numbers(floats, DType::kFloat32) : rotation.Empty(floats * 4);
}

// q, k, v, gates and states of `rows` tokens and `slots` sequences.
struct GatedRings {
  GatedRings(const Rotation& rotation, const GatedShape& s, bool scaled, int64_t rows,
             int64_t slots)
      : shape(s),
        has_input_scale(scaled),
        q(rotation.Numbers(rows * s.QueryHeads() * s.key_dim, s.dtype)),
        k(rotation.Numbers(rows * s.KeyHeads() * s.key_dim, s.dtype)),
        v(rotation.Numbers(rows * s.kv_heads * s.value_dim, s.dtype)),
        log_decay(rotation.Numbers(std::max<int64_t>(rows * s.GateCols(), s.kv_heads),
                                   DType::kFloat32, -0.1F, 0)),
        value_log_decay(
            rotation.Numbers(rows * s.kv_heads * s.value_dim, DType::kFloat32, -0.1F, 0)),
        input_scale(rotation.Numbers(rows * s.kv_heads, DType::kFloat32)),
        bonus(rotation.Numbers(int64_t{s.kv_heads} * s.key_dim, DType::kFloat32)),
        states(StatesOf(rotation, s, slots)),
        out(rotation.Empty(rows * s.heads * s.value_dim * DTypeBytes(s.dtype))) {}

  GatedOperands At(int64_t call) const {
    const bool exclusive = shape.read == ReadKind::kExclusive;
    return {.q = q[call],
            .k = k[call],
            .v = v[call],
            .q_stride = int64_t{shape.QueryHeads()} * shape.key_dim,
            .k_stride = int64_t{shape.KeyHeads()} * shape.key_dim,
            .v_stride = int64_t{shape.kv_heads} * shape.value_dim,
            .log_decay = shape.gate == GateKind::kNone ? nullptr : log_decay.at<float>(call),
            .value_log_decay = shape.value_gate ? value_log_decay.at<float>(call) : nullptr,
            .input_scale = has_input_scale ? input_scale.at<float>(call) : nullptr,
            .bonus = exclusive ? bonus.at<float>(call) : nullptr,
            .states = states.at<float>(call),
            .slot_stride = shape.StateFloats(),
            .out = out[call]};
  }

  GatedShape shape;
  bool has_input_scale;
  Ring q, k, v, log_decay, value_log_decay, input_scale, bonus, states, out;
};

}  // namespace

void TimeShortConv(KernelTimer& timer, int32_t channels, int32_t decode_rows, int32_t length) {
  constexpr int32_t kWidth = 4;
  const bool has_segment = length > 0;
  const PackedRows packed = PackRuns(
      has_segment ? std::vector<TokenRun>{{length, 0, decode_rows}} : std::vector<TokenRun>(),
      decode_rows);
  ShortConvArgs args = {.dtype = Activations(timer),
                        .channels = channels,
                        .width = kWidth,
                        .decode_rows = decode_rows,
                        .segment_count = has_segment ? 1 : 0,
                        .rows = packed.rows,
                        .x_stride = channels,
                        .bias = nullptr,
                        .slot_stride = int64_t{channels} * (kWidth - 1)};
  const Rotation rotation(timer.device(), ShortConvBytes(args));
  const Ring slots = rotation.Same(Counting(decode_rows));
  const Ring segments = rotation.Same(packed.segments);
  const Ring x = rotation.Numbers(int64_t{packed.rows} * channels, args.dtype);
  const Ring weight = rotation.Numbers(int64_t{channels} * kWidth, DType::kFloat32);
  const Ring windows = rotation.Numbers((decode_rows + 1) * args.slot_stride, DType::kFloat32);
  const Ring y = rotation.Empty(int64_t{packed.rows} * channels * DTypeBytes(args.dtype));
  timer.Time({"short_conv", Format("B=%lld T=%lld C=%lld", decode_rows, length, channels),
              ShortConvBytes(args)},
             [&](int64_t call) {
               args.slots = slots.at<int32_t>(call);
               args.segments = segments.at<Segment>(call);
               args.x = x[call];
               args.weight = weight.at<float>(call);
               args.windows = windows.at<float>(call);
               args.y = y[call];
               timer.device().ShortConv(args);
             });
}

void TimeTokenShift(KernelTimer& timer, int32_t dim, int32_t decode_rows, int32_t length,
                    int32_t mixes) {
  const bool has_segment = length > 0;
  const PackedRows packed = PackRuns(
      has_segment ? std::vector<TokenRun>{{length, 0, decode_rows}} : std::vector<TokenRun>(),
      decode_rows);
  TokenShiftArgs args = {.dtype = Activations(timer),
                         .dim = dim,
                         .decode_rows = decode_rows,
                         .segment_count = has_segment ? 1 : 0,
                         .rows = packed.rows,
                         .x_stride = dim,
                         .slot_stride = dim,
                         .mixes = mixes};
  const Rotation rotation(timer.device(), TokenShiftBytes(args));
  const Ring slots = rotation.Same(Counting(decode_rows));
  const Ring segments = rotation.Same(packed.segments);
  const Ring x = rotation.Numbers(int64_t{packed.rows} * dim, args.dtype);
  const Ring last = rotation.Numbers(int64_t{decode_rows + 1} * dim, DType::kFloat32);
  const Ring mu = rotation.Numbers(int64_t{kMaxTokenMixes} * dim, DType::kFloat32);
  const int64_t results = std::max(mixes, 1);
  const Ring y = rotation.Empty(results * packed.rows * dim * DTypeBytes(args.dtype));
  args.delta = mixes == 0 ? y[0] : nullptr;
  timer.Time({mixes == 0 ? "token_shift" : Format("token_shift %lld mixes", mixes),
              Format("B=%lld T=%lld D=%lld", decode_rows, length, dim), TokenShiftBytes(args)},
             [&](int64_t call) {
               args.slots = slots.at<int32_t>(call);
               args.segments = segments.at<Segment>(call);
               args.x = x[call];
               args.last = last.at<float>(call);
               args.delta = mixes == 0 ? y[call] : nullptr;
               args.mu = mu.at<float>(call);
               args.mixed = y[call];
               timer.device().TokenShift(args);
             });
}

void TimeMlstmGates(KernelTimer& timer, int32_t heads, int32_t decode_rows, int32_t length) {
  const bool has_segment = length > 0;
  const PackedRows packed = PackRuns(
      has_segment ? std::vector<TokenRun>{{length, 0, decode_rows}} : std::vector<TokenRun>(),
      decode_rows);
  MlstmGatesArgs args = {.dtype = Activations(timer),
                         .heads = heads,
                         .decode_rows = decode_rows,
                         .segment_count = has_segment ? 1 : 0,
                         .rows = packed.rows,
                         .input_stride = heads,
                         .forget_stride = heads,
                         .soft_cap = 15,
                         .slot_stride = heads};
  const Rotation rotation(timer.device(), MlstmGatesBytes(args));
  const int64_t count = int64_t{packed.rows} * heads;
  const Ring slots = rotation.Same(Counting(decode_rows));
  const Ring segments = rotation.Same(packed.segments);
  const Ring input = rotation.Numbers(count, args.dtype, -10, 10);
  const Ring forget = rotation.Numbers(count, args.dtype, 0, 10);
  const Ring max = rotation.Numbers((int64_t{decode_rows} + 1) * heads, DType::kFloat32);
  const Ring out = rotation.Empty(3 * count * 4);
  timer.Time({"mlstm_gates", Format("B=%lld T=%lld H=%lld", decode_rows, length, heads),
              MlstmGatesBytes(args)},
             [&](int64_t call) {
               args.slots = slots.at<int32_t>(call);
               args.segments = segments.at<Segment>(call);
               args.input = input[call];
               args.forget = forget[call];
               args.max = max.at<float>(call);
               args.log_decay = out.at<float>(call);
               args.input_scale = args.log_decay + count;
               args.log_floor = args.input_scale + count;
               timer.device().MlstmGates(args);
             });
}

void TimeGatedStep(KernelTimer& timer, const Mixer& m, int32_t rows) {
  GatedStepArgs args = {.shape = WithFormat(timer, m.shape), .rows = rows};
  const int64_t bytes =
      rows * (2 * args.shape.StateSize() * 4 + GatedRowBytes(args.shape, m.input_scale));
  const Rotation rotation(timer.device(), bytes / 2);
  const GatedRings rings(rotation, args.shape, m.input_scale, rows, rows);
  const Ring slots = rotation.Same(Counting(rows));
  const int64_t flops = 5 * rows * args.shape.StateSize();
  timer.Time({"gated_step", Format("B=%lld", rows) + " " + m.name, bytes, flops},
             [&](int64_t call) {
               args.slots = slots.at<int32_t>(call);
               args.operands = rings.At(call);
               timer.device().GatedStep(args);
             });
}

void TimeGatedStepWithParts(KernelTimer& timer, const Mixer& m, int32_t rows) {
  GatedStepArgs args = {.shape = WithFormat(timer, m.shape), .rows = rows};
  const GatedShape& s = args.shape;
  LogGateArgs gate = {.dtype = s.dtype,
                      .rows = rows,
                      .rank = 16,
                      .dim = static_cast<int32_t>(s.GateCols()),
                      .normalizer = 16,
                      .clamp_min = -INFINITY,
                      .x_stride = 16};
  const int64_t width = int64_t{s.heads} * s.value_dim;
  NormArgs norm = {.dtype = s.dtype,
                   .rows = rows,
                   .groups = s.heads,
                   .dim = s.value_dim,
                   .eps = 1e-5F,
                   .x_stride = width,
                   .gate_act = Activation::kSilu,
                   .gate_stride = width,
                   .y_stride = width};
  const Rotation rotation(timer.device(), rows * s.StateSize() * 4);
  const GatedRings rings(rotation, s, m.input_scale, rows, rows);
  const Ring slots = rotation.Same(Counting(rows));
  const Ring x = rotation.Numbers(int64_t{rows} * gate.rank, s.dtype);
  const Ring gate_weight = rotation.Numbers(int64_t{gate.dim} * gate.rank, DType::kFloat32);
  const Ring gate_bias = rotation.Numbers(gate.dim, DType::kFloat32);
  const Ring norm_weight = rotation.Numbers(norm.dim, DType::kFloat32);
  const Ring norm_gate = rotation.Numbers(rows * width, s.dtype);
  args.log_gate = &gate;
  args.norm = &norm;
  norm.gate = norm_gate[0];  // counts as bytes, and so does the weight
  norm.weight = norm_weight.at<float>(0);
  timer.Time({"gated_step with gate and norm", Format("B=%lld", rows) + " " + m.name,
              GatedStepBytes(args)},
             [&](int64_t call) {
               args.slots = slots.at<int32_t>(call);
               args.operands = rings.At(call);
               gate.x = x[call];
               gate.weight = gate_weight.at<float>(call);
               gate.bias = gate_bias.at<float>(call);
               gate.log_decay = rings.log_decay.at<float>(call);
               norm.x = norm.y = args.operands.out;
               norm.weight = norm_weight.at<float>(call);
               norm.gate = norm_gate[call];
               timer.device().GatedStep(args);
             });
}

void TimeGatedReplay(KernelTimer& timer, const Mixer& m, const StateFormat& format, int32_t rows) {
  GatedStepArgs args = {.shape = WithFormat(timer, m.shape), .rows = rows};
  args.shape.state = format;
  const int64_t bytes =
      rows * (StateStepBytes(args.shape) + GatedRowBytes(args.shape, m.input_scale));
  const Rotation rotation(timer.device(), bytes / 2);
  const GatedRings rings(rotation, args.shape, m.input_scale, rows, rows);
  const Ring slots = rotation.Same(Counting(rows));
  const auto step = [&](int64_t call) {
    args.slots = slots.at<int32_t>(call);
    args.operands = rings.At(call);
    timer.device().GatedStep(args);
  };
  // The copies are spread over a ring's cycle, so that any run of calls has its share of folds.
  const int64_t copies = rings.states.copies();
  for (int64_t copy = 0; copy < copies; ++copy) {
    for (int64_t i = 0; i < copy * format.ring / copies; ++i) step(copy);
  }
  constexpr const char* kTypes[] = {"float32", "float16", "int8"};
  timer.Time({"gated_step",
              Format("B=%lld ", rows) + m.name + " " + kTypes[static_cast<int>(format.type)] +
                  Format(" ring %lld", format.ring),
              bytes},
             step);
}

void TimeGatedChunk(KernelTimer& timer, const Mixer& m, int32_t sequences, int32_t length) {
  std::vector<TokenRun> runs(sequences, {length, 0, 0});
  for (int32_t i = 0; i < sequences; ++i) runs[i].slot = i;
  const PackedRows packed = PackRuns(runs, 0);
  const auto chunks = static_cast<int32_t>(packed.chunks.size());
  GatedChunkArgs args = {
      .shape = WithFormat(timer, m.shape), .segment_count = sequences, .chunk_count = chunks};
  const int64_t bytes = GatedChunkBytes(args.shape, m.input_scale, packed.rows, sequences);
  const Rotation rotation(timer.device(), bytes);
  const GatedRings rings(rotation, args.shape, m.input_scale, packed.rows, sequences);
  const Ring segments = rotation.Same(packed.segments);
  const Ring spans = rotation.Same(packed.chunks);
  const DeviceBuffer workspace(
      &timer.device(),
      std::max<int64_t>(1, timer.device().GatedChunkWorkspaceBytes(args.shape, sequences, chunks)));
  args.workspace = workspace.data();
  timer.Time({"gated_chunk", Format("%lldx%lld", sequences, length) + " " + m.name, bytes,
              GatedChunkFlops(args.shape, packed.rows)},
             [&](int64_t call) {
               args.segments = segments.at<Segment>(call);
               args.chunks = spans.at<ChunkSpan>(call);
               args.operands = rings.At(call);
               timer.device().GatedChunk(args);
             });
}

void TimeSelectiveScan(KernelTimer& timer, int32_t decode_rows, int32_t sequences, int32_t length) {
  std::vector<TokenRun> runs(sequences, {length, 0, 0});
  for (int32_t i = 0; i < sequences; ++i) runs[i].slot = i;
  const PackedRows packed = PackRuns(runs, decode_rows);
  SelectiveScanArgs args = {.dtype = Activations(timer),
                            .channels = 4096,
                            .state_size = 16,
                            .decode_rows = decode_rows,
                            .segment_count = sequences,
                            .chunk_count = static_cast<int32_t>(packed.chunks.size()),
                            .rows = packed.rows};
  args.x_stride = args.dt_stride = args.gate_stride = args.channels;
  args.b_stride = args.c_stride = args.state_size;
  args.slot_stride = int64_t{args.channels} * args.state_size;
  const int64_t wide = int64_t{packed.rows} * args.channels;
  const int64_t narrow = int64_t{packed.rows} * args.state_size;
  const Rotation rotation(timer.device(), SelectiveScanBytes(args));
  const Ring slots = rotation.Same(Counting(decode_rows));
  const Ring segments = rotation.Same(packed.segments);
  const Ring chunks = rotation.Same(packed.chunks);
  const Ring x = rotation.Numbers(wide, args.dtype);
  const Ring dt = rotation.Numbers(wide, args.dtype, -6, -2);
  const Ring dt_bias = rotation.Numbers(args.channels, DType::kFloat32);
  const Ring b = rotation.Numbers(narrow, args.dtype);
  const Ring c = rotation.Numbers(narrow, args.dtype);
  const Ring a_log = rotation.Numbers(args.slot_stride, DType::kFloat32, 0, 2.8F);
  const Ring skip = rotation.Numbers(args.channels, DType::kFloat32);
  const Ring gate = rotation.Numbers(wide, args.dtype);
  const Ring states =
      rotation.Numbers((decode_rows + sequences) * args.slot_stride, DType::kFloat32);
  const Ring out = rotation.Empty(wide * DTypeBytes(args.dtype));
  const Ring workspace =
      rotation.Empty(std::max<int64_t>(1, timer.device().SelectiveScanWorkspaceBytes(
                                              args.channels, args.state_size, args.chunk_count)));
  args.gate = gate[0];  // counts as bytes
  const std::string shape = decode_rows > 0 ? Format("B=%lld mamba-1.4b", decode_rows)
                                            : Format("%lldx%lld mamba-1.4b", sequences, length);
  timer.Time({"selective_scan", shape, SelectiveScanBytes(args)}, [&](int64_t call) {
    args.slots = slots.at<int32_t>(call);
    args.segments = segments.at<Segment>(call);
    args.chunks = chunks.at<ChunkSpan>(call);
    args.x = x[call];
    args.dt = dt[call];
    args.dt_bias = dt_bias.at<float>(call);
    args.b = b[call];
    args.c = c[call];
    args.a_log = a_log.at<float>(call);
    args.skip = skip.at<float>(call);
    args.gate = gate[call];
    args.states = states.at<float>(call);
    args.out = out[call];
    args.workspace = workspace[call];
    timer.device().SelectiveScan(args);
  });
}

}  // namespace sluice
