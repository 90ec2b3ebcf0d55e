#include "engine/models/rwkv6.h"

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/layers/head_output.h"
#include "engine/layers/projection.h"
#include "engine/layers/recurrence.h"
#include "engine/layers/scratch_sublayer.h"
#include "engine/models/rwkv_channel_mix.h"
#include "engine/status_macros.h"
#include "kernels/device_buffer.h"

namespace sluice {
namespace {

// The five mixes of a token with the one before it, in the order of their tensors.
enum Mix : uint8_t { kReceptance, kDecay, kKey, kValue, kGate };
constexpr int32_t kMixes = 5;

struct Rwkv6Layer {
  DeviceBuffer low_rank_mu;       // float32 [D]
  Projection low_rank;            // five blocks of columns, one a mix
  std::vector<Projection> mixes;  // from a block to [D]
  DeviceBuffer mix_bias;          // float32 [5, D]
  Projection receptance;
  Projection decay_in;
  Projection decay_out;
  Projection key;
  Projection value;
  Projection gate;
  DeviceBuffer decay_bias;  // float32 [H * K]
  DeviceBuffer bonus;       // float32 [H, K]
  HeadOutput output;
};

struct Rwkv6Scratch {
  std::byte* delta;       // [rows, D]
  std::byte* low_rank;    // [rows, five blocks]
  std::byte* mix;         // [rows, D]
  std::byte* mixed;       // [rows, D]
  std::byte* receptance;  // [rows, H * K]
  std::byte* decay_in;    // [rows, rank of the decay]
  std::byte* decay;       // [rows, H * K]
  std::byte* key;         // [rows, H * K]
  std::byte* value;       // [rows, H * V]
  std::byte* gate;        // [rows, H * V]
  float* log_decay;       // [rows, H * K]
  std::byte* out;         // [rows, H * V]
  std::byte* workspace;   // of GatedChunk
};

class Rwkv6TimeMix : public ScratchSublayer<Rwkv6Scratch> {
 public:
  Rwkv6TimeMix(const Rwkv6Config& config, const Compute& compute, StateLayout* state);

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  // Columns of one block of the low-rank product.
  int64_t BlockColumns() const { return Projection::Columns(config_.proj_low_rank_dim); }
  int64_t DecayColumns() const { return Projection::Columns(config_.gate_low_rank_dim); }
  Scratch LayOut(ScratchArena& arena, int32_t rows, int32_t chunks) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;
  absl::Status LoadMixes(WeightLoader* loader, const std::string& attn, Rwkv6Layer& layer) const;
  absl::Status LoadProducts(WeightLoader* loader, const std::string& attn, Rwkv6Layer& layer) const;
  void Shift(const Rwkv6Layer& layer, const SublayerContext& context, const Scratch& scratch) const;
  void MixTokens(const Rwkv6Layer& layer, const SublayerContext& context, const Scratch& scratch,
                 Mix mix) const;
  void Decay(const Rwkv6Layer& layer, int32_t rows, const Scratch& scratch) const;

