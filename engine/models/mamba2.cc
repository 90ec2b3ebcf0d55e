#include "engine/models/mamba2.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/layers/conv_layer.h"
#include "engine/layers/head_output.h"
#include "engine/layers/projection.h"
#include "engine/layers/recurrence.h"
#include "engine/layers/scratch_sublayer.h"
#include "engine/models/mamba.h"
#include "engine/status_macros.h"
#include "kernels/device_buffer.h"

namespace sluice {
namespace {

struct Mamba2Layer {
  Projection input;      // [z | x | B | C | dt]
  ConvLayer conv;        // of x | B | C
  DeviceBuffer dt_bias;  // float32 [H]
  DeviceBuffer a_log;    // float32 [H]
  DeviceBuffer skip;     // activations [D]
  HeadOutput output;
};

// Column offsets of the projection, and of the convolution's result.
struct Columns {
  int64_t z = 0;
  int64_t convolved;  // x | B | C
  int64_t dt;
  int64_t total;

  int64_t x = 0;
  int64_t b;
  int64_t c;
  int64_t channels;
};

struct Mamba2Scratch {
  std::byte* projected;  // [rows, columns.total]
  std::byte* convolved;  // [rows, x | B | C]
  float* log_decay;      // [rows, H]
  float* dt;             // [rows, H]
  std::byte* mixed;      // [rows, D]
  std::byte* workspace;  // of GatedChunk
};

class Mamba2Mixer : public ScratchSublayer<Mamba2Scratch> {
 public:
  Mamba2Mixer(const Mamba2Config& config, const Compute& compute, StateLayout* state);

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  Scratch LayOut(ScratchArena& arena, const StepSize& size) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;
  absl::StatusOr<DeviceBuffer> LoadSkip(WeightLoader* loader, const std::string& name) const;
  HeadOutputSpec OutputSpec(const std::string& mixer) const;
  void Mix(const Mamba2Layer& layer, const SublayerContext& context, const Scratch& scratch) const;

