#include "engine/models/linear_attn.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/layers/feature_map_layer.h"
#include "engine/layers/head_output.h"
#include "engine/layers/normalized_recurrence.h"
#include "engine/layers/projection.h"
#include "engine/layers/recurrence.h"
#include "engine/layers/scratch_sublayer.h"
#include "engine/models/fla_blocks.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr float kSumEps = 1e-4F;  // of norm_q and norm_k
constexpr float kNormalizerEps = 1e-10F;

struct LinearAttnLayer {
  // Products of their own: a learned map reads the heads of all rows as rows.
  Projection q;
  Projection k;
  Projection v;
  FeatureMapLayer query_map;  // unused if the maps are tied
  FeatureMapLayer key_map;
  HeadOutput output;
};

struct LinearAttnScratch {
  std::byte* q;  // [rows, heads * K]
  std::byte* k;  // [rows, kv heads * K]
  std::byte* v;  // [rows, kv heads * V]
  FeatureMapLayer::Scratch query_map;
  FeatureMapLayer::Scratch key_map;
  std::byte* mixed;                          // [rows, heads * V]
  std::byte* workspace;                      // of GatedChunk; not if normalised
  NormalizedRecurrence::Scratch normalized;  // if normalised
};

class LinearAttnMixer : public ScratchSublayer<LinearAttnScratch> {
 public:
  LinearAttnMixer(const LinearAttnConfig& config, const Compute& compute, StateLayout* state);

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  float query_sum_eps() const { return config_.norm_q ? kSumEps : 0; }
  float key_sum_eps() const { return config_.norm_k ? kSumEps : 0; }
  Scratch LayOut(ScratchArena& arena, const StepSize& size) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;
  absl::Status LoadMaps(WeightLoader* loader, const std::string& attn,
                        LinearAttnLayer& layer) const;
  GatedOperands Prepare(const LinearAttnLayer& layer, const SublayerContext& context,
                        const Scratch& scratch) const;

  LinearAttnConfig config_;
  Compute compute_;
  GatedShape shape_{};
  NormalizedRecurrence normalized_;
  int64_t matrix_offset_;  // of the state
  std::vector<LinearAttnLayer> layers_;
};

LinearAttnMixer::LinearAttnMixer(const LinearAttnConfig& config, const Compute& compute,
                                 StateLayout* state)
    : config_(config), compute_(compute) {
  const int32_t features = config.Map().Features();
  shape_ = {.dtype = compute.act,
            .heads = config.heads.num_heads,
            .kv_heads = config.heads.num_kv_heads,
            .key_dim = features,
            .value_dim = config.heads.head_v_dim,
            .scale = 1.0F / std::sqrt(static_cast<float>(features)),
            .gate = GateKind::kNone,
            .state = compute.state};
  normalized_ = NormalizedRecurrence(shape_, NormalizeKind::kSum, kNormalizerEps);
  matrix_offset_ = state->Add(
      "matrix", config.norm_feature_map ? normalized_.StateFloats() : shape_.StateFloats());
}

LinearAttnMixer::Scratch LinearAttnMixer::LayOut(ScratchArena& arena, const StepSize& size) const {
  const FlaHeads& heads = config_.heads;
  const int64_t row_bytes = size.rows * DTypeBytes(compute_.act);
  Scratch scratch = {};
  scratch.q = arena.Take(row_bytes * heads.KeyDim());
  scratch.k = arena.Take(row_bytes * heads.KvKeyDim());
  scratch.v = arena.Take(row_bytes * heads.KvValueDim());
  scratch.query_map = FeatureMapLayer::LayOut(compute_, config_.Map(), query_sum_eps(), arena,
                                              int64_t{size.rows} * heads.num_heads);
  scratch.key_map = FeatureMapLayer::LayOut(compute_, config_.Map(), key_sum_eps(), arena,
                                            int64_t{size.rows} * heads.num_kv_heads);
  scratch.mixed = arena.Take(row_bytes * heads.ValueDim());
  if (config_.norm_feature_map) {
    scratch.normalized = normalized_.LayOut(compute_, arena, size);
  } else {
    scratch.workspace =
        arena.Take(compute_.device->GatedChunkWorkspaceBytes(shape_, size.segments, size.chunks));
  }
  return scratch;
}

