#include "engine/models/retention.h"

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "engine/layers/head_output.h"
#include "engine/layers/projection.h"
#include "engine/layers/recurrence.h"
#include "engine/layers/scratch_sublayer.h"
#include "engine/status_macros.h"
#include "kernels/device_buffer.h"

namespace sluice {
namespace {

struct RetentionLayer {
  Projection projection;   // [q | k | v | g | gk]
  DeviceBuffer log_decay;  // float32 [heads], if it is constant
  HeadOutput output;
};

// Column offsets of the one projection.
struct Columns {
  int64_t q = 0;
  int64_t k;
  int64_t v;
  int64_t gate;   // output gate
  int64_t decay;  // one a head
  int64_t total;
};

// The natural logarithms of 1 - 2^(-5-h).
std::vector<float> ConstantLogDecay(int32_t heads) {
  std::vector<float> log_decay(heads);
  for (int32_t h = 0; h < heads; ++h) {
    log_decay[h] = static_cast<float>(std::log1p(-std::ldexp(1.0, -5 - h)));
  }
  return log_decay;
}

struct RetentionScratch {
  std::byte* projected;  // [rows, columns.total]
  float* log_decay;      // [rows, heads], if it depends on the token
  std::byte* mixed;      // [rows, heads * V]
  std::byte* workspace;  // of GatedChunk
};

class Retention : public ScratchSublayer<RetentionScratch> {
 public:
  Retention(RetentionSpec spec, const Compute& compute, StateLayout* state);

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  bool gated() const { return spec_.gate_logit_normalizer.has_value(); }
  Scratch LayOut(ScratchArena& arena, const StepSize& size) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;
  absl::StatusOr<Projection> LoadProjection(WeightLoader* loader, const std::string& attn) const;
  GatedOperands Prepare(const RetentionLayer& layer, const SublayerContext& context,
                        const Scratch& scratch) const;

