#include "engine/models/hgrn2.h"

#include <algorithm>
#include <cmath>
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

constexpr char kLowerBounds[] = "model.lower_bounds";

struct Hgrn2Layer {
  Projection projection;     // [q | f | i]
  ConvLayer conv;            // of all of it
  DeviceBuffer lower_bound;  // float32 [heads * K]; empty for zeros
  HeadOutput output;
};

// Column offsets of the one projection.
struct Columns {
  int64_t q = 0;
  int64_t forget;
  int64_t v;
  int64_t total;
};

// The largest number below 1: a gate that never forgets would have no room for keys.
const float kMostLowerBound = std::nextafter(1.0F, 0.0F);

// From the raw [layers, dim], each layer's bounds, in place.
absl::Status AccumulateLowerBounds(int64_t dim, std::vector<float>& bounds) {
  const auto size = static_cast<int64_t>(bounds.size());
  for (int64_t c = 0; c < dim; ++c) {
    float top = bounds[c];
    for (int64_t at = c; at < size; at += dim) top = std::max(top, bounds[at]);
    double total = 0;
    for (int64_t at = c; at < size; at += dim) total += std::exp(double{bounds[at]} - top);
    if (!std::isfinite(total)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", kLowerBounds, " holds what is no finite number"));
    }
    double sum = 0;
    for (int64_t at = c; at < size; at += dim) {
      sum += at == c ? 0 : std::exp(double{bounds[at]} - top) / total;
      bounds[at] = std::min(static_cast<float>(sum), kMostLowerBound);
    }
  }
  return absl::OkStatus();
}

struct Hgrn2Scratch {
  std::byte* projected;  // [rows, columns.total]
  std::byte* convolved;  // likewise
  std::byte* k;          // [rows, heads * K]
  float* log_decay;      // [rows, heads * K]
  std::byte* mixed;      // [rows, heads * V]
  std::byte* workspace;  // of GatedChunk
};

class Hgrn2Mixer : public ScratchSublayer<Hgrn2Scratch> {
 public:
  Hgrn2Mixer(const Hgrn2Config& config, const Compute& compute, StateLayout* state);

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  Scratch LayOut(ScratchArena& arena, const StepSize& size) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;
  absl::Status LoadLowerBound(WeightLoader* loader, Hgrn2Layer& layer);
  GatedOperands Prepare(const Hgrn2Layer& layer, const SublayerContext& context,
                        const Scratch& scratch) const;

  Hgrn2Config config_;
  Compute compute_;
  Columns columns_{};
  GatedShape shape_{};
  int64_t matrix_offset_;  // of the state
  int64_t window_offset_ = 0;
  std::vector<float> lower_bounds_;  // [layers, heads * K], of all layers until the last is loaded
  std::vector<Hgrn2Layer> layers_;
};

Hgrn2Mixer::Hgrn2Mixer(const Hgrn2Config& config, const Compute& compute, StateLayout* state)
    : config_(config), compute_(compute) {
  columns_.forget = config.ForgetDim();
  columns_.v = columns_.forget + config.ForgetDim();
  columns_.total = columns_.v + config.trunk.hidden_size;
  shape_ = {.dtype = compute.act,
            .heads = config.num_heads,
            .kv_heads = config.num_heads,
            .key_dim = config.head_k_dim,
            .value_dim = config.head_v_dim,
            .scale = 1.0F / std::sqrt(static_cast<float>(config.head_k_dim)),
            .gate = GateKind::kVector,
            .state = compute.state};
  matrix_offset_ = state->Add("matrix", shape_.StateFloats());
  if (config.conv.use) {
    window_offset_ = state->Add("conv", ConvLayer::WindowFloats(columns_.total, config.conv.size));
  }
}

Hgrn2Mixer::Scratch Hgrn2Mixer::LayOut(ScratchArena& arena, const StepSize& size) const {
  const int64_t row_bytes = size.rows * DTypeBytes(compute_.act);
  Scratch scratch;
  scratch.projected = arena.Take(row_bytes * columns_.total);
  scratch.convolved = arena.Take(config_.conv.use ? row_bytes * columns_.total : 0);
  scratch.k = arena.Take(row_bytes * config_.ForgetDim());
  scratch.log_decay = arena.Take<float>(int64_t{size.rows} * config_.ForgetDim() * 4);
  scratch.mixed = arena.Take(row_bytes * config_.trunk.hidden_size);
  scratch.workspace =
      arena.Take(compute_.device->GatedChunkWorkspaceBytes(shape_, size.segments, size.chunks));
  return scratch;
}

