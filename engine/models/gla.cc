#include "engine/models/gla.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "engine/swiglu_mlp.h"
#include "kernels/device_buffer.h"

namespace sluice {
namespace {

struct GlaLayer {
  DeviceBuffer attn_norm;    // float32 [D]
  DeviceBuffer projection;   // matrix [q | k | v | g | a, D]
  DeviceBuffer conv;         // float32 [q | k | v, W]; empty without short convolution
  DeviceBuffer gate_weight;  // float32 [kv heads * K, rank]
  DeviceBuffer gate_bias;    // float32 [kv heads * K]
  DeviceBuffer output_norm;  // float32 [V]; empty without elementwise_affine
  DeviceBuffer output;       // matrix [D, heads * V]
  SwiGluMlp mlp;
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

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

class GlaLayers : public LayerStack {
 public:
  GlaLayers(const GlaConfig& config, Device* device, DType matrix_dtype)
      : config_(config),
        device_(device),
        matrix_dtype_(matrix_dtype),
        act_(device->ActivationType(matrix_dtype)) {
    columns_.k = config.KeyDim();
    columns_.v = columns_.k + config.KvKeyDim();
    columns_.gate = columns_.v + config.KvValueDim();
    columns_.low_rank = columns_.gate + (config.use_output_gate ? config.ValueDim() : 0);
    columns_.total = columns_.low_rank + config.gate_low_rank_dim;
    shape_ = {.dtype = act_,
              .heads = config.num_heads,
              .kv_heads = config.num_kv_heads,
              .key_dim = config.head_k_dim,
              .value_dim = config.head_v_dim,
              .scale = 1.0F / std::sqrt(static_cast<float>(config.head_k_dim))};
  }

  StateShape state_shape() const override {
    return {config_.num_heads, config_.num_kv_heads, config_.head_k_dim, config_.head_v_dim};
  }

  int64_t LayerStateFloats() const override {
    const int64_t window = config_.use_short_conv ? ConvChannels() * (config_.conv_size - 1) : 0;
    return RoundUp(shape_.StateSize() + window, 64);
  }

  int64_t ScratchBytes(int32_t max_rows, int32_t max_chunks) const override {
    return LayOut(max_rows, max_chunks, nullptr, nullptr);
  }

  absl::Status Load(WeightLoader* loader) override;
  absl::Status Reserve(int32_t max_rows, int32_t max_chunks) override;
  void Forward(int32_t layer, const LayerContext& context) override;

 private:
  // Parts of the scratch memory, each [max_rows, ...]. The mixer's and the MLP's share their place.
  struct Scratch {
    std::byte* normed;     // [D]
    std::byte* projected;  // [columns.total]
    std::byte* convolved;  // [q | k | v]
    float* log_decay;      // [kv heads * K]
    std::byte* mixed;      // [heads * V]
    std::byte* gate_up;    // [2 I]
    std::byte* activated;  // [I]
    std::byte* workspace;  // of GatedChunk
  };

  int64_t ConvChannels() const { return columns_.gate; }
  int64_t LayOut(int32_t max_rows, int32_t max_chunks, std::byte* base, Scratch* scratch) const;
  absl::StatusOr<GlaLayer> LoadLayer(WeightLoader* loader, int32_t index) const;
  void Project(const GlaLayer& layer, const LayerContext& context);
  GatedOperands Prepare(const GlaLayer& layer, const LayerContext& context);
  void Mix(const GatedOperands& operands, const LayerContext& context);
  void ProjectOut(const GlaLayer& layer, const LayerContext& context);

  const std::byte* Column(const std::byte* base, int64_t column) const {
    return base + column * DTypeBytes(act_);
  }

