#include "engine/models/gated_rfa.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/layers/batched_projection.h"
#include "engine/layers/head_output.h"
#include "engine/layers/normalized_recurrence.h"
#include "engine/layers/projection.h"
#include "engine/layers/scratch_sublayer.h"
#include "engine/models/fla_blocks.h"
#include "engine/status_macros.h"
#include "kernels/device_buffer.h"

namespace sluice {
namespace {

struct GatedRfaLayer {
  Projection query_key;               // [q | k]
  Projection value_gate;              // [v | g]
  DeviceBuffer gate_bias;             // float32 [heads]
  BatchedProjection random_features;  // of each head, from K to D
  DeviceBuffer norm_weight;           // float32 [K], each K^-1/2: makes the norm one of length
  HeadOutput output;
};

struct GatedRfaScratch {
  std::byte* query_key;   // [rows, q | k], each heads * K
  std::byte* value_gate;  // [rows, v | g]
  std::byte* angles;      // [rows, q | k], each heads * D
  std::byte* features;    // [rows, q | k], each heads * 2 D
  float* log_decay;       // [rows, heads]
  float* input_scale;     // [rows, heads]
  std::byte* mixed;       // [rows, heads * V]
  NormalizedRecurrence::Scratch recurrence;
};

class GatedRfaMixer : public ScratchSublayer<GatedRfaScratch> {
 public:
  GatedRfaMixer(const GatedRfaConfig& config, const Compute& compute, StateLayout* state);

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  int64_t ValueGateColumns() const {
    return Projection::Columns(config_.heads.ValueDim() + config_.heads.num_heads);
  }
  Scratch LayOut(ScratchArena& arena, const StepSize& size) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;
  void MapFeatures(const GatedRfaLayer& layer, int32_t rows, const Scratch& scratch) const;
  GatedOperands Prepare(const GatedRfaLayer& layer, const SublayerContext& context,
                        const Scratch& scratch) const;