// One tensor has the bounds of all layers; the first layer's are zero.
absl::Status Hgrn2Mixer::LoadLowerBound(WeightLoader* loader, Hgrn2Layer& layer) {
  const int64_t dim = config_.ForgetDim();
  if (layers_.empty()) {
    SLUICE_ASSIGN_OR_RETURN(lower_bounds_,
                            loader->HostFloats({kLowerBounds, {config_.trunk.num_layers, dim}}));
    return AccumulateLowerBounds(dim, lower_bounds_);
  }
  const auto begin = lower_bounds_.begin() + static_cast<int64_t>(layers_.size()) * dim;
  SLUICE_ASSIGN_OR_RETURN(layer.lower_bound, loader->FromHost({begin, begin + dim}));
  return absl::OkStatus();
}

absl::Status Hgrn2Mixer::Load(WeightLoader* loader, const std::string& prefix) {
  const std::string attn = prefix + "attn.";
  const int64_t hidden = config_.trunk.hidden_size;
  const int64_t forget = config_.ForgetDim();
  Hgrn2Layer layer;
  SLUICE_ASSIGN_OR_RETURN(layer.projection, Projection::Load(loader, hidden,
                                                             {{attn + "q_proj", forget},
                                                              {attn + "f_proj", forget},
                                                              {attn + "i_proj", hidden}}));
  if (config_.conv.use) {
    SLUICE_ASSIGN_OR_RETURN(layer.conv, ConvLayer::Load(loader, config_.conv.size,
                                                        {{attn + "q_conv1d", forget},
                                                         {attn + "f_conv1d", forget},
                                                         {attn + "i_conv1d", hidden}},
                                                        Activation::kNone));
  }
  if (config_.use_lower_bound) {
    SLUICE_RETURN_IF_ERROR(LoadLowerBound(loader, layer));
  }
  SLUICE_ASSIGN_OR_RETURN(
      layer.output,
      HeadOutput::Load(loader, {.hidden_size = config_.trunk.hidden_size,
                                .heads = 1,
                                .head_dim = config_.trunk.hidden_size,
                                .eps = config_.output_norm_eps,
                                .norm = config_.elementwise_affine ? attn + "g_norm" : "",
                                .output = attn + "o_proj"}));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

void Hgrn2Mixer::Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) {
  const BatchView& batch = context.batch;
  const Hgrn2Layer& weights = layers_[layer];
  weights.projection.Forward(compute_, batch.rows, context.normed, config_.trunk.hidden_size,
                             scratch.projected, columns_.total);
  const GatedOperands operands = Prepare(weights, context, scratch);
  RunRecurrence(compute_, shape_, batch, operands, scratch.workspace);
  weights.output.Forward(compute_, batch.rows, scratch.mixed, nullptr, 0, context.x);
}

// Convolution, gate and keys: what makes the projection the operands of the recurrence.
GatedOperands Hgrn2Mixer::Prepare(const Hgrn2Layer& layer, const SublayerContext& context,
                                  const Scratch& scratch) const {
  const BatchView& batch = context.batch;
  const int32_t forget = config_.ForgetDim();
  std::byte* qfi = scratch.projected;
  if (config_.conv.use) {
    layer.conv.Forward(compute_, context, window_offset_, qfi, columns_.total, scratch.convolved);
    qfi = scratch.convolved;
  }
  compute_.device->Activate({.dtype = compute_.act,
                             .act = Activation::kSilu,
                             .rows = batch.rows,
                             .cols = forget,
                             .x = qfi,
                             .stride = columns_.total});
  compute_.device->Decay({.dtype = compute_.act,
                          .formula = DecayFormula::kLowerBound,
                          .rows = batch.rows,
                          .dim = forget,
                          .x = compute_.Column(qfi, columns_.forget),
                          .x_stride = columns_.total,
                          .lower_bound = layer.lower_bound.as<float>(),
                          .log_decay = scratch.log_decay,
                          .complement = scratch.k,
                          .complement_stride = forget});
  return {.q = compute_.Column(qfi, columns_.q),
          .k = scratch.k,
          .v = compute_.Column(qfi, columns_.v),
          .q_stride = columns_.total,
          .k_stride = forget,
          .v_stride = columns_.total,
          .log_decay = scratch.log_decay,
          .states = context.states + matrix_offset_,
          .slot_stride = context.slot_stride,
          .out = scratch.mixed};
}

}  // namespace

Architecture MakeHgrn2(const Hgrn2Config& config, const Compute& compute) {
  FlaMixer mixer;
  mixer.gate = "vector, on the key side";
  mixer.shape = {config.num_heads, config.num_heads, config.head_k_dim, config.head_v_dim};
  mixer.sublayer = std::make_unique<Hgrn2Mixer>(config, compute, &mixer.state);
  return MakeFlaBlocks(config.trunk, std::move(mixer), compute);
}

}  // namespace sluice