  GlaConfig config_;
  Device* device_;
  DType matrix_dtype_;
  DType act_;
  Columns columns_{};
  GatedShape shape_{};
  std::vector<GlaLayer> layers_;
  DeviceBuffer memory_;
  Scratch scratch_{};
};

// Places the parts one after the other from `base` on and returns the bytes they take; `scratch`
// may be null.
int64_t GlaLayers::LayOut(int32_t max_rows, int32_t max_chunks, std::byte* base,
                          Scratch* scratch) const {
  const int64_t act = DTypeBytes(act_);
  int64_t offset = 0;
  const auto place = [&offset](int64_t bytes) {
    const int64_t at = offset;
    offset += RoundUp(bytes, 256);
    return at;
  };
  const int64_t rows = max_rows;
  const int64_t normed = place(rows * config_.hidden_size * act);
  const int64_t shared = offset;
  const int64_t projected = place(rows * columns_.total * act);
  const int64_t convolved = place(config_.use_short_conv ? rows * ConvChannels() * act : 0);
  const int64_t log_decay = place(rows * config_.KvKeyDim() * 4);
  const int64_t mixed = place(rows * config_.ValueDim() * act);
  const int64_t workspace = place(device_->GatedChunkWorkspaceBytes(shape_, max_chunks));
  const int64_t mixer_end = offset;
  offset = shared;
  const int64_t gate_up = place(rows * 2 * config_.intermediate_size * act);
  const int64_t activated = place(rows * config_.intermediate_size * act);
  if (scratch != nullptr) {
    *scratch = {.normed = base + normed,
                .projected = base + projected,
                .convolved = base + convolved,
                .log_decay = reinterpret_cast<float*>(base + log_decay),
                .mixed = base + mixed,
                .gate_up = base + gate_up,
                .activated = base + activated,
                .workspace = base + workspace};
  }
  return std::max(mixer_end, offset);
}

absl::Status GlaLayers::Load(WeightLoader* loader) {
  for (int32_t index = 0; index < config_.num_layers; ++index) {
    SLUICE_ASSIGN_OR_RETURN(GlaLayer layer, LoadLayer(loader, index));
    layers_.push_back(std::move(layer));
  }
  return absl::OkStatus();
}

absl::StatusOr<GlaLayer> GlaLayers::LoadLayer(WeightLoader* loader, int32_t index) const {
  const std::string prefix = absl::StrCat("model.layers.", index, ".");
  const std::string attn = prefix + "attn.";
  const int64_t hidden = config_.hidden_size;
  const int64_t rank = config_.gate_low_rank_dim;
  const int64_t gate_dim = config_.KvKeyDim();
  GlaLayer layer;
  SLUICE_ASSIGN_OR_RETURN(layer.attn_norm,
                          loader->Floats({{prefix + "attn_norm.weight", {hidden}}}));
  std::vector<WeightPart> projection = {
      {attn + "q_proj.weight", {config_.KeyDim(), hidden}},
      {attn + "k_proj.weight", {config_.KvKeyDim(), hidden}},
      {attn + "v_proj.weight", {config_.KvValueDim(), hidden}},
  };
  if (config_.use_output_gate) {
    projection.push_back({attn + "g_proj.weight", {config_.ValueDim(), hidden}});
  }
  projection.push_back({attn + "gk_proj.0.weight", {rank, hidden}});
  SLUICE_ASSIGN_OR_RETURN(layer.projection, loader->Matrix(projection));
  if (config_.use_short_conv) {
    const int64_t width = config_.conv_size;
    SLUICE_ASSIGN_OR_RETURN(
        layer.conv, loader->Floats({{attn + "q_conv1d.weight", {config_.KeyDim(), 1, width}},
                                    {attn + "k_conv1d.weight", {config_.KvKeyDim(), 1, width}},
                                    {attn + "v_conv1d.weight", {config_.KvValueDim(), 1, width}}}));
  }
  SLUICE_ASSIGN_OR_RETURN(layer.gate_weight,
                          loader->Floats({{attn + "gk_proj.1.weight", {gate_dim, rank}}}));
  SLUICE_ASSIGN_OR_RETURN(layer.gate_bias, loader->Floats({{attn + "gk_proj.1.bias", {gate_dim}}}));
  if (config_.elementwise_affine) {
    SLUICE_ASSIGN_OR_RETURN(
        layer.output_norm,
        loader->Floats({{absl::StrCat(attn, std::string(config_.GateNormName()), ".weight"),
                         {config_.head_v_dim}}}));
  }
  SLUICE_ASSIGN_OR_RETURN(layer.output,
                          loader->Matrix({{attn + "o_proj.weight", {hidden, config_.ValueDim()}}}));
  const MlpShape mlp = {config_.hidden_size, config_.intermediate_size, config_.norm_eps};
  SLUICE_ASSIGN_OR_RETURN(layer.mlp,
                          SwiGluMlp::Load(loader, mlp, prefix + "mlp_norm", prefix + "mlp"));
  return layer;
}

absl::Status GlaLayers::Reserve(int32_t max_rows, int32_t max_chunks) {
  memory_ = DeviceBuffer(device_, ScratchBytes(max_rows, max_chunks));
  if (!memory_.ok()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("scratch memory for steps of ", max_rows, " tokens needs ", memory_.bytes(),
                     " bytes; the device has ", device_->FreeBytes(), " free"));
  }
  LayOut(max_rows, max_chunks, memory_.as<std::byte>(), &scratch_);
  return absl::OkStatus();
}

void GlaLayers::Forward(int32_t layer, const LayerContext& context) {
  const GlaLayer& weights = layers_[layer];
  Project(weights, context);
  const GatedOperands operands = Prepare(weights, context);
  Mix(operands, context);
  ProjectOut(weights, context);
  const MlpScratch mlp = {scratch_.normed, scratch_.gate_up, scratch_.activated};
  weights.mlp.Forward(device_, context.batch.rows, mlp, context.x);
}

// projected = norm(x) W
void GlaLayers::Project(const GlaLayer& layer, const LayerContext& context) {
  const int32_t hidden = config_.hidden_size;
  device_->Norm({.dtype = act_,
                 .rows = context.batch.rows,
                 .dim = hidden,
                 .eps = config_.norm_eps,
                 .x = context.x,
                 .x_stride = hidden,
                 .weight = layer.attn_norm.as<float>(),
                 .y = scratch_.normed,
                 .y_stride = hidden});
  device_->Linear({.rows = context.batch.rows,
                   .in_dim = hidden,
                   .out_dim = static_cast<int32_t>(columns_.total),
                   .weight_dtype = matrix_dtype_,
                   .x_dtype = act_,
                   .y_dtype = act_,
                   .x = scratch_.normed,
                   .x_stride = hidden,
                   .weight = layer.projection.data(),
                   .y = scratch_.projected,
                   .y_stride = columns_.total});
}

// Convolution, feature maps and forget gate: what makes the projection the operands of the
// recurrence.
GatedOperands GlaLayers::Prepare(const GlaLayer& layer, const LayerContext& context) {
  const BatchView& batch = context.batch;
  std::byte* qkv = scratch_.projected;
  int64_t stride = columns_.total;
  if (config_.use_short_conv) {
    device_->ShortConv({.dtype = act_,
                        .channels = static_cast<int32_t>(ConvChannels()),
                        .width = config_.conv_size,
                        .decode_rows = batch.decode_rows,
                        .slots = batch.decode_slots,
                        .segment_count = batch.segment_count,
                        .segments = batch.segments,
                        .rows = batch.rows,
                        .x = scratch_.projected,
                        .x_stride = columns_.total,
                        .weight = layer.conv.as<float>(),
                        .bias = nullptr,
                        .windows = context.states + shape_.StateSize(),
                        .slot_stride = context.slot_stride,
                        .y = scratch_.convolved});
    qkv = scratch_.convolved;
    stride = ConvChannels();
  }
  if (config_.feature_map != Activation::kNone) {
    device_->Activate({.dtype = act_,
                       .act = config_.feature_map,
                       .rows = batch.rows,
                       .cols = static_cast<int32_t>(columns_.v),
                       .x = qkv,
                       .stride = stride});
  }
  device_->LogGate(
      {.dtype = act_,
       .rows = batch.rows,
       .rank = config_.gate_low_rank_dim,
       .dim = config_.KvKeyDim(),
       .normalizer = config_.gate_logit_normalizer,
       .clamp_min = config_.clamp_min.value_or(-std::numeric_limits<float>::infinity()),
       .x = Column(scratch_.projected, columns_.low_rank),
       .x_stride = columns_.total,
       .weight = layer.gate_weight.as<float>(),
       .bias = layer.gate_bias.as<float>(),
       .log_decay = scratch_.log_decay});
  return {.q = Column(qkv, columns_.q),
          .k = Column(qkv, columns_.k),
          .v = Column(qkv, columns_.v),
          .q_stride = stride,
          .k_stride = stride,
          .v_stride = stride,
          .log_decay = scratch_.log_decay,
          .states = context.states,
          .slot_stride = context.slot_stride,
          .out = scratch_.mixed};
}

// The recurrence: decode rows one token each, segments chunkwise.
void GlaLayers::Mix(const GatedOperands& operands, const LayerContext& context) {
  const BatchView& batch = context.batch;
  if (batch.decode_rows > 0) {
    device_->GatedStep({.shape = shape_,
                        .rows = batch.decode_rows,
                        .slots = batch.decode_slots,
                        .operands = operands});
  }
  if (batch.segment_count > 0) {
    device_->GatedChunk({.shape = shape_,
                         .segment_count = batch.segment_count,
                         .segments = batch.segments,
                         .chunk_count = batch.chunk_count,
                         .chunks = batch.chunks,
                         .operands = operands,
                         .workspace = scratch_.workspace});
  }
}

// x += (rmsnorm_per_head(o) * swish(g)) Wo
void GlaLayers::ProjectOut(const GlaLayer& layer, const LayerContext& context) {
  const bool gated = config_.use_output_gate;
  device_->Norm({.dtype = act_,
                 .rows = context.batch.rows,
                 .groups = config_.num_heads,
                 .dim = config_.head_v_dim,
                 .eps = config_.norm_eps,
                 .x = scratch_.mixed,
                 .x_stride = config_.ValueDim(),
                 .weight = layer.output_norm.as<float>(),
                 .gate_act = gated ? Activation::kSilu : Activation::kNone,
                 .gate = gated ? Column(scratch_.projected, columns_.gate) : nullptr,
                 .gate_stride = columns_.total,
                 .y = scratch_.mixed,
                 .y_stride = config_.ValueDim()});
  device_->Linear({.rows = context.batch.rows,
                   .in_dim = config_.ValueDim(),
                   .out_dim = config_.hidden_size,
                   .weight_dtype = matrix_dtype_,
                   .x_dtype = act_,
                   .y_dtype = act_,
                   .x = scratch_.mixed,
                   .x_stride = config_.ValueDim(),
                   .weight = layer.output.data(),
                   .y = context.x,
                   .y_stride = config_.hidden_size,
                   .accumulate = true});
}

}  // namespace

std::unique_ptr<LayerStack> MakeGlaLayers(const GlaConfig& config, Device* device,
                                          DType matrix_dtype) {
  return std::make_unique<GlaLayers>(config, device, matrix_dtype);
}

}  // namespace sluice