  GatedRfaConfig config_;
  Compute compute_;
  NormalizedRecurrence recurrence_;
  int64_t matrix_offset_;  // of the state
  std::vector<GatedRfaLayer> layers_;
};

GatedRfaMixer::GatedRfaMixer(const GatedRfaConfig& config, const Compute& compute,
                             StateLayout* state)
    : config_(config),
      compute_(compute),
      recurrence_({.dtype = compute.act,
                   .heads = config.heads.num_heads,
                   .kv_heads = config.heads.num_heads,
                   .key_dim = 2 * config.num_features,
                   .value_dim = config.heads.head_v_dim,
                   .scale = 1,
                   .gate = GateKind::kScalar,
                   .state = compute.state},
                  NormalizeKind::kSum, config.normalizer_eps) {
  matrix_offset_ = state->Add("matrix", recurrence_.StateFloats());
}

GatedRfaMixer::Scratch GatedRfaMixer::LayOut(ScratchArena& arena, const StepSize& size) const {
  const FlaHeads& heads = config_.heads;
  const int64_t row_bytes = size.rows * DTypeBytes(compute_.act);
  const int64_t features = int64_t{heads.num_heads} * config_.num_features;
  Scratch scratch;
  scratch.query_key = arena.Take(row_bytes * 2 * heads.KeyDim());
  scratch.value_gate = arena.Take(row_bytes * ValueGateColumns());
  scratch.angles = arena.Take(row_bytes * 2 * features);
  scratch.features = arena.Take(row_bytes * 4 * features);
  scratch.log_decay = arena.Take<float>(int64_t{size.rows} * heads.num_heads * 4);
  scratch.input_scale = arena.Take<float>(int64_t{size.rows} * heads.num_heads * 4);
  scratch.mixed = arena.Take(row_bytes * heads.ValueDim());
  scratch.recurrence = recurrence_.LayOut(compute_, arena, size);
  return scratch;
}

absl::Status GatedRfaMixer::Load(WeightLoader* loader, const std::string& prefix) {
  const std::string attn = prefix + "attn.";
  const FlaHeads& heads = config_.heads;
  const int64_t hidden = config_.trunk.hidden_size;
  GatedRfaLayer layer;
  SLUICE_ASSIGN_OR_RETURN(layer.query_key, Projection::Load(loader, hidden,
                                                            {{attn + "q_proj", heads.KeyDim()},
                                                             {attn + "k_proj", heads.KeyDim()}}));
  SLUICE_ASSIGN_OR_RETURN(layer.value_gate, Projection::Load(loader, hidden,
                                                             {{attn + "v_proj", heads.ValueDim()},
                                                              {attn + "g_proj", heads.num_heads}}));
  SLUICE_ASSIGN_OR_RETURN(layer.gate_bias,
                          loader->Floats({{attn + "g_proj.bias", {heads.num_heads}}}));
  SLUICE_ASSIGN_OR_RETURN(layer.random_features, BatchedProjection::LoadStack(
                                                     loader, heads.head_k_dim, config_.num_features,
                                                     heads.num_heads, attn + "random_features"));
  const float root = 1.0F / std::sqrt(static_cast<float>(heads.head_k_dim));
  SLUICE_ASSIGN_OR_RETURN(layer.norm_weight,
                          loader->FromHost(std::vector<float>(heads.head_k_dim, root)));
  SLUICE_ASSIGN_OR_RETURN(layer.output,
                          HeadOutput::Load(loader, {.hidden_size = config_.trunk.hidden_size,
                                                    .heads = heads.num_heads,
                                                    .head_dim = heads.head_v_dim,
                                                    .normed = false,
                                                    .output = attn + "o_proj"}));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

void GatedRfaMixer::Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) {
  const BatchView& batch = context.batch;
  const GatedRfaLayer& weights = layers_[layer];
  const int64_t hidden = config_.trunk.hidden_size;
  weights.query_key.Forward(compute_, batch.rows, context.normed, hidden, scratch.query_key,
                            weights.query_key.columns());
  weights.value_gate.Forward(compute_, batch.rows, context.normed, hidden, scratch.value_gate,
                             weights.value_gate.columns());
  MapFeatures(weights, batch.rows, scratch);
  const GatedOperands operands = Prepare(weights, context, scratch);
  recurrence_.Run(compute_, batch, operands, scratch.recurrence);
  weights.output.Forward(compute_, batch.rows, scratch.mixed, nullptr, 0, context.x);
}

// Queries and keys of a row lie side by side, so that each op takes them as two rows.
void GatedRfaMixer::MapFeatures(const GatedRfaLayer& layer, int32_t rows,
                                const Scratch& scratch) const {
  const FlaHeads& heads = config_.heads;
  const int32_t count = config_.num_features;
  compute_.device->Norm({.dtype = compute_.act,
                         .rows = 2 * rows,
                         .groups = heads.num_heads,
                         .dim = heads.head_k_dim,
                         .eps = config_.trunk.norm_eps,
                         .x = scratch.query_key,
                         .x_stride = heads.KeyDim(),
                         .weight = layer.norm_weight.as<float>(),
                         .y = scratch.query_key,
                         .y_stride = heads.KeyDim()});
  layer.random_features.Forward(compute_, 2 * rows,
                                {scratch.query_key, heads.KeyDim(), heads.head_k_dim},
                                {scratch.angles, int64_t{heads.num_heads} * count, count});
  compute_.device->MapFeatures({.dtype = compute_.act,
                                .kind = FeatureMapKind::kSinCos,
                                .rows = 2 * rows,
                                .heads = heads.num_heads,
                                .dim = count,
                                .x = scratch.angles,
                                .x_stride = int64_t{heads.num_heads} * count,
                                .scale = 1.0F / std::sqrt(static_cast<float>(count)),
                                .y = scratch.features,
                                .y_stride = int64_t{heads.num_heads} * 2 * count});
}

// The gate, and with it the operands of the recurrence.
GatedOperands GatedRfaMixer::Prepare(const GatedRfaLayer& layer, const SublayerContext& context,
                                     const Scratch& scratch) const {
  const FlaHeads& heads = config_.heads;
  const int64_t features = int64_t{heads.num_heads} * 2 * config_.num_features;
  compute_.device->Decay({.dtype = compute_.act,
                          .formula = DecayFormula::kLogSigmoid,
                          .rows = context.batch.rows,
                          .dim = heads.num_heads,
                          .x = compute_.Column(scratch.value_gate, heads.ValueDim()),
                          .x_stride = layer.value_gate.columns(),
                          .bias = layer.gate_bias.as<float>(),
                          .log_decay = scratch.log_decay,
                          .input_scale = scratch.input_scale});
  return {.q = scratch.features,
          .k = compute_.Column(scratch.features, features),
          .v = scratch.value_gate,
          .q_stride = 2 * features,
          .k_stride = 2 * features,
          .v_stride = layer.value_gate.columns(),
          .log_decay = scratch.log_decay,
          .input_scale = scratch.input_scale,
          .states = context.states + matrix_offset_,
          .slot_stride = context.slot_stride,
          .out = scratch.mixed};
}

}  // namespace

Architecture MakeGatedRfa(const GatedRfaConfig& config, const Compute& compute) {
  FlaMixer mixer;
  mixer.gate = "scalar";
  mixer.shape = {config.heads.num_heads, config.heads.num_heads, 2 * config.num_features,
                 config.heads.head_v_dim};
  mixer.sublayer = std::make_unique<GatedRfaMixer>(config, compute, &mixer.state);
  return MakeFlaBlocks(config.trunk, std::move(mixer), compute);
}

}  // namespace sluice