  RetentionSpec spec_;
  Compute compute_;
  Columns columns_{};
  GatedShape shape_{};
  int64_t matrix_offset_;  // of the state
  std::vector<RetentionLayer> layers_;
};

Retention::Retention(RetentionSpec spec, const Compute& compute, StateLayout* state)
    : spec_(std::move(spec)), compute_(compute) {
  const FlaHeads& heads = spec_.heads;
  columns_.k = heads.KeyDim();
  columns_.v = columns_.k + heads.KeyDim();
  columns_.gate = columns_.v + heads.ValueDim();
  columns_.decay = columns_.gate + (spec_.use_output_gate ? heads.ValueDim() : 0);
  columns_.total = Projection::Columns(columns_.decay + (gated() ? heads.num_heads : 0));
  shape_ = {.dtype = compute.act,
            .heads = heads.num_heads,
            .kv_heads = heads.num_heads,
            .key_dim = heads.head_k_dim,
            .value_dim = heads.head_v_dim,
            .scale = 1.0F / std::sqrt(static_cast<float>(heads.head_k_dim)),
            .gate = gated() ? GateKind::kScalar : GateKind::kConstant,
            .state = compute.state};
  matrix_offset_ = state->Add("matrix", shape_.StateFloats());
}

Retention::Scratch Retention::LayOut(ScratchArena& arena, const StepSize& size) const {
  const int64_t act = DTypeBytes(compute_.act);
  Scratch scratch;
  scratch.projected = arena.Take(size.rows * columns_.total * act);
  scratch.log_decay =
      arena.Take<float>(gated() ? int64_t{size.rows} * spec_.heads.num_heads * 4 : 0);
  scratch.mixed = arena.Take(int64_t{size.rows} * spec_.heads.ValueDim() * act);
  scratch.workspace =
      arena.Take(compute_.device->GatedChunkWorkspaceBytes(shape_, size.segments, size.chunks));
  return scratch;
}

// Keys and values that several heads share come out of the product once for each.
absl::StatusOr<Projection> Retention::LoadProjection(WeightLoader* loader,
                                                     const std::string& attn) const {
  const FlaHeads& heads = spec_.heads;
  std::vector<ProjectionPart> parts = {{attn + "q_proj", heads.KeyDim()},
                                       {attn + "k_proj", heads.KvKeyDim()},
                                       {attn + "v_proj", heads.KvValueDim()}};
  if (heads.num_kv_heads < heads.num_heads) {
    parts[1].pieces.assign(heads.num_kv_heads, heads.head_k_dim);
    parts[2].pieces.assign(heads.num_kv_heads, heads.head_v_dim);
    parts[1].copies = parts[2].copies = heads.num_heads / heads.num_kv_heads;
  }
  if (spec_.use_output_gate) parts.push_back({attn + "g_proj", heads.ValueDim()});
  if (gated()) parts.push_back({attn + "gk_proj", heads.num_heads});
  return Projection::Load(loader, spec_.hidden_size, parts);
}

absl::Status Retention::Load(WeightLoader* loader, const std::string& prefix) {
  const std::string attn = prefix + "attn.";
  RetentionLayer layer;
  SLUICE_ASSIGN_OR_RETURN(layer.projection, LoadProjection(loader, attn));
  if (!gated()) {
    SLUICE_ASSIGN_OR_RETURN(layer.log_decay,
                            loader->FromHost(ConstantLogDecay(spec_.heads.num_heads)));
  }
  SLUICE_ASSIGN_OR_RETURN(
      layer.output, HeadOutput::Load(loader, {.hidden_size = spec_.hidden_size,
                                              .heads = spec_.heads.num_heads,
                                              .head_dim = spec_.heads.head_v_dim,
                                              .eps = spec_.norm_eps,
                                              .norm = spec_.norm.empty() ? "" : attn + spec_.norm,
                                              .output = attn + "o_proj",
                                              .gate_act = Activation::kSilu}));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

void Retention::Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) {
  const BatchView& batch = context.batch;
  const RetentionLayer& weights = layers_[layer];
  weights.projection.Forward(compute_, batch.rows, context.normed, spec_.hidden_size,
                             scratch.projected, columns_.total);
  const GatedOperands operands = Prepare(weights, context, scratch);
  const void* gate =
      spec_.use_output_gate ? compute_.Column(scratch.projected, columns_.gate) : nullptr;
  const NormArgs norm =
      weights.output.Norm(compute_, batch.rows, scratch.mixed, gate, columns_.total);
  RunRecurrence(compute_, shape_, batch, operands, scratch.workspace, {.norm = &norm});
  weights.output.Project(compute_, batch.rows, scratch.mixed, context.x);
}

// Feature map, rotation and decay: what makes the projection the operands of the recurrence.
GatedOperands Retention::Prepare(const RetentionLayer& layer, const SublayerContext& context,
                                 const Scratch& scratch) const {
  const BatchView& batch = context.batch;
  const FlaHeads& heads = spec_.heads;
  if (spec_.feature_map != Activation::kNone) {
    compute_.device->Activate({.dtype = compute_.act,
                               .act = spec_.feature_map,
                               .rows = batch.rows,
                               .cols = static_cast<int32_t>(columns_.v),
                               .x = scratch.projected,
                               .stride = columns_.total});
  }
  // Heads of q, then of k.
  compute_.device->Rotate({.dtype = compute_.act,
                           .rows = batch.rows,
                           .heads = 2 * heads.num_heads,
                           .dim = heads.head_k_dim,
                           .base = spec_.rotary_base,
                           .positions = batch.positions,
                           .x = scratch.projected,
                           .stride = columns_.total});
  if (gated()) {
    compute_.device->Decay({.dtype = compute_.act,
                            .formula = DecayFormula::kLogSigmoid,
                            .rows = batch.rows,
                            .dim = heads.num_heads,
                            .x = compute_.Column(scratch.projected, columns_.decay),
                            .x_stride = columns_.total,
                            .normalizer = *spec_.gate_logit_normalizer,
                            .log_decay = scratch.log_decay});
  }
  return {.q = compute_.Column(scratch.projected, columns_.q),
          .k = compute_.Column(scratch.projected, columns_.k),
          .v = compute_.Column(scratch.projected, columns_.v),
          .q_stride = columns_.total,
          .k_stride = columns_.total,
          .v_stride = columns_.total,
          .log_decay = gated() ? scratch.log_decay : layer.log_decay.as<float>(),
          .states = context.states + matrix_offset_,
          .slot_stride = context.slot_stride,
          .out = scratch.mixed};
}

}  // namespace

FlaMixer MakeRetention(const RetentionSpec& spec, const Compute& compute) {
  FlaMixer mixer;
  mixer.gate = spec.gate_logit_normalizer.has_value() ? "scalar" : "constant";
  mixer.shape = {spec.heads.num_heads, spec.heads.num_heads, spec.heads.head_k_dim,
                 spec.heads.head_v_dim};
  mixer.sublayer = std::make_unique<Retention>(spec, compute, &mixer.state);
  return mixer;
}

}  // namespace sluice