absl::Status LinearAttnMixer::LoadMaps(WeightLoader* loader, const std::string& attn,
                                       LinearAttnLayer& layer) const {
  const FeatureMapSpec map = config_.Map();
  const std::string query = attn + "feature_map_q";
  std::string key = attn + "feature_map_k";
  // A file of tied maps holds the one map by either name, or by both.
  const bool tied = config_.tie_feature_map_qk && map.Learned();
  if (tied && !FeatureMapLayer::IsIn(*loader, map, key)) key = query;
  SLUICE_ASSIGN_OR_RETURN(layer.key_map, FeatureMapLayer::Load(loader, map, key));
  if (!tied || (key != query && FeatureMapLayer::IsIn(*loader, map, query))) {
    SLUICE_ASSIGN_OR_RETURN(layer.query_map, FeatureMapLayer::Load(loader, map, query));
  }
  return absl::OkStatus();
}

absl::Status LinearAttnMixer::Load(WeightLoader* loader, const std::string& prefix) {
  const std::string attn = prefix + "attn.";
  const FlaHeads& heads = config_.heads;
  const int64_t hidden = config_.trunk.hidden_size;
  LinearAttnLayer layer;
  SLUICE_ASSIGN_OR_RETURN(layer.q,
                          Projection::Load(loader, hidden, {{attn + "q_proj", heads.KeyDim()}}));
  SLUICE_ASSIGN_OR_RETURN(layer.k,
                          Projection::Load(loader, hidden, {{attn + "k_proj", heads.KvKeyDim()}}));
  SLUICE_ASSIGN_OR_RETURN(
      layer.v, Projection::Load(loader, hidden, {{attn + "v_proj", heads.KvValueDim()}}));
  SLUICE_RETURN_IF_ERROR(LoadMaps(loader, attn, layer));
  SLUICE_ASSIGN_OR_RETURN(
      layer.output,
      HeadOutput::Load(loader, {.hidden_size = config_.trunk.hidden_size,
                                .heads = heads.num_heads,
                                .head_dim = heads.head_v_dim,
                                .eps = config_.trunk.norm_eps,
                                .norm = config_.elementwise_affine ? attn + "norm" : "",
                                .output = attn + "o_proj"}));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

void LinearAttnMixer::Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) {
  const BatchView& batch = context.batch;
  const LinearAttnLayer& weights = layers_[layer];
  const GatedOperands operands = Prepare(weights, context, scratch);
  if (config_.norm_feature_map) {
    normalized_.Run(compute_, batch, operands, scratch.normalized);
    weights.output.Forward(compute_, batch.rows, scratch.mixed, nullptr, 0, context.x);
    return;
  }
  const NormArgs norm = weights.output.Norm(compute_, batch.rows, scratch.mixed, nullptr, 0);
  RunRecurrence(compute_, shape_, batch, operands, scratch.workspace, {.norm = &norm});
  weights.output.Project(compute_, batch.rows, scratch.mixed, context.x);
}

// Products and feature maps: the operands of the recurrence.
GatedOperands LinearAttnMixer::Prepare(const LinearAttnLayer& layer, const SublayerContext& context,
                                       const Scratch& scratch) const {
  const int32_t rows = context.batch.rows;
  const FlaHeads& heads = config_.heads;
  const int64_t hidden = config_.trunk.hidden_size;
  layer.q.Forward(compute_, rows, context.normed, hidden, scratch.q, heads.KeyDim());
  layer.k.Forward(compute_, rows, context.normed, hidden, scratch.k, heads.KvKeyDim());
  layer.v.Forward(compute_, rows, context.normed, hidden, scratch.v, heads.KvValueDim());
  const FeatureMapLayer& query_map = config_.tie_feature_map_qk ? layer.key_map : layer.query_map;
  const std::byte* q = query_map.Forward(compute_, rows * heads.num_heads, query_sum_eps(),
                                         scratch.q, scratch.query_map);
  const std::byte* k = layer.key_map.Forward(compute_, rows * heads.num_kv_heads, key_sum_eps(),
                                             scratch.k, scratch.key_map);
  return {.q = q,
          .k = k,
          .v = scratch.v,
          .q_stride = int64_t{shape_.heads} * shape_.key_dim,
          .k_stride = int64_t{shape_.kv_heads} * shape_.key_dim,
          .v_stride = heads.KvValueDim(),
          .log_decay = nullptr,
          .states = context.states + matrix_offset_,
          .slot_stride = context.slot_stride,
          .out = scratch.mixed};
}

}  // namespace

Architecture MakeLinearAttn(const LinearAttnConfig& config, const Compute& compute) {
  FlaMixer mixer;
  mixer.gate = "none";
  mixer.decays = false;
  mixer.shape = {config.heads.num_heads, config.heads.num_kv_heads, config.Map().Features(),
                 config.heads.head_v_dim};
  mixer.sublayer = std::make_unique<LinearAttnMixer>(config, compute, &mixer.state);
  return MakeFlaBlocks(config.trunk, std::move(mixer), compute);
}

}  // namespace sluice
