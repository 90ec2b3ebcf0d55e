#include "engine/models/mamba.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/layers/conv_layer.h"
#include "engine/layers/projection.h"
#include "engine/layers/scratch_sublayer.h"
#include "engine/status_macros.h"
#include "kernels/device_buffer.h"
#include "kernels/selective_scan.h"

namespace sluice {
namespace {

struct MambaLayer {
  Projection input;      // [x | z]
  ConvLayer conv;        // of x
  Projection selection;  // [r | B, C]
  Projection step;       // dt of r
  DeviceBuffer dt_bias;  // float32 [D]
  DeviceBuffer a_log;    // float32 [D, N]
  DeviceBuffer skip;     // float32 [D]
  Projection output;
};

struct MambaScratch {
  std::byte* projected;  // [rows, x | z]
  std::byte* convolved;  // [rows, D]
  std::byte* selected;   // [rows, r | B, C]
  std::byte* steps;      // [rows, D]
  std::byte* mixed;      // [rows, D]
  std::byte* workspace;  // of SelectiveScan
};

class MambaMixer : public ScratchSublayer<MambaScratch> {
 public:
  MambaMixer(const MambaConfig& config, const Compute& compute, StateLayout* state);

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  Scratch LayOut(ScratchArena& arena, const StepSize& size) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;
  void Scan(const MambaLayer& layer, const SublayerContext& context, const Scratch& scratch) const;

