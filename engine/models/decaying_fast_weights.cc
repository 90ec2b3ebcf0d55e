#include "engine/models/decaying_fast_weights.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/layers/head_output.h"
#include "engine/layers/projection.h"
#include "engine/layers/recurrence.h"
#include "engine/layers/scratch_sublayer.h"
#include "engine/models/fla_blocks.h"
#include "engine/status_macros.h"
#include "kernels/device_buffer.h"

namespace sluice {
namespace {

struct FastWeightsLayer {
  Projection projection;    // [q | k | v | a | b]
  DeviceBuffer key_bias;    // float32 [heads * K], of a
  DeviceBuffer value_bias;  // float32 [heads * V], of b
  HeadOutput output;
};

// Column offsets of the one projection.
struct Columns {
  int64_t q = 0;
  int64_t k;
  int64_t v;
  int64_t key_gate;
  int64_t value_gate;
  int64_t total;
};

struct FastWeightsScratch {
  std::byte* projected;    // [rows, columns.total]
  float* log_decay;        // [rows, heads * K]
  float* value_log_decay;  // [rows, heads * V]
  std::byte* mixed;        // [rows, heads * V]
  std::byte* workspace;    // of GatedChunk
};

class FastWeightsMixer : public ScratchSublayer<FastWeightsScratch> {
 public:
  FastWeightsMixer(const DecayingFastWeightsConfig& config, const Compute& compute,
                   StateLayout* state);

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  Scratch LayOut(ScratchArena& arena, const StepSize& size) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;
  void Gate(int32_t rows, int32_t dim, const std::byte* x, const DeviceBuffer& bias,
            float* log_decay) const;

  DecayingFastWeightsConfig config_;
  Compute compute_;
  Columns columns_{};
  GatedShape shape_{};
  int64_t matrix_offset_;  // of the state
  std::vector<FastWeightsLayer> layers_;
};

FastWeightsMixer::FastWeightsMixer(const DecayingFastWeightsConfig& config, const Compute& compute,
                                   StateLayout* state)
    : config_(config), compute_(compute) {
  const FlaHeads& heads = config.heads;
  columns_.k = heads.KeyDim();
  columns_.v = columns_.k + heads.KeyDim();
  columns_.key_gate = columns_.v + heads.ValueDim();
  columns_.value_gate = columns_.key_gate + heads.KeyDim();
  columns_.total = columns_.value_gate + heads.ValueDim();
  shape_ = {.dtype = compute.act,
            .heads = heads.num_heads,
            .kv_heads = heads.num_heads,
            .key_dim = heads.head_k_dim,
            .value_dim = heads.head_v_dim,
            .scale = 1.0F / std::sqrt(static_cast<float>(heads.head_k_dim)),
            .gate = GateKind::kVector,
            .value_gate = true,
            .state = compute.state};
  matrix_offset_ = state->Add("matrix", shape_.StateFloats());
}

FastWeightsMixer::Scratch FastWeightsMixer::LayOut(ScratchArena& arena,
                                                   const StepSize& size) const {
  const FlaHeads& heads = config_.heads;
  const int64_t act = DTypeBytes(compute_.act);
  Scratch scratch;
  scratch.projected = arena.Take(size.rows * columns_.total * act);
  scratch.log_decay = arena.Take<float>(int64_t{size.rows} * heads.KeyDim() * 4);
  scratch.value_log_decay = arena.Take<float>(int64_t{size.rows} * heads.ValueDim() * 4);
  scratch.mixed = arena.Take(int64_t{size.rows} * heads.ValueDim() * act);
  scratch.workspace =
      arena.Take(compute_.device->GatedChunkWorkspaceBytes(shape_, size.segments, size.chunks));
  return scratch;
}

absl::Status FastWeightsMixer::Load(WeightLoader* loader, const std::string& prefix) {
  const std::string attn = prefix + "attn.";
  const FlaHeads& heads = config_.heads;
  FastWeightsLayer layer;
  SLUICE_ASSIGN_OR_RETURN(layer.projection,
                          Projection::Load(loader, config_.trunk.hidden_size,
                                           {{attn + "q_proj", heads.KeyDim()},
                                            {attn + "k_proj", heads.KeyDim()},
                                            {attn + "v_proj", heads.ValueDim()},
                                            {attn + "a_proj", heads.KeyDim()},
                                            {attn + "b_proj", heads.ValueDim()}}));
  SLUICE_ASSIGN_OR_RETURN(layer.key_bias,
                          loader->Floats({{attn + "a_proj.bias", {heads.KeyDim()}}}));
  SLUICE_ASSIGN_OR_RETURN(layer.value_bias,
                          loader->Floats({{attn + "b_proj.bias", {heads.ValueDim()}}}));
  SLUICE_ASSIGN_OR_RETURN(layer.output,
                          HeadOutput::Load(loader, {.hidden_size = config_.trunk.hidden_size,
                                                    .heads = heads.num_heads,
                                                    .head_dim = heads.head_v_dim,
                                                    .normed = false,
                                                    .output = attn + "o_proj"}));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

void FastWeightsMixer::Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) {
  const BatchView& batch = context.batch;
  const FlaHeads& heads = config_.heads;
  const FastWeightsLayer& weights = layers_[layer];
  std::byte* const projected = scratch.projected;
  weights.projection.Forward(compute_, batch.rows, context.normed, config_.trunk.hidden_size,
                             projected, columns_.total);
  Gate(batch.rows, heads.KeyDim(), compute_.Column(projected, columns_.key_gate), weights.key_bias,
       scratch.log_decay);
  Gate(batch.rows, heads.ValueDim(), compute_.Column(projected, columns_.value_gate),
       weights.value_bias, scratch.value_log_decay);
  RunRecurrence(compute_, shape_, batch,
                {.q = compute_.Column(projected, columns_.q),
                 .k = compute_.Column(projected, columns_.k),
                 .v = compute_.Column(projected, columns_.v),
                 .q_stride = columns_.total,
                 .k_stride = columns_.total,
                 .v_stride = columns_.total,
                 .log_decay = scratch.log_decay,
                 .value_log_decay = scratch.value_log_decay,
                 .states = context.states + matrix_offset_,
                 .slot_stride = context.slot_stride,
                 .out = scratch.mixed},
                scratch.workspace);
  weights.output.Forward(compute_, batch.rows, scratch.mixed, nullptr, 0, context.x);
}

void FastWeightsMixer::Gate(int32_t rows, int32_t dim, const std::byte* x, const DeviceBuffer& bias,
                            float* log_decay) const {
  compute_.device->Decay({.dtype = compute_.act,
                          .formula = DecayFormula::kLogSigmoid,
                          .rows = rows,
                          .dim = dim,
                          .x = x,
                          .x_stride = columns_.total,
                          .bias = bias.as<float>(),
                          .log_decay = log_decay});
}

}  // namespace

Architecture MakeDecayingFastWeights(const DecayingFastWeightsConfig& config,
                                     const Compute& compute) {
  FlaMixer mixer;
  mixer.gate = "vector, on the key side and on the value side";
  mixer.shape = {config.heads.num_heads, config.heads.num_heads, config.heads.head_k_dim,
                 config.heads.head_v_dim};
  mixer.sublayer = std::make_unique<FastWeightsMixer>(config, compute, &mixer.state);
  return MakeFlaBlocks(config.trunk, std::move(mixer), compute);
}

}  // namespace sluice
