#include "engine/models/gla.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/layers/conv_layer.h"
#include "engine/layers/head_output.h"
#include "engine/layers/projection.h"
#include "engine/layers/recurrence.h"
#include "engine/layers/scratch_sublayer.h"
#include "engine/models/fla_blocks.h"
#include "engine/status_macros.h"
#include "kernels/device_buffer.h"

namespace sluice {
namespace {

struct GlaLayer {
  Projection projection;     // [q | k | v | g | a]
  ConvLayer conv;            // of q | k | v
  DeviceBuffer gate_weight;  // float32 [kv heads * K, rank]
  DeviceBuffer gate_bias;    // float32 [kv heads * K]
  HeadOutput output;
};

// Column offsets of the one projection.
struct Columns {
  int64_t q = 0;
  int64_t k;
  int64_t v;
  int64_t gate;      // output gate
  int64_t low_rank;  // of the forget gate
  int64_t total;
};

struct GlaScratch {
  std::byte* projected;  // [rows, columns.total]
  std::byte* convolved;  // [rows, q | k | v]
  float* log_decay;      // [rows, kv heads * K]
  std::byte* mixed;      // [rows, heads * V]
  std::byte* workspace;  // of GatedChunk
};

class GlaMixer : public ScratchSublayer<GlaScratch> {
 public:
  GlaMixer(const GlaConfig& config, const Compute& compute, StateLayout* state);

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  int64_t ConvChannels() const { return columns_.gate; }
  Scratch LayOut(ScratchArena& arena, const StepSize& size) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;
  GatedOperands Prepare(const GlaLayer& layer, const SublayerContext& context,
                        const Scratch& scratch) const;
  LogGateArgs Gate(const GlaLayer& layer, int32_t rows, const Scratch& scratch) const;