  // B, C begin where r, rounded up, ends.
  int64_t RankColumns() const { return Projection::Columns(config_.dt_rank); }
  int64_t SelectedColumns() const {
    return RankColumns() + Projection::Columns(2 * int64_t{config_.state_size});
  }
  MambaConfig config_;
  Compute compute_;
  int64_t scan_offset_;  // of the state
  int64_t window_offset_;
  std::vector<MambaLayer> layers_;
};

MambaMixer::MambaMixer(const MambaConfig& config, const Compute& compute, StateLayout* state)
    : config_(config), compute_(compute) {
  const int64_t inner = config.trunk.inner_size;
  scan_offset_ = state->Add("scan", inner * config.state_size);
  window_offset_ = state->Add("conv", ConvLayer::WindowFloats(inner, config.trunk.conv_kernel));
}

MambaMixer::Scratch MambaMixer::LayOut(ScratchArena& arena, const StepSize& size) const {
  const int64_t column = size.rows * DTypeBytes(compute_.act);
  const int64_t inner = config_.trunk.inner_size;
  Scratch scratch;
  scratch.projected = arena.Take(2 * inner * column);
  scratch.convolved = arena.Take(inner * column);
  scratch.selected = arena.Take(SelectedColumns() * column);
  scratch.steps = arena.Take(inner * column);
  scratch.mixed = arena.Take(inner * column);
  scratch.workspace = arena.Take(compute_.device->SelectiveScanWorkspaceBytes(
      static_cast<int32_t>(inner), config_.state_size, size.chunks));
  return scratch;
}

absl::Status MambaMixer::Load(WeightLoader* loader, const std::string& prefix) {
  const std::string mixer = prefix + "mixer.";
  const MambaTrunk& trunk = config_.trunk;
  const int64_t inner = trunk.inner_size;
  const int64_t rank = config_.dt_rank;
  const int64_t states = config_.state_size;
  MambaLayer layer;
  SLUICE_ASSIGN_OR_RETURN(layer.input,
                          Projection::Load(loader, trunk.hidden_size,
                                           {{mixer + "in_proj", 2 * inner, trunk.use_bias}}));
  SLUICE_ASSIGN_OR_RETURN(
      layer.conv,
      ConvLayer::Load(loader, trunk.conv_kernel, {{mixer + "conv1d", inner, trunk.use_conv_bias}}));
  SLUICE_ASSIGN_OR_RETURN(layer.selection, Projection::Load(loader, inner,
                                                            {{.name = mixer + "x_proj",
                                                              .out_dim = rank + 2 * states,
                                                              .pieces = {rank, 2 * states}}}));
  SLUICE_ASSIGN_OR_RETURN(layer.step, Projection::Load(loader, rank, {{mixer + "dt_proj", inner}}));
  SLUICE_ASSIGN_OR_RETURN(layer.dt_bias, loader->Floats({{mixer + "dt_proj.bias", {inner}}}));
  SLUICE_ASSIGN_OR_RETURN(layer.a_log, loader->Floats({{mixer + "A_log", {inner, states}}}));
  SLUICE_ASSIGN_OR_RETURN(layer.skip, loader->Floats({{mixer + "D", {inner}}}));
  SLUICE_ASSIGN_OR_RETURN(
      layer.output,
      Projection::Load(loader, inner, {{mixer + "out_proj", trunk.hidden_size, trunk.use_bias}}));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

void MambaMixer::Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) {
  const BatchView& batch = context.batch;
  const MambaLayer& weights = layers_[layer];
  const int64_t inner = config_.trunk.inner_size;
  const int64_t hidden = config_.trunk.hidden_size;
  weights.input.Forward(compute_, batch.rows, context.normed, hidden, scratch.projected, 2 * inner);
  weights.conv.Forward(compute_, context, window_offset_, scratch.projected, 2 * inner,
                       scratch.convolved);
  weights.selection.Forward(compute_, batch.rows, scratch.convolved, inner, scratch.selected,
                            SelectedColumns());
  weights.step.Forward(compute_, batch.rows, scratch.selected, SelectedColumns(), scratch.steps,
                       inner);
  Scan(weights, context, scratch);
  weights.output.Add(compute_, batch.rows, scratch.mixed, inner, context.x, hidden);
}

void MambaMixer::Scan(const MambaLayer& layer, const SublayerContext& context,
                      const Scratch& scratch) const {
  const BatchView& batch = context.batch;
  const int32_t inner = config_.trunk.inner_size;
  compute_.device->SelectiveScan(
      {.dtype = compute_.act,
       .channels = inner,
       .state_size = config_.state_size,
       .decode_rows = batch.decode_rows,
       .slots = batch.decode_slots,
       .segment_count = batch.segment_count,
       .segments = batch.segments,
       .chunk_count = batch.chunk_count,
       .chunks = batch.chunks,
       .rows = batch.rows,
       .x = scratch.convolved,
       .x_stride = inner,
       .dt = scratch.steps,
       .dt_stride = inner,
       .dt_bias = layer.dt_bias.as<float>(),
       .b = compute_.Column(scratch.selected, RankColumns()),
       .b_stride = SelectedColumns(),
       .c = compute_.Column(scratch.selected, RankColumns() + config_.state_size),
       .c_stride = SelectedColumns(),
       .a_log = layer.a_log.as<float>(),
       .skip = layer.skip.as<float>(),
       .gate = compute_.Column(scratch.projected, inner),
       .gate_stride = 2 * int64_t{inner},
       .states = context.states + scan_offset_,
       .slot_stride = context.slot_stride,
       .out = scratch.mixed,
       .workspace = scratch.workspace});
}

}  // namespace

Architecture MakeMamba(const MambaConfig& config, const Compute& compute) {
  Architecture architecture = MambaBackbone(config.trunk);
  architecture.gate = "vector, on the key side of each channel";
  architecture.state_shape = {1, 1, config.state_size, config.trunk.inner_size};
  architecture.blocks.push_back(
      {"norm", std::make_unique<MambaMixer>(config, compute, &architecture.layer_state)});
  return architecture;
}

Architecture MambaBackbone(const MambaTrunk& trunk) {
  Architecture architecture;
  architecture.embedding = "backbone.embeddings.weight";
  architecture.layers = "backbone.layers.";
  architecture.final_norm = "backbone.norm_f";
  architecture.norm = {.eps = trunk.norm_eps};
  return architecture;
}

}  // namespace sluice
