// What is done to each row, or to each number, alone.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/bench/kernel_cases.h"

namespace sluice {
namespace {

constexpr float kEps = 1e-6F;

}  // namespace

void TimeGatherRows(KernelTimer& timer, int32_t rows, int32_t dim) {
  GatherRowsArgs args = {.rows = rows,
                         .dim = dim,
                         .table_rows = kVocab,
                         .table_dtype = DType::kBFloat16,
                         .out_dtype = Activations(timer)};
  const Rotation rotation(timer.device(), int64_t{2} * kVocab * dim);
  const Ring table = rotation.Numbers(int64_t{kVocab} * dim, DType::kBFloat16);
  std::vector<int32_t> picked = Counting(rows);
  for (int32_t& row : picked) row = static_cast<int32_t>(int64_t{row} * 7919 % kVocab);
  const Ring indices = rotation.Same(picked);
  const Ring out = rotation.Empty(int64_t{rows} * dim * DTypeBytes(args.out_dtype));
  timer.Time({"gather_rows", Format("%lldx%lld", rows, dim), GatherRowsBytes(args)},
             [&](int64_t call) {
               args.table = table[call];
               args.indices = indices.at<int32_t>(call);
               args.out = out[call];
               timer.device().GatherRows(args);
             });
}

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

}  // namespace sluice
