#include "engine/models/xlstm.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/layers/head_output.h"
#include "engine/layers/normalized_recurrence.h"
#include "engine/layers/projection.h"
#include "engine/layers/scratch_sublayer.h"
#include "engine/layers/swiglu_mlp.h"
#include "engine/status_macros.h"
#include "kernels/device_buffer.h"

namespace sluice {
namespace {

struct XlstmLayer {
  Projection projection;   // [q | k | v | o | i | f]
  DeviceBuffer gate_bias;  // float32 [i | f]
  HeadOutput output;
};

// Column offsets of the one projection.
struct Columns {
  int64_t q = 0;
  int64_t k;
  int64_t v;
  int64_t output_gate;
  int64_t input_gate;
  int64_t forget_gate;
  int64_t total;
};

struct XlstmScratch {
  std::byte* projected;  // [rows, columns.total]
  float* log_decay;      // [rows, H]
  float* input_scale;    // [rows, H]
  float* log_floor;      // [rows, H]
  NormalizedRecurrence::Scratch recurrence;
  std::byte* mixed;  // [rows, H * V]
};

class XlstmMixer : public ScratchSublayer<XlstmScratch> {
 public:
  XlstmMixer(const XlstmConfig& config, const Compute& compute, StateLayout* state);

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  Scratch LayOut(ScratchArena& arena, const StepSize& size) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;
  std::vector<ProjectionPart> Parts(const std::string& mixer) const;
  void Gates(const XlstmLayer& layer, const SublayerContext& context, const Scratch& scratch) const;