  Rwkv6Config config_;
  Compute compute_;
  GatedShape shape_;
  int64_t matrix_offset_;  // of the state
  int64_t shift_offset_;
  std::vector<Rwkv6Layer> layers_;
};

Rwkv6TimeMix::Rwkv6TimeMix(const Rwkv6Config& config, const Compute& compute, StateLayout* state)
    : config_(config),
      compute_(compute),
      shape_{.dtype = compute.act,
             .heads = config.heads.num_heads,
             .kv_heads = config.heads.num_heads,
             .key_dim = config.heads.head_k_dim,
             .value_dim = config.heads.head_v_dim,
             .scale = 1,
             .read = ReadKind::kExclusive},
      matrix_offset_(state->Add("matrix", shape_.StateSize())),
      shift_offset_(state->Add("time shift", config.trunk.hidden_size)) {}

Rwkv6TimeMix::Scratch Rwkv6TimeMix::LayOut(ScratchArena& arena, int32_t rows,
                                           int32_t chunks) const {
  const int64_t column = rows * DTypeBytes(compute_.act);
  const int64_t hidden = config_.trunk.hidden_size;
  Scratch scratch;
  scratch.delta = arena.Take(column * hidden);
  scratch.low_rank = arena.Take(column * kMixes * BlockColumns());
  scratch.mix = arena.Take(column * hidden);
  scratch.mixed = arena.Take(column * hidden);
  scratch.receptance = arena.Take(column * config_.heads.KeyDim());
  scratch.decay_in = arena.Take(column * DecayColumns());
  scratch.decay = arena.Take(column * config_.heads.KeyDim());
  scratch.key = arena.Take(column * config_.heads.KeyDim());
  scratch.value = arena.Take(column * config_.heads.ValueDim());
  scratch.gate = arena.Take(column * config_.heads.ValueDim());
  scratch.log_decay = arena.Take<float>(int64_t{rows} * config_.heads.KeyDim() * 4);
  scratch.out = arena.Take(column * config_.heads.ValueDim());
  scratch.workspace = arena.Take(compute_.device->GatedChunkWorkspaceBytes(shape_, chunks));
  return scratch;
}

absl::Status Rwkv6TimeMix::LoadMixes(WeightLoader* loader, const std::string& attn,
                                     Rwkv6Layer& layer) const {
  const int64_t hidden = config_.trunk.hidden_size;
  const int64_t rank = config_.proj_low_rank_dim;
  const std::vector<int64_t> blocks(kMixes, rank);
  SLUICE_ASSIGN_OR_RETURN(layer.low_rank_mu, loader->Floats({{attn + "x_proj.0.mu", {hidden}}}));
  SLUICE_ASSIGN_OR_RETURN(
      layer.low_rank,
      Projection::Load(
          loader, hidden,
          {{.name = attn + "x_proj.0.linear", .out_dim = kMixes * rank, .pieces = blocks}}));
  SLUICE_ASSIGN_OR_RETURN(layer.mixes,
                          Projection::LoadBlocks(loader, rank, kMixes, attn + "x_proj.2", hidden));
  SLUICE_ASSIGN_OR_RETURN(layer.mix_bias, loader->Floats({{attn + "x_bias", {kMixes, hidden}}}));
  return absl::OkStatus();
}

absl::Status Rwkv6TimeMix::LoadProducts(WeightLoader* loader, const std::string& attn,
                                        Rwkv6Layer& layer) const {
  const int64_t hidden = config_.trunk.hidden_size;
  const int64_t rank = config_.gate_low_rank_dim;
  const int64_t key = config_.heads.KeyDim();
  const int64_t value = config_.heads.ValueDim();
  const std::string lora = attn + "w_proj.linear.lora.";
  SLUICE_ASSIGN_OR_RETURN(layer.receptance,
                          Projection::Load(loader, hidden, {{attn + "r_proj.linear", key}}));
  SLUICE_ASSIGN_OR_RETURN(layer.decay_in, Projection::Load(loader, hidden, {{lora + "0", rank}}));
  SLUICE_ASSIGN_OR_RETURN(layer.decay_out, Projection::Load(loader, rank, {{lora + "2", key}}));
  SLUICE_ASSIGN_OR_RETURN(layer.decay_bias, loader->Floats({{lora + "2.bias", {key}}}));
  SLUICE_ASSIGN_OR_RETURN(layer.key,
                          Projection::Load(loader, hidden, {{attn + "k_proj.linear", key}}));
  SLUICE_ASSIGN_OR_RETURN(layer.value,
                          Projection::Load(loader, hidden, {{attn + "v_proj.linear", value}}));
  SLUICE_ASSIGN_OR_RETURN(layer.gate,
                          Projection::Load(loader, hidden, {{attn + "g_proj.linear", value}}));
  return absl::OkStatus();
}

absl::Status Rwkv6TimeMix::Load(WeightLoader* loader, const std::string& prefix) {
  const std::string attn = prefix + "attn.";
  const FlaHeads& heads = config_.heads;
  Rwkv6Layer layer;
  SLUICE_RETURN_IF_ERROR(LoadMixes(loader, attn, layer));
  SLUICE_RETURN_IF_ERROR(LoadProducts(loader, attn, layer));
  SLUICE_ASSIGN_OR_RETURN(layer.bonus,
                          loader->Floats({{attn + "bonus", {heads.num_heads, heads.head_k_dim}}}));
  SLUICE_ASSIGN_OR_RETURN(layer.output,
                          HeadOutput::Load(loader, {.hidden_size = config_.trunk.hidden_size,
                                                    .heads = heads.num_heads,
                                                    .head_dim = heads.head_v_dim,
                                                    .eps = config_.trunk.norm_eps,
                                                    .norm = attn + "g_norm",
                                                    .output = attn + "o_proj",
                                                    .gate_act = Activation::kSilu,
                                                    .wide_weight = true,
                                                    .center = true,
                                                    .norm_bias = true}));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

// The token shift, and the low-rank input of the five mixes.
void Rwkv6TimeMix::Shift(const Rwkv6Layer& layer, const SublayerContext& context,
                         const Scratch& scratch) const {
  const BatchView& batch = context.batch;
  const int32_t hidden = config_.trunk.hidden_size;
  compute_.device->TokenShift({.dtype = compute_.act,
                               .dim = hidden,
                               .decode_rows = batch.decode_rows,
                               .slots = batch.decode_slots,
                               .segment_count = batch.segment_count,
                               .segments = batch.segments,
                               .rows = batch.rows,
                               .x = context.normed,
                               .x_stride = hidden,
                               .last = context.states + shift_offset_,
                               .slot_stride = context.slot_stride,
                               .delta = scratch.delta});
  compute_.device->Lerp({.dtype = compute_.act,
                         .rows = batch.rows,
                         .dim = hidden,
                         .x = context.normed,
                         .x_stride = hidden,
                         .delta = scratch.delta,
                         .mu = layer.low_rank_mu.as<float>(),
                         .mix = nullptr,
                         .mix_stride = 0,
                         .y = scratch.mixed,
                         .y_stride = hidden});
  const int64_t columns = layer.low_rank.columns();
  layer.low_rank.Forward(compute_, batch.rows, scratch.mixed, hidden, scratch.low_rank, columns);
  compute_.device->Activate({.dtype = compute_.act,
                             .act = Activation::kTanh,
                             .rows = batch.rows,
                             .cols = static_cast<int32_t>(columns),
                             .x = scratch.low_rank,
                             .stride = columns});
}

// scratch.mixed = h + d * m of one of the five.
void Rwkv6TimeMix::MixTokens(const Rwkv6Layer& layer, const SublayerContext& context,
                             const Scratch& scratch, Mix mix) const {
  const int32_t rows = context.batch.rows;
  const int32_t hidden = config_.trunk.hidden_size;
  layer.mixes[mix].Forward(compute_, rows, compute_.Column(scratch.low_rank, mix * BlockColumns()),
                           layer.low_rank.columns(), scratch.mix, hidden);
  compute_.device->Lerp({.dtype = compute_.act,
                         .rows = rows,
                         .dim = hidden,
                         .x = context.normed,
                         .x_stride = hidden,
                         .delta = scratch.delta,
                         .mu = layer.mix_bias.as<float>() + int64_t{mix} * hidden,
                         .mix = scratch.mix,
                         .mix_stride = hidden,
                         .y = scratch.mixed,
                         .y_stride = hidden});
}

// The log decays, from what scratch.mixed holds.
void Rwkv6TimeMix::Decay(const Rwkv6Layer& layer, int32_t rows, const Scratch& scratch) const {
  const int32_t key = config_.heads.KeyDim();
  layer.decay_in.Forward(compute_, rows, scratch.mixed, config_.trunk.hidden_size, scratch.decay_in,
                         DecayColumns());
  compute_.device->Activate({.dtype = compute_.act,
                             .act = Activation::kTanh,
                             .rows = rows,
                             .cols = static_cast<int32_t>(DecayColumns()),
                             .x = scratch.decay_in,
                             .stride = DecayColumns()});
  layer.decay_out.Forward(compute_, rows, scratch.decay_in, DecayColumns(), scratch.decay, key);
  compute_.device->Decay({.dtype = compute_.act,
                          .formula = DecayFormula::kExponential,
                          .rows = rows,
                          .dim = key,
                          .x = scratch.decay,
                          .x_stride = key,
                          .bias = layer.decay_bias.as<float>(),
                          .log_decay = scratch.log_decay});
}

void Rwkv6TimeMix::Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) {
  const BatchView& batch = context.batch;
  const Rwkv6Layer& weights = layers_[layer];
  const int64_t hidden = config_.trunk.hidden_size;
  const int64_t key = config_.heads.KeyDim();
  const int64_t value = config_.heads.ValueDim();
  Shift(weights, context, scratch);
  MixTokens(weights, context, scratch, kReceptance);
  weights.receptance.Forward(compute_, batch.rows, scratch.mixed, hidden, scratch.receptance, key);
  MixTokens(weights, context, scratch, kDecay);
  Decay(weights, batch.rows, scratch);
  MixTokens(weights, context, scratch, kKey);
  weights.key.Forward(compute_, batch.rows, scratch.mixed, hidden, scratch.key, key);
  MixTokens(weights, context, scratch, kValue);
  weights.value.Forward(compute_, batch.rows, scratch.mixed, hidden, scratch.value, value);
  MixTokens(weights, context, scratch, kGate);
  weights.gate.Forward(compute_, batch.rows, scratch.mixed, hidden, scratch.gate, value);
  RunRecurrence(compute_, shape_, batch,
                {.q = scratch.receptance,
                 .k = scratch.key,
                 .v = scratch.value,
                 .q_stride = key,
                 .k_stride = key,
                 .v_stride = value,
                 .log_decay = scratch.log_decay,
                 .bonus = weights.bonus.as<float>(),
                 .states = context.states + matrix_offset_,
                 .slot_stride = context.slot_stride,
                 .out = scratch.out},
                scratch.workspace);
  weights.output.Forward(compute_, batch.rows, scratch.out, scratch.gate, value, context.x);
}

}  // namespace

Architecture MakeRwkv6(const Rwkv6Config& config, const Compute& compute) {
  Architecture architecture;
  if (config.norm_first) architecture.embedding_norm = "model.layers.0.pre_norm";
  architecture.norm = {.eps = config.trunk.norm_eps, .center = true, .bias = config.norm_bias};
  architecture.gate = "vector, on the key side; read before the update, with a bonus";
  architecture.state_shape = {config.heads.num_heads, config.heads.num_heads,
                              config.heads.head_k_dim, config.heads.head_v_dim};
  architecture.blocks.push_back(
      {"attn_norm", std::make_unique<Rwkv6TimeMix>(config, compute, &architecture.layer_state)});
  architecture.blocks.push_back(
      {"ffn_norm", std::make_unique<RwkvChannelMix>(compute, config.trunk.hidden_size,
                                                    config.trunk.intermediate_size,
                                                    config.hidden_act, &architecture.layer_state)});
  return architecture;
}

}  // namespace sluice