  Mamba2Config config_;
  Compute compute_;
  Columns columns_{};
  GatedShape shape_{};
  int64_t matrix_offset_;  // of the state
  int64_t window_offset_;
  std::vector<Mamba2Layer> layers_;
};

Mamba2Mixer::Mamba2Mixer(const Mamba2Config& config, const Compute& compute, StateLayout* state)
    : config_(config), compute_(compute) {
  const int64_t inner = config.trunk.inner_size;
  const int64_t group_states = int64_t{config.n_groups} * config.state_size;
  columns_.b = inner;
  columns_.c = columns_.b + group_states;
  columns_.channels = columns_.c + group_states;
  columns_.convolved = inner;
  columns_.dt = columns_.convolved + columns_.channels;
  columns_.total = Projection::Columns(columns_.dt + config.num_heads);
  shape_ = {.dtype = compute.act,
            .heads = config.num_heads,
            .kv_heads = config.num_heads,
            .key_dim = config.state_size,
            .value_dim = config.head_dim,
            .scale = 1,
            .gate = GateKind::kScalar,
            .shared_keys = config.num_heads / config.n_groups,
            .state = compute.state};
  matrix_offset_ = state->Add("matrix", shape_.StateFloats());
  window_offset_ =
      state->Add("conv", ConvLayer::WindowFloats(columns_.channels, config.trunk.conv_kernel));
}

Mamba2Mixer::Scratch Mamba2Mixer::LayOut(ScratchArena& arena, const StepSize& size) const {
  const int64_t column = size.rows * DTypeBytes(compute_.act);
  Scratch scratch;
  scratch.projected = arena.Take(columns_.total * column);
  scratch.convolved = arena.Take(columns_.channels * column);
  scratch.log_decay = arena.Take<float>(int64_t{size.rows} * config_.num_heads * 4);
  scratch.dt = arena.Take<float>(int64_t{size.rows} * config_.num_heads * 4);
  scratch.mixed = arena.Take(config_.trunk.inner_size * column);
  scratch.workspace =
      arena.Take(compute_.device->GatedChunkWorkspaceBytes(shape_, size.segments, size.chunks));
  return scratch;
}

absl::Status Mamba2Mixer::Load(WeightLoader* loader, const std::string& prefix) {
  const std::string mixer = prefix + "mixer.";
  const MambaTrunk& trunk = config_.trunk;
  const int64_t heads = config_.num_heads;
  Mamba2Layer layer;
  SLUICE_ASSIGN_OR_RETURN(
      layer.input, Projection::Load(loader, trunk.hidden_size,
                                    {{mixer + "in_proj", columns_.dt + heads, trunk.use_bias}}));
  SLUICE_ASSIGN_OR_RETURN(
      layer.conv, ConvLayer::Load(loader, trunk.conv_kernel,
                                  {{mixer + "conv1d", columns_.channels, trunk.use_conv_bias}}));
  SLUICE_ASSIGN_OR_RETURN(layer.dt_bias, loader->Floats({{mixer + "dt_bias", {heads}}}));
  SLUICE_ASSIGN_OR_RETURN(layer.a_log, loader->Floats({{mixer + "A_log", {heads}}}));
  SLUICE_ASSIGN_OR_RETURN(layer.skip, LoadSkip(loader, mixer + "D"));
  SLUICE_ASSIGN_OR_RETURN(layer.output, HeadOutput::Load(loader, OutputSpec(mixer)));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

// One weight a channel, whatever the checkpoint has.
absl::StatusOr<DeviceBuffer> Mamba2Mixer::LoadSkip(WeightLoader* loader,
                                                   const std::string& name) const {
  const int64_t inner = config_.trunk.inner_size;
  const int64_t shared = config_.skip_per_channel ? 1 : config_.head_dim;
  SLUICE_ASSIGN_OR_RETURN(const std::vector<float> tensor,
                          loader->HostFloats({name, {inner / shared}}));
  std::vector<float> channels(inner);
  for (int64_t channel = 0; channel < inner; ++channel)
    channels[channel] = tensor[channel / shared];
  return loader->FromHost(channels, compute_.act);
}

HeadOutputSpec Mamba2Mixer::OutputSpec(const std::string& mixer) const {
  return {.hidden_size = config_.trunk.hidden_size,
          .heads = config_.n_groups,
          .head_dim = config_.trunk.inner_size / config_.n_groups,
          .eps = config_.trunk.norm_eps,
          .normed = config_.rmsnorm,
          .norm = config_.rmsnorm ? mixer + "norm" : "",
          .output = mixer + "out_proj",
          .gate_act = Activation::kSilu,
          .wide_weight = true,
          .gate_first = !config_.norm_before_gate,
          .bias = config_.trunk.use_bias};
}

void Mamba2Mixer::Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) {
  const BatchView& batch = context.batch;
  const Mamba2Layer& weights = layers_[layer];
  const int32_t inner = config_.trunk.inner_size;
  weights.input.Forward(compute_, batch.rows, context.normed, config_.trunk.hidden_size,
                        scratch.projected, columns_.total);
  weights.conv.Forward(compute_, context, window_offset_,
                       compute_.Column(scratch.projected, columns_.convolved), columns_.total,
                       scratch.convolved);
  Mix(weights, context, scratch);
  const std::byte* const z = compute_.Column(scratch.projected, columns_.z);
  if (!config_.rmsnorm) {
    compute_.device->GatedUnit({.dtype = compute_.act,
                                .rows = batch.rows,
                                .dim = inner,
                                .gate = z,
                                .gate_stride = columns_.total,
                                .up = scratch.mixed,
                                .up_stride = inner,
                                .out = scratch.mixed,
                                .out_stride = inner});
  }
  weights.output.Forward(compute_, batch.rows, scratch.mixed, z, columns_.total, context.x);
}

// The recurrence over what was convolved, and what of x skips it.
void Mamba2Mixer::Mix(const Mamba2Layer& layer, const SublayerContext& context,
                      const Scratch& scratch) const {
  const BatchView& batch = context.batch;
  const int32_t inner = config_.trunk.inner_size;
  compute_.device->Decay({.dtype = compute_.act,
                          .formula = DecayFormula::kSoftplus,
                          .rows = batch.rows,
                          .dim = config_.num_heads,
                          .x = compute_.Column(scratch.projected, columns_.dt),
                          .x_stride = columns_.total,
                          .bias = layer.dt_bias.as<float>(),
                          .a_log = layer.a_log.as<float>(),
                          .dt_min = config_.dt_min,
                          .dt_max = config_.dt_max,
                          .log_decay = scratch.log_decay,
                          .input_scale = scratch.dt});
  const GatedOperands operands = {.q = compute_.Column(scratch.convolved, columns_.c),
                                  .k = compute_.Column(scratch.convolved, columns_.b),
                                  .v = compute_.Column(scratch.convolved, columns_.x),
                                  .q_stride = columns_.channels,
                                  .k_stride = columns_.channels,
                                  .v_stride = columns_.channels,
                                  .log_decay = scratch.log_decay,
                                  .input_scale = scratch.dt,
                                  .states = context.states + matrix_offset_,
                                  .slot_stride = context.slot_stride,
                                  .out = scratch.mixed};
  RunRecurrence(compute_, shape_, batch, operands, scratch.workspace);
  compute_.device->GatedUnit({.dtype = compute_.act,
                              .rows = batch.rows,
                              .dim = inner,
                              .act = Activation::kNone,
                              .gate = compute_.Column(scratch.convolved, columns_.x),
                              .gate_stride = columns_.channels,
                              .up = layer.skip.data(),
                              .up_stride = 0,
                              .out = scratch.mixed,
                              .out_stride = inner,
                              .accumulate = true});
}

}  // namespace

Architecture MakeMamba2(const Mamba2Config& config, const Compute& compute) {
  Architecture architecture = MambaBackbone(config.trunk);
  architecture.gate = "scalar";
  architecture.state_shape = {config.num_heads, config.num_heads, config.state_size,
                              config.head_dim};
  architecture.blocks.push_back(
      {"norm", std::make_unique<Mamba2Mixer>(config, compute, &architecture.layer_state)});
  return architecture;
}

}  // namespace sluice
