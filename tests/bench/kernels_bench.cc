// Time, bytes and operations of every op at the shapes of real models.
//
//   kernels_bench --device=cpu|cuda [--threads=N] [--shapes=demo|gla-1.3b|all] [--op=PART]
//
// Every call takes the next of several copies of its operands, so that nothing is found in a cache
// that a model's other layers would have flushed. A time is the median over batches of calls that
// are queued together.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "kernels/device.h"
#include "tests/bench/kernel_timer.h"
#include "tests/kernels/packed_rows.h"

namespace sluice {
namespace {

constexpr int32_t kVocab = 32000;
constexpr float kEps = 1e-6F;

struct ModelShape {
  std::string name;
  int32_t heads;
  int32_t key_dim;
  int32_t value_dim;
  int32_t model_dim;
  int32_t mlp_dim;
};

std::string Format(const char* format, int64_t a, int64_t b = 0, int64_t c = 0) {
  char text[128];
  std::snprintf(text, sizeof(text), format, static_cast<long long>(a), static_cast<long long>(b),
                static_cast<long long>(c));
  return text;
}

DType Activations(KernelTimer& timer) { return timer.device().ActivationType(DType::kBFloat16); }

std::vector<int32_t> Counting(int32_t count) {
  std::vector<int32_t> values(count);
  std::iota(values.begin(), values.end(), 0);
  return values;
}

void TimeGatherRows(KernelTimer& timer, const ModelShape& m, int32_t rows) {
  GatherRowsArgs args = {.rows = rows,
                         .dim = m.model_dim,
                         .table_rows = kVocab,
                         .table_dtype = DType::kBFloat16,
                         .out_dtype = Activations(timer)};
  const Rotation rotation(timer.device(), int64_t{2} * kVocab * m.model_dim);
  const Ring table = rotation.Numbers(int64_t{kVocab} * m.model_dim, DType::kBFloat16);
  std::vector<int32_t> picked = Counting(rows);
  for (int32_t& row : picked) row = static_cast<int32_t>(int64_t{row} * 7919 % kVocab);
  const Ring indices = rotation.Same(picked);
  const Ring out = rotation.Empty(int64_t{rows} * m.model_dim * DTypeBytes(args.out_dtype));
  timer.Time({"gather_rows", Format("%lldx%lld", rows, m.model_dim), GatherRowsBytes(args)},
             [&](int64_t call) {
               args.table = table[call];
               args.indices = indices.at<int32_t>(call);
               args.out = out[call];
               timer.device().GatherRows(args);
             });
}

enum class NormKind { kPlain, kGated, kLayer, kGateFirst };

void TimeNorm(KernelTimer& timer, NormKind kind, int32_t rows, int32_t groups, int32_t dim) {
  const int64_t cols = int64_t{groups} * dim;
  const char* const names[] = {"norm", "norm gated", "norm centered", "norm gate first"};
  const bool gated = kind == NormKind::kGated || kind == NormKind::kGateFirst;
  NormArgs args = {.dtype = Activations(timer),
                   .rows = rows,
                   .groups = groups,
                   .dim = dim,
                   .eps = kEps,
                   .x_stride = cols,
                   .gate_act = Activation::kSilu,
                   .gate_stride = cols,
                   .y_stride = cols,
                   .center = kind == NormKind::kLayer,
                   .gate_first = kind == NormKind::kGateFirst};
  const Rotation rotation(timer.device(), rows * cols * 3 * DTypeBytes(args.dtype));
  const Ring x = rotation.Numbers(rows * cols, args.dtype);
  const Ring gate = rotation.Numbers(rows * cols, args.dtype);
  const Ring weight = rotation.Numbers(dim, DType::kFloat32);
  const Ring y = rotation.Empty(rows * cols * DTypeBytes(args.dtype));
  args.gate = gated ? gate[0] : nullptr;
  timer.Time(
      {names[static_cast<int>(kind)], Format("%lldx%lldx%lld", rows, groups, dim), NormBytes(args)},
      [&](int64_t call) {
        args.x = x[call];
        args.gate = gated ? gate[call] : nullptr;
        args.weight = weight.at<float>(call);
        args.bias = args.center ? args.weight : nullptr;
        args.y = y[call];
        timer.device().Norm(args);
      });
}

void TimeLinear(KernelTimer& timer, int32_t rows, int32_t in_dim, int32_t out_dim, DType y_dtype) {
  LinearArgs args = {.rows = rows,
                     .in_dim = in_dim,
                     .out_dim = out_dim,
                     .weight_dtype = DType::kBFloat16,
                     .x_dtype = Activations(timer),
                     .y_dtype = y_dtype,
                     .x_stride = in_dim,
                     .y_stride = out_dim};
  const Rotation rotation(timer.device(), LinearBytes(args));
  const Ring x = rotation.Numbers(int64_t{rows} * in_dim, args.x_dtype);
  const Ring weight = rotation.Numbers(int64_t{in_dim} * out_dim, args.weight_dtype);
  const Ring y = rotation.Empty(int64_t{rows} * out_dim * DTypeBytes(y_dtype));
  timer.Time({"linear", Format("M=%lld K=%lld N=%lld", rows, in_dim, out_dim), LinearBytes(args),
              LinearFlops(args)},
             [&](int64_t call) {
               args.x = x[call];
               args.weight = weight[call];
               args.y = y[call];
               timer.device().Linear(args);
             });
}

// One product a head or a branch: x and y of a row side by side.
void TimeLinearBatch(KernelTimer& timer, int32_t batch, int32_t rows, int32_t in_dim,
                     int32_t out_dim) {
  const DType act = Activations(timer);
  LinearArgs args = {.rows = rows,
                     .in_dim = in_dim,
                     .out_dim = out_dim,
                     .weight_dtype = DType::kBFloat16,
                     .x_dtype = act,
                     .y_dtype = act,
                     .x_stride = int64_t{batch} * in_dim,
                     .y_stride = int64_t{batch} * out_dim,
                     .batch = batch,
                     .x_step = in_dim,
                     .weight_step = int64_t{in_dim} * out_dim,
                     .y_step = out_dim};
  const Rotation rotation(timer.device(), LinearBytes(args));
  const Ring x = rotation.Numbers(rows * args.x_stride, act);
  const Ring weight = rotation.Numbers(batch * args.weight_step, args.weight_dtype);
  const Ring y = rotation.Empty(rows * args.y_stride * DTypeBytes(act));
  const std::string shape =
      Format("%lld of ", batch) + Format("M=%lld K=%lld N=%lld", rows, in_dim, out_dim);
  timer.Time({"linear", shape, LinearBytes(args), LinearFlops(args)}, [&](int64_t call) {
    args.x = x[call];
    args.weight = weight[call];
    args.y = y[call];
    timer.device().Linear(args);
  });
}

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

void TimeLogGate(KernelTimer& timer, int32_t rows, int32_t dim) {
  LogGateArgs args = {.dtype = Activations(timer),
                      .rows = rows,
                      .rank = 16,
                      .dim = dim,
                      .normalizer = 16,
                      .clamp_min = -INFINITY,
                      .x_stride = 16};
  const Rotation rotation(timer.device(), LogGateBytes(args));
  const Ring x = rotation.Numbers(int64_t{rows} * args.rank, args.dtype);
  const Ring weight = rotation.Numbers(int64_t{dim} * args.rank, DType::kFloat32);
  const Ring bias = rotation.Numbers(dim, DType::kFloat32);
  const Ring log_decay = rotation.Empty(int64_t{rows} * dim * 4);
  timer.Time({"log_gate", Format("%lldx16x%lld", rows, dim), LogGateBytes(args)},
             [&](int64_t call) {
               args.x = x[call];
               args.weight = weight.at<float>(call);
               args.bias = bias.at<float>(call);
               args.log_decay = log_decay.at<float>(call);
               timer.device().LogGate(args);
             });
}

// A vector gate if there is one channel a key, else one of a few heads.
void TimeDecay(KernelTimer& timer, DecayFormula formula, const char* name, int32_t rows,
               int32_t dim) {
  DecayArgs args = {.dtype = Activations(timer),
                    .formula = formula,
                    .rows = rows,
                    .dim = dim,
                    .x_stride = dim,
                    .normalizer = 16};
  const Rotation rotation(timer.device(), DecayBytes(args));
  const Ring x = rotation.Numbers(int64_t{rows} * dim, args.dtype);
  const Ring channel = rotation.Numbers(dim, DType::kFloat32, 0, 0.9F);
  const Ring log_decay = rotation.Empty(int64_t{rows} * dim * 4);
  timer.Time({std::string("decay ") + name, Format("%lldx%lld", rows, dim), DecayBytes(args)},
             [&](int64_t call) {
               args.x = x[call];
               args.lower_bound = channel.at<float>(call);
               args.a_log = channel.at<float>(call);
               args.log_decay = log_decay.at<float>(call);
               timer.device().Decay(args);
             });
}

void TimeNormalizer(KernelTimer& timer, int32_t rows, int32_t heads, int32_t dim) {
  const DType dtype = Activations(timer);
  PadValuesArgs pad = {
      .dtype = dtype, .rows = rows, .heads = heads, .dim = dim, .v_stride = int64_t{heads} * dim};
  NormalizeArgs args = {.dtype = dtype,
                        .kind = NormalizeKind::kMlstm,
                        .rows = rows,
                        .heads = heads,
                        .dim = dim,
                        .eps = kEps};
  const int64_t count = int64_t{rows} * heads;
  const Rotation rotation(timer.device(), PadValuesBytes(pad));
  const Ring narrow = rotation.Numbers(count * dim, dtype);
  const Ring wide = rotation.Numbers(count * (dim + kNormalizerTile), dtype);
  const Ring log_floor = rotation.Numbers(count, DType::kFloat32);
  const std::string shape = Format("%lldx%lldx%lld", rows, heads, dim);
  timer.Time({"normalizer pad", shape, PadValuesBytes(pad)}, [&](int64_t call) {
    pad.v = narrow[call];
    pad.out = wide[call];
    timer.device().PadValues(pad);
  });
  timer.Time({"normalizer mlstm", shape, NormalizeBytes(args)}, [&](int64_t call) {
    args.x = wide[call];
    args.log_floor = log_floor.at<float>(call);
    args.y = narrow[call];
    timer.device().Normalize(args);
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

void TimeFeatureMap(KernelTimer& timer, FeatureMapKind kind, const char* name, int32_t heads,
                    int32_t dim) {
  constexpr int32_t kRows = 2048;
  const int64_t x_cols = int64_t{heads} * dim;
  const int64_t y_cols = int64_t{heads} * FeatureDim(kind, dim);
  FeatureMapArgs args = {.dtype = Activations(timer),
                         .kind = kind,
                         .rows = kRows,
                         .heads = heads,
                         .dim = dim,
                         .x_stride = x_cols,
                         .y_stride = y_cols};
  const Rotation rotation(timer.device(), FeatureMapBytes(args));
  const Ring x = rotation.Numbers(kRows * x_cols, args.dtype, -2, 2);
  const Ring y = rotation.Empty(kRows * y_cols * DTypeBytes(args.dtype));
  timer.Time({std::string("feature_map ") + name, Format("%lldx%lldx%lld", kRows, heads, dim),
              FeatureMapBytes(args)},
             [&](int64_t call) {
               args.x = x[call];
               args.y = y[call];
               timer.device().MapFeatures(args);
             });
}

void TimeActivate(KernelTimer& timer, int32_t rows, int32_t cols) {
  ActivationArgs args = {.dtype = Activations(timer),
                         // Silu in place would end in denormals.
                         .act = Activation::kElu1,
                         .rows = rows,
                         .cols = cols,
                         .stride = cols};
  const Rotation rotation(timer.device(), ActivationBytes(args));
  const Ring x = rotation.Numbers(int64_t{rows} * cols, args.dtype, 1, 2);
  timer.Time({"activation elu1", Format("%lldx%lld", rows, cols), ActivationBytes(args)},
             [&](int64_t call) {
               args.x = x[call];
               timer.device().Activate(args);
             });
}

void TimeGatedUnit(KernelTimer& timer, int32_t rows, int32_t dim) {
  GatedUnitArgs args = {.dtype = Activations(timer),
                        .rows = rows,
                        .dim = dim,
                        .gate_stride = int64_t{2} * dim,
                        .up_stride = int64_t{2} * dim,
                        .out_stride = dim};
  const Rotation rotation(timer.device(), int64_t{3} * rows * dim * DTypeBytes(args.dtype));
  const Ring x = rotation.Numbers(int64_t{2} * rows * dim, args.dtype);
  const Ring out = rotation.Empty(int64_t{rows} * dim * DTypeBytes(args.dtype));
  args.up = x[0];
  timer.Time({"gated_unit", Format("%lldx%lld", rows, dim), GatedUnitBytes(args)},
             [&](int64_t call) {
               args.gate = x[call];
               args.up = x.at<uint8_t>(call) + dim * DTypeBytes(args.dtype);
               args.out = out[call];
               timer.device().GatedUnit(args);
             });
}

void TimeRotary(KernelTimer& timer, int32_t rows, int32_t heads, int32_t dim) {
  const int64_t cols = int64_t{heads} * dim;
  RotaryArgs args = {.dtype = Activations(timer),
                     .rows = rows,
                     .heads = heads,
                     .dim = dim,
                     .base = 10000,
                     .stride = cols};
  const Rotation rotation(timer.device(), RotaryBytes(args));
  const Ring positions = rotation.Same(Counting(rows));
  const Ring x = rotation.Numbers(rows * cols, args.dtype);
  timer.Time({"rotary", Format("%lldx%lldx%lld", rows, heads, dim), RotaryBytes(args)},
             [&](int64_t call) {
               args.positions = positions.at<int32_t>(call);
               args.x = x[call];
               timer.device().Rotate(args);
             });
}

// Without mixes the difference, else these alone.
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

void TimeLerp(KernelTimer& timer, int32_t rows, int32_t dim, int32_t mixes) {
  LerpArgs args = {.dtype = Activations(timer),
                   .rows = rows,
                   .dim = dim,
                   .x_stride = dim,
                   .mix_stride = dim,
                   .y_stride = dim,
                   .count = mixes,
                   .mix_step = int64_t{rows} * dim,
                   .y_step = int64_t{rows} * dim};
  const int64_t count = int64_t{rows} * dim;
  const Rotation rotation(timer.device(), 2 * (1 + mixes) * count * DTypeBytes(args.dtype));
  const Ring x = rotation.Numbers(count, args.dtype);
  const Ring delta = rotation.Numbers(count, args.dtype);
  const Ring mu = rotation.Numbers(int64_t{mixes} * dim, DType::kFloat32);
  const Ring mix = rotation.Numbers(mixes * count, args.dtype);
  const Ring y = rotation.Empty(mixes * count * DTypeBytes(args.dtype));
  args.mix = mix[0];
  const std::string shape =
      mixes == 1 ? Format("%lldx%lld", rows, dim) : Format("%lld of %lldx%lld", mixes, rows, dim);
  timer.Time({"lerp", shape, LerpBytes(args)}, [&](int64_t call) {
    args.x = x[call];
    args.delta = delta[call];
    args.mu = mu.at<float>(call);
    args.mix = mix[call];
    args.y = y[call];
    timer.device().Lerp(args);
  });
}

// A mixer to time: the sizes of some model, and what its recurrence can do.
struct Mixer {
  std::string name;
  GatedShape shape;  // dtype and scale are set by WithFormat
  bool input_scale = false;
};

GatedShape WithFormat(KernelTimer& timer, GatedShape shape) {
  shape.dtype = Activations(timer);
  shape.scale = 1 / std::sqrt(static_cast<float>(shape.key_dim));
  return shape;
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
        states(rotation.Numbers(slots * s.StateSize(), DType::kFloat32)),
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
            .slot_stride = shape.StateSize(),
            .out = out[call]};
  }

  GatedShape shape;
  bool has_input_scale;
  Ring q, k, v, log_decay, value_log_decay, input_scale, bonus, states, out;
};

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
      std::max<int64_t>(1, timer.device().GatedChunkWorkspaceBytes(args.shape, chunks)));
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

// Recurrences of other kinds than a model's own, at the sizes of models that have them.
std::vector<Mixer> OtherMixers() {
  constexpr DType kAny = DType::kFloat32;
  constexpr ReadKind kExclusive = ReadKind::kExclusive;
  return {
      {.name = "mamba2 2.7b",
       .shape = {kAny, 64, 64, 128, 64, 1, GateKind::kScalar, false, ReadKind::kInclusive, 64},
       .input_scale = true},
      {.name = "retnet 2.7b", .shape = {kAny, 10, 10, 256, 512, 1, GateKind::kConstant}},
      {.name = "rwkv6 1.6b",
       .shape = {kAny, 32, 32, 64, 64, 1, GateKind::kVector, false, kExclusive}},
      {.name = "dfw 1.3b", .shape = {kAny, 16, 16, 128, 128, 1, GateKind::kVector, true}},
  };
}

void TimeOtherMixers(KernelTimer& timer) {
  for (const Mixer& m : OtherMixers()) {
    for (const int32_t rows : {1, 64}) {
      if (timer.Wants("gated_step")) TimeGatedStep(timer, m, rows);
    }
    if (!timer.Wants("gated_chunk")) continue;
    TimeGatedChunk(timer, m, 1, 2048);
    if (timer.device().kind() != DeviceKind::kCpu) TimeGatedChunk(timer, m, 8, 2048);
  }
}

// Mamba-1.4B: `decode_rows` sequences of one token, or `sequences` of `length`.
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

void TimeSample(KernelTimer& timer, int32_t rows, const std::string& name, SampleParams params) {
  const Rotation rotation(timer.device(), int64_t{2} * rows * kVocab * 4);
  std::vector<SampleParams> all(rows, params);
  for (int32_t r = 0; r < rows; ++r) all[r].position = static_cast<uint32_t>(r);
  const Ring logits = rotation.Numbers(int64_t{rows} * kVocab, DType::kFloat32, -8, 8);
  const Ring param = rotation.Same(all);
  const Ring scratch = rotation.Empty(int64_t{rows} * kVocab * 4);
  const Ring tokens = rotation.Empty(int64_t{rows} * 4);
  SampleArgs args = {.rows = rows, .vocab = kVocab, .bias = nullptr, .counts = nullptr};
  timer.Time({"sample " + name, Format("%lldx%lld", rows, kVocab), SampleBytes(args)},
             [&](int64_t call) {
               args.logits = logits.at<float>(call);
               args.params = param.at<SampleParams>(call);
               args.scratch = scratch.at<float>(call);
               args.tokens = tokens.at<int32_t>(call);
               timer.device().Sample(args);
             });
}

void TimeLogprobs(KernelTimer& timer, int32_t rows, int32_t top_n) {
  LogprobsArgs args = {.rows = rows, .vocab = kVocab, .top_n = top_n};
  const Rotation rotation(timer.device(), LogprobsBytes(args));
  const Ring logits = rotation.Numbers(int64_t{rows} * kVocab, DType::kFloat32, -8, 8);
  const Ring targets = rotation.Same(Counting(rows));
  const Ring logprobs = rotation.Empty(int64_t{rows} * 4);
  const Ring top_tokens = rotation.Empty(int64_t{rows} * top_n * 4);
  const Ring top_logprobs = rotation.Empty(int64_t{rows} * top_n * 4);
  timer.Time({"logprobs", Format("%lldx%lld top %lld", rows, kVocab, top_n), LogprobsBytes(args)},
             [&](int64_t call) {
               args.logits = logits.at<float>(call);
               args.targets = targets.at<int32_t>(call);
               args.target_logprobs = logprobs.at<float>(call);
               args.top_tokens = top_tokens.at<int32_t>(call);
               args.top_logprobs = top_logprobs.at<float>(call);
               timer.device().Logprobs(args);
             });
}

void TimeMarkPrompt(KernelTimer& timer, int32_t rows) {
  MarkPromptArgs args = {.rows = rows, .vocab = kVocab};
  // A token, a slot, and a word of the table read and written.
  const int64_t bytes = int64_t{rows} * 16;
  const Rotation rotation(timer.device(), int64_t{kVocab} * 4);
  const Ring tokens = rotation.Same(Counting(rows));
  const Ring slots = rotation.Same(std::vector<int32_t>(rows, 0));
  const Ring counts = rotation.Empty(int64_t{kVocab} * 4);
  timer.Time({"token_counts", Format("%lld", rows), bytes}, [&](int64_t call) {
    args.tokens = tokens.at<int32_t>(call);
    args.slots = slots.at<int32_t>(call);
    args.counts = counts.at<uint32_t>(call);
    timer.device().MarkPrompt(args);
  });
}

void TimeMixer(KernelTimer& timer, const ModelShape& m) {
  const Mixer mixer = {m.name, {DType::kFloat32, m.heads, m.heads, m.key_dim, m.value_dim, 1}};
  const bool is_cpu = timer.device().kind() == DeviceKind::kCpu;
  for (const int32_t rows : {1, 8, 64, 128, 512}) {
    if (!timer.Wants("gated_step") || (is_cpu && rows > 64)) continue;
    TimeGatedStep(timer, mixer, rows);
  }
  if (timer.Wants("gated_chunk")) {
    TimeGatedChunk(timer, mixer, 1, 64);
    TimeGatedChunk(timer, mixer, 1, 2048);
    TimeGatedChunk(timer, mixer, 8, 2048);
    if (!is_cpu) {
      TimeGatedChunk(timer, mixer, 1, 16384);
      TimeGatedChunk(timer, mixer, 1, 32768);
      TimeGatedChunk(timer, mixer, 8, 4096);
      TimeGatedChunk(timer, mixer, 64, 256);
    }
  }
  if (timer.Wants("log_gate")) TimeLogGate(timer, 64, m.heads * m.key_dim);
  if (timer.Wants("log_gate")) TimeLogGate(timer, 2048, m.heads * m.key_dim);
  if (timer.Wants("decay")) {
    const int32_t keys = m.heads * m.key_dim;
    TimeDecay(timer, DecayFormula::kLogSigmoid, "log_sigmoid", 2048, keys);
    TimeDecay(timer, DecayFormula::kLowerBound, "lower_bound", 64, keys);
    TimeDecay(timer, DecayFormula::kLowerBound, "lower_bound", 2048, keys);
    TimeDecay(timer, DecayFormula::kExponential, "exponential", 2048, keys);
    TimeDecay(timer, DecayFormula::kSoftplus, "softplus", 2048, m.heads);
  }
  if (timer.Wants("mlstm_gates")) {
    TimeMlstmGates(timer, m.heads, 64, 0);
    TimeMlstmGates(timer, m.heads, 0, 2048);
    TimeMlstmGates(timer, m.heads, 0, 16384);
  }
  if (timer.Wants("normalizer")) TimeNormalizer(timer, 64, m.heads, m.value_dim);
  if (timer.Wants("normalizer")) TimeNormalizer(timer, 2048, m.heads, m.value_dim);
  if (timer.Wants("feature_map")) {
    TimeFeatureMap(timer, FeatureMapKind::kDpfp, "dpfp", m.heads, 64);
    TimeFeatureMap(timer, FeatureMapKind::kHedgehog, "hedgehog", m.heads, m.key_dim);
    TimeFeatureMap(timer, FeatureMapKind::kSinCos, "sin_cos", m.heads, m.key_dim);
  }
  if (timer.Wants("activation")) TimeActivate(timer, 2048, m.heads * m.key_dim);
  if (timer.Wants("short_conv")) TimeShortConv(timer, m.heads * m.value_dim, 64, 0);
  if (timer.Wants("short_conv")) TimeShortConv(timer, m.heads * m.value_dim, 0, 2048);
  for (const int32_t mixes : {0, 2}) {
    if (timer.Wants("token_shift")) TimeTokenShift(timer, m.model_dim, 64, 0, mixes);
    if (timer.Wants("token_shift")) TimeTokenShift(timer, m.model_dim, 0, 2048, mixes);
  }
  for (const int32_t rows : {64, 2048}) {
    if (timer.Wants("lerp")) TimeLerp(timer, rows, m.model_dim, 1);
    if (timer.Wants("lerp")) TimeLerp(timer, rows, m.model_dim, 5);
    if (timer.Wants("rotary")) TimeRotary(timer, rows, m.heads, m.key_dim);
  }
}

void TimeScans(KernelTimer& timer) {
  if (!timer.Wants("selective_scan")) return;
  TimeSelectiveScan(timer, 1, 0, 0);
  TimeSelectiveScan(timer, 64, 0, 0);
  TimeSelectiveScan(timer, 128, 0, 0);
  TimeSelectiveScan(timer, 0, 1, 2048);
  if (timer.device().kind() == DeviceKind::kCpu) return;
  TimeSelectiveScan(timer, 0, 1, 16384);
  TimeSelectiveScan(timer, 0, 8, 2048);
}

void TimeLayers(KernelTimer& timer, const ModelShape& m) {
  const DType dtype = Activations(timer);
  for (const int32_t rows : {1, 4, 8, 16, 64, 2048}) {
    if (timer.Wants("linear")) {
      TimeLinear(timer, rows, m.model_dim, 2 * m.mlp_dim, dtype);
      TimeLinear(timer, rows, m.mlp_dim, m.model_dim, dtype);
      if (rows <= 64) TimeLinear(timer, rows, m.model_dim, kVocab, DType::kFloat32);
      TimeLinearBatch(timer, 5, rows, 32, m.model_dim);
      TimeLinearBatch(timer, 2, rows, m.model_dim, m.model_dim);
      TimeLinearBatch(timer, m.model_dim / 128, 2 * rows, 128, 64);
    }
    if (timer.Wants("norm")) {
      TimeNorm(timer, NormKind::kPlain, rows, 1, m.model_dim);
      TimeNorm(timer, NormKind::kGated, rows, m.heads, m.value_dim);
      TimeNorm(timer, NormKind::kLayer, rows, 1, m.model_dim);
      TimeNorm(timer, NormKind::kGateFirst, rows, 1, 2 * m.model_dim);
    }
    if (timer.Wants("gated_unit")) TimeGatedUnit(timer, rows, m.mlp_dim);
    if (timer.Wants("gather_rows")) TimeGatherRows(timer, m, rows);
  }
}

void TimeSampler(KernelTimer& timer) {
  SampleParams greedy;
  greedy.temperature = 0;
  SampleParams truncated;
  truncated.temperature = 0.8F;
  truncated.top_k = 50;
  truncated.top_p = 0.9F;
  SampleParams nucleus;
  nucleus.top_p = 0.9F;
  if (timer.Wants("token_counts")) TimeMarkPrompt(timer, 2048);
  for (const int32_t rows : {1, 64, 256}) {
    if (timer.Wants("sample")) {
      TimeSample(timer, rows, "greedy", greedy);
      TimeSample(timer, rows, "plain", SampleParams());
      TimeSample(timer, rows, "top_k top_p", truncated);
      TimeSample(timer, rows, "top_p", nucleus);
    }
    if (timer.Wants("logprobs")) TimeLogprobs(timer, rows, 0);
    if (timer.Wants("logprobs")) TimeLogprobs(timer, rows, 20);
  }
}

struct Options {
  std::string device = "cpu";
  std::string shapes;
  std::string op;
  int32_t threads = static_cast<int32_t>(std::thread::hardware_concurrency());
};

bool Parse(const std::string& argument, Options* options) {
  const size_t equals = argument.find('=');
  if (equals == std::string::npos) return false;
  const std::string name = argument.substr(0, equals);
  const std::string value = argument.substr(equals + 1);
  if (name == "--device") options->device = value;
  if (name == "--shapes") options->shapes = value;
  if (name == "--op") options->op = value;
  if (name == "--threads") options->threads = std::atoi(value.c_str());
  const bool known =
      name == "--device" || name == "--shapes" || name == "--op" || name == "--threads";
  return known && options->threads > 0 && (options->device == "cpu" || options->device == "cuda");
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (Parse(argv[i], &options)) continue;
    std::fprintf(stderr,
                 "usage: kernels_bench --device=cpu|cuda [--threads=N] "
                 "[--shapes=demo|gla-1.3b|all] [--op=PART]\n");
    return 2;
  }
  if (options.shapes.empty()) options.shapes = options.device == "cpu" ? "demo" : "all";
  std::string error;
  const std::unique_ptr<Device> device =
      options.device == "cpu" ? CreateCpuDevice(options.threads) : CreateCudaDevice(0, &error);
  if (device == nullptr) {
    std::fprintf(stderr, "kernels_bench: %s\n", error.c_str());
    return 1;
  }
  KernelTimer timer(device.get(), options.op);
  for (const ModelShape& m : {ModelShape{"demo", 3, 64, 128, 384, 1024},
                              ModelShape{"gla-1.3b", 4, 256, 512, 2048, 5632}}) {
    if (options.shapes != "all" && options.shapes != m.name) continue;
    TimeMixer(timer, m);
    TimeLayers(timer, m);
  }
  TimeOtherMixers(timer);
  TimeScans(timer);
  TimeSampler(timer);
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) { return sluice::Main(argc, argv); }