  GlaConfig config_;
  Compute compute_;
  Columns columns_{};
  GatedShape shape_{};
  int64_t matrix_offset_;  // of the state
  int64_t window_offset_ = 0;
  std::vector<GlaLayer> layers_;
};

GlaMixer::GlaMixer(const GlaConfig& config, const Compute& compute, StateLayout* state)
    : config_(config), compute_(compute) {
  columns_.k = config.heads.KeyDim();
  columns_.v = columns_.k + config.heads.KvKeyDim();
  columns_.gate = columns_.v + config.heads.KvValueDim();
  columns_.low_rank = columns_.gate + (config.use_output_gate ? config.heads.ValueDim() : 0);
  columns_.total = columns_.low_rank + config.gate_low_rank_dim;
  shape_ = {.dtype = compute.act,
            .heads = config.heads.num_heads,
            .kv_heads = config.heads.num_kv_heads,
            .key_dim = config.heads.head_k_dim,
            .value_dim = config.heads.head_v_dim,
            .scale = 1.0F / std::sqrt(static_cast<float>(config.heads.head_k_dim)),
            .state = compute.state};
  matrix_offset_ = state->Add("matrix", shape_.StateFloats());
  if (config.conv.use) {
    window_offset_ = state->Add("conv", ConvLayer::WindowFloats(ConvChannels(), config.conv.size));
  }
}

GlaMixer::Scratch GlaMixer::LayOut(ScratchArena& arena, const StepSize& size) const {
  const int64_t act = DTypeBytes(compute_.act);
  Scratch scratch;
  scratch.projected = arena.Take(size.rows * columns_.total * act);
  scratch.convolved = arena.Take(config_.conv.use ? size.rows * ConvChannels() * act : 0);
  scratch.log_decay = arena.Take<float>(int64_t{size.rows} * config_.heads.KvKeyDim() * 4);
  scratch.mixed = arena.Take(int64_t{size.rows} * config_.heads.ValueDim() * act);
  scratch.workspace =
      arena.Take(compute_.device->GatedChunkWorkspaceBytes(shape_, size.segments, size.chunks));
  return scratch;
}

absl::Status GlaMixer::Load(WeightLoader* loader, const std::string& prefix) {
  const std::string attn = prefix + "attn.";
  const int64_t hidden = config_.trunk.hidden_size;
  const int64_t rank = config_.gate_low_rank_dim;
  const int64_t gate_dim = config_.heads.KvKeyDim();
  GlaLayer layer;
  std::vector<ProjectionPart> projection = {{attn + "q_proj", config_.heads.KeyDim()},
                                            {attn + "k_proj", config_.heads.KvKeyDim()},
                                            {attn + "v_proj", config_.heads.KvValueDim()}};
  if (config_.use_output_gate) projection.push_back({attn + "g_proj", config_.heads.ValueDim()});
  projection.push_back({attn + "gk_proj.0", rank});
  SLUICE_ASSIGN_OR_RETURN(layer.projection, Projection::Load(loader, hidden, projection));
  if (config_.conv.use) {
    SLUICE_ASSIGN_OR_RETURN(layer.conv,
                            ConvLayer::Load(loader, config_.conv.size,
                                            {{attn + "q_conv1d", config_.heads.KeyDim()},
                                             {attn + "k_conv1d", config_.heads.KvKeyDim()},
                                             {attn + "v_conv1d", config_.heads.KvValueDim()}}));
  }
  SLUICE_ASSIGN_OR_RETURN(layer.gate_weight,
                          loader->Floats({{attn + "gk_proj.1.weight", {gate_dim, rank}}}));
  SLUICE_ASSIGN_OR_RETURN(layer.gate_bias, loader->Floats({{attn + "gk_proj.1.bias", {gate_dim}}}));
  const std::string norm = absl::StrCat(attn, std::string(config_.gate_norm));
  SLUICE_ASSIGN_OR_RETURN(layer.output,
                          HeadOutput::Load(loader, {.hidden_size = config_.trunk.hidden_size,
                                                    .heads = config_.heads.num_heads,
                                                    .head_dim = config_.heads.head_v_dim,
                                                    .eps = config_.trunk.norm_eps,
                                                    .norm = config_.elementwise_affine ? norm : "",
                                                    .output = attn + "o_proj",
                                                    .gate_act = Activation::kSilu}));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

void GlaMixer::Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) {
  const BatchView& batch = context.batch;
  const GlaLayer& weights = layers_[layer];
  weights.projection.Forward(compute_, batch.rows, context.normed, config_.trunk.hidden_size,
                             scratch.projected, columns_.total);
  const GatedOperands operands = Prepare(weights, context, scratch);
  const LogGateArgs log_gate = Gate(weights, batch.rows, scratch);
  const void* gate =
      config_.use_output_gate ? compute_.Column(scratch.projected, columns_.gate) : nullptr;
  const NormArgs norm =
      weights.output.Norm(compute_, batch.rows, scratch.mixed, gate, columns_.total);
  RunRecurrence(compute_, shape_, batch, operands, scratch.workspace,
                {.log_gate = &log_gate, .norm = &norm});
  weights.output.Project(compute_, batch.rows, scratch.mixed, context.x);
}

// Convolution and feature maps: what makes the projection the operands of the recurrence, but for
// the forget gate.
GatedOperands GlaMixer::Prepare(const GlaLayer& layer, const SublayerContext& context,
                                const Scratch& scratch) const {
  const BatchView& batch = context.batch;
  std::byte* qkv = scratch.projected;
  int64_t stride = columns_.total;
  if (config_.conv.use) {
    layer.conv.Forward(compute_, context, window_offset_, scratch.projected, columns_.total,
                       scratch.convolved);
    qkv = scratch.convolved;
    stride = ConvChannels();
  }
  if (config_.feature_map != Activation::kNone) {
    compute_.device->Activate({.dtype = compute_.act,
                               .act = config_.feature_map,
                               .rows = batch.rows,
                               .cols = static_cast<int32_t>(columns_.v),
                               .x = qkv,
                               .stride = stride});
  }
  return {.q = compute_.Column(qkv, columns_.q),
          .k = compute_.Column(qkv, columns_.k),
          .v = compute_.Column(qkv, columns_.v),
          .q_stride = stride,
          .k_stride = stride,
          .v_stride = stride,
          .log_decay = scratch.log_decay,
          .states = context.states + matrix_offset_,
          .slot_stride = context.slot_stride,
          .out = scratch.mixed};
}

LogGateArgs GlaMixer::Gate(const GlaLayer& layer, int32_t rows, const Scratch& scratch) const {
  return {.dtype = compute_.act,
          .rows = rows,
          .rank = config_.gate_low_rank_dim,
          .dim = config_.heads.KvKeyDim(),
          .normalizer = config_.gate_logit_normalizer,
          .clamp_min = config_.clamp_min.value_or(-std::numeric_limits<float>::infinity()),
          .x = compute_.Column(scratch.projected, columns_.low_rank),
          .x_stride = columns_.total,
          .weight = layer.gate_weight.as<float>(),
          .bias = layer.gate_bias.as<float>(),
          .log_decay = scratch.log_decay};
}

}  // namespace

Architecture MakeGla(const GlaConfig& config, const Compute& compute) {
  FlaMixer mixer;
  mixer.gate = "vector, on the key side";
  mixer.shape = {config.heads.num_heads, config.heads.num_kv_heads, config.heads.head_k_dim,
                 config.heads.head_v_dim};
  mixer.sublayer = std::make_unique<GlaMixer>(config, compute, &mixer.state);
  return MakeFlaBlocks(config.trunk, std::move(mixer), compute);
}

}  // namespace sluice