  XlstmConfig config_;
  Compute compute_;
  Columns columns_{};
  NormalizedRecurrence recurrence_;
  int64_t matrix_offset_;  // of the state
  int64_t max_offset_;
  std::vector<XlstmLayer> layers_;
};

XlstmMixer::XlstmMixer(const XlstmConfig& config, const Compute& compute, StateLayout* state)
    : config_(config),
      compute_(compute),
      recurrence_({.dtype = compute.act,
                   .heads = config.num_heads,
                   .kv_heads = config.num_heads,
                   .key_dim = config.head_k_dim,
                   .value_dim = config.head_v_dim,
                   .scale = 1.0F / std::sqrt(static_cast<float>(config.head_k_dim)),
                   .gate = GateKind::kScalar,
                   .state = compute.state},
                  NormalizeKind::kMlstm, config.eps),
      matrix_offset_(state->Add("matrix", recurrence_.StateFloats())),
      max_offset_(state->Add("max", config.num_heads)) {
  columns_.k = config.KeyDim();
  columns_.v = columns_.k + config.KeyDim();
  columns_.output_gate = columns_.v + config.ValueDim();
  columns_.input_gate = columns_.output_gate + config.ValueDim();
  columns_.forget_gate = columns_.input_gate + config.num_heads;
  columns_.total = Projection::Columns(columns_.forget_gate + config.num_heads);
}

XlstmMixer::Scratch XlstmMixer::LayOut(ScratchArena& arena, const StepSize& size) const {
  const int64_t act = DTypeBytes(compute_.act);
  const int64_t gate_bytes = int64_t{size.rows} * config_.num_heads * 4;
  Scratch scratch;
  scratch.projected = arena.Take(size.rows * columns_.total * act);
  scratch.log_decay = arena.Take<float>(gate_bytes);
  scratch.input_scale = arena.Take<float>(gate_bytes);
  scratch.log_floor = arena.Take<float>(gate_bytes);
  scratch.recurrence = recurrence_.LayOut(compute_, arena, size);
  scratch.mixed = arena.Take(int64_t{size.rows} * config_.ValueDim() * act);
  return scratch;
}

// The biases of the last two gates are left to the op that makes gates of them.
std::vector<ProjectionPart> XlstmMixer::Parts(const std::string& mixer) const {
  const int64_t key = config_.KeyDim();
  const int64_t value = config_.ValueDim();
  const int64_t heads = config_.num_heads;
  const bool bias = config_.use_bias;
  if (config_.fused) {
    return {{mixer + "qkv_opreact", 2 * key + 2 * value, bias},
            {mixer + "ifgate_preact", 2 * heads}};
  }
  return {{mixer + "q", key, bias},        {mixer + "k", key, bias},
          {mixer + "v", value, bias},      {mixer + "ogate_preact", value, bias},
          {mixer + "igate_preact", heads}, {mixer + "fgate_preact", heads}};
}

absl::Status XlstmMixer::Load(WeightLoader* loader, const std::string& prefix) {
  const std::string mixer = prefix + "mlstm_layer.";
  const int64_t heads = config_.num_heads;
  XlstmLayer layer;
  SLUICE_ASSIGN_OR_RETURN(layer.projection,
                          Projection::Load(loader, config_.hidden_size, Parts(mixer)));
  std::vector<WeightPart> biases = {{mixer + "igate_preact.bias", {heads}},
                                    {mixer + "fgate_preact.bias", {heads}}};
  if (config_.fused) biases = {{mixer + "ifgate_preact.bias", {2 * heads}}};
  SLUICE_ASSIGN_OR_RETURN(layer.gate_bias, loader->Floats(biases));
  SLUICE_ASSIGN_OR_RETURN(layer.output,
                          HeadOutput::Load(loader, {.hidden_size = config_.hidden_size,
                                                    .heads = config_.num_heads,
                                                    .head_dim = config_.head_v_dim,
                                                    .eps = config_.norm_eps,
                                                    .norm = mixer + "multihead_norm",
                                                    .output = mixer + "out_proj",
                                                    .gate_act = Activation::kSigmoid,
                                                    .wide_weight = true,
                                                    .center = true,
                                                    .norm_bias = config_.use_bias,
                                                    .bias = config_.use_bias}));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

void XlstmMixer::Gates(const XlstmLayer& layer, const SublayerContext& context,
                       const Scratch& scratch) const {
  const BatchView& batch = context.batch;
  compute_.device->MlstmGates({.dtype = compute_.act,
                               .heads = config_.num_heads,
                               .decode_rows = batch.decode_rows,
                               .slots = batch.decode_slots,
                               .segment_count = batch.segment_count,
                               .segments = batch.segments,
                               .rows = batch.rows,
                               .input = compute_.Column(scratch.projected, columns_.input_gate),
                               .input_stride = columns_.total,
                               .forget = compute_.Column(scratch.projected, columns_.forget_gate),
                               .forget_stride = columns_.total,
                               .input_bias = layer.gate_bias.as<float>(),
                               .forget_bias = layer.gate_bias.as<float>() + config_.num_heads,
                               .soft_cap = config_.gate_soft_cap,
                               .max = context.states + max_offset_,
                               .slot_stride = context.slot_stride,
                               .log_decay = scratch.log_decay,
                               .input_scale = scratch.input_scale,
                               .log_floor = scratch.log_floor});
}

void XlstmMixer::Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) {
  const BatchView& batch = context.batch;
  const XlstmLayer& weights = layers_[layer];
  weights.projection.Forward(compute_, batch.rows, context.normed, config_.hidden_size,
                             scratch.projected, columns_.total);
  Gates(weights, context, scratch);
  recurrence_.Run(compute_, batch,
                  {.q = compute_.Column(scratch.projected, columns_.q),
                   .k = compute_.Column(scratch.projected, columns_.k),
                   .v = compute_.Column(scratch.projected, columns_.v),
                   .q_stride = columns_.total,
                   .k_stride = columns_.total,
                   .v_stride = columns_.total,
                   .log_decay = scratch.log_decay,
                   .input_scale = scratch.input_scale,
                   .states = context.states + matrix_offset_,
                   .slot_stride = context.slot_stride,
                   .out = scratch.mixed},
                  scratch.recurrence, scratch.log_floor);
  weights.output.Forward(compute_, batch.rows, scratch.mixed,
                         compute_.Column(scratch.projected, columns_.output_gate), columns_.total,
                         context.x);
}

}  // namespace

Architecture MakeXlstm(const XlstmConfig& config, const Compute& compute) {
  Architecture architecture;
  architecture.embedding = "backbone.embeddings.weight";
  architecture.layers = "backbone.blocks.";
  architecture.final_norm = "backbone.out_norm";
  architecture.norm = {.eps = config.norm_eps, .bias = config.use_bias};
  architecture.last_norm = {.eps = config.norm_eps};
  architecture.logit_cap = config.logit_soft_cap;
  architecture.gate = "scalar, with an exponential input gate and a normaliser";
  architecture.state_shape = {config.num_heads, config.num_heads, config.head_k_dim,
                              config.head_v_dim};
  architecture.blocks.push_back(
      {"norm_mlstm", std::make_unique<XlstmMixer>(config, compute, &architecture.layer_state)});
  const MlpNames names = {.module = "ffn",
                          .gate = "proj_up_gate",
                          .up = "proj_up",
                          .down = "proj_down",
                          .gate_up = config.fused ? "proj_up_gate_z" : "",
                          .bias = config.use_bias};
  architecture.blocks.push_back(
      {"norm_ffn",
       std::make_unique<SwiGluMlp>(compute, config.hidden_size, config.intermediate_size, names)});
  return architecture;
}

}  // namespace sluice
