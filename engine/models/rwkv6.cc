#include "engine/models/rwkv6.h"

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/layers/batched_projection.h"
#include "engine/layers/head_output.h"
#include "engine/layers/projection.h"
#include "engine/layers/recurrence.h"
#include "engine/layers/scratch_sublayer.h"
#include "engine/layers/token_mix.h"
#include "engine/models/rwkv_channel_mix.h"
#include "engine/status_macros.h"
#include "kernels/device_buffer.h"

namespace sluice {
namespace {

// The five mixes of a token with the one before it, in the order of their tensors.
enum Mix : uint8_t { kReceptance, kDecay, kKey, kValue, kGate };
constexpr int32_t kMixes = 5;

struct Rwkv6Layer {
  DeviceBuffer low_rank_mu;  // float32 [D]
  Projection low_rank;       // five blocks of columns, one a mix
  BatchedProjection mixes;   // each from its block to [D]
  DeviceBuffer mix_bias;     // float32 [5, D]
  BatchedProjection receptance_key;
  Projection decay_in;
  Projection decay_out;
  BatchedProjection value_gate;
  DeviceBuffer decay_bias;  // float32 [H * K]
  DeviceBuffer bonus;       // float32 [H, K]
  HeadOutput output;
};

struct Rwkv6Scratch {
  std::byte* delta;           // [rows, D]
  std::byte* low_rank;        // [rows, five blocks]
  std::byte* mixed;           // [5, rows, D]
  std::byte* receptance_key;  // [2, rows, H * K]
  std::byte* decay_in;        // [rows, rank of the decay]
  std::byte* decay;           // [rows, H * K]
  std::byte* value_gate;      // [2, rows, H * V]
  float* log_decay;           // [rows, H * K]
  std::byte* out;             // [rows, H * V]
  std::byte* workspace;       // of GatedChunk
};

class Rwkv6TimeMix : public ScratchSublayer<Rwkv6Scratch> {
 public:
  Rwkv6TimeMix(const Rwkv6Config& config, const Compute& compute, StateLayout* state);

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  // Columns of one block of the low-rank product.
  int64_t BlockColumns() const { return Projection::Columns(config_.proj_low_rank_dim); }
  int64_t DecayColumns() const { return Projection::Columns(config_.gate_low_rank_dim); }
  const std::byte* MixOf(const Scratch& scratch, int64_t rows, Mix mix) const {
    return compute_.Column(scratch.mixed, mix * rows * config_.trunk.hidden_size);
  }
  Scratch LayOut(ScratchArena& arena, const StepSize& size) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;
  absl::Status LoadMixes(WeightLoader* loader, const std::string& attn, Rwkv6Layer& layer) const;
  absl::Status LoadProducts(WeightLoader* loader, const std::string& attn, Rwkv6Layer& layer) const;
  void MixTokens(const Rwkv6Layer& layer, const SublayerContext& context,
                 const Scratch& scratch) const;
  void Project(const Rwkv6Layer& layer, int32_t rows, const Scratch& scratch) const;
  void Decay(const Rwkv6Layer& layer, int32_t rows, const Scratch& scratch) const;

  Rwkv6Config config_;
  Compute compute_;
  GatedShape shape_;
  int64_t matrix_offset_;  // of the state
  TokenMix token_mix_;
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
             .read = ReadKind::kExclusive,
             .state = compute.state},
      matrix_offset_(state->Add("matrix", shape_.StateFloats())),
      token_mix_(config.trunk.hidden_size, "time shift", state) {}

Rwkv6TimeMix::Scratch Rwkv6TimeMix::LayOut(ScratchArena& arena, const StepSize& size) const {
  const int64_t column = size.rows * DTypeBytes(compute_.act);
  const int64_t hidden = config_.trunk.hidden_size;
  Scratch scratch;
  scratch.delta = arena.Take(column * hidden);
  scratch.low_rank = arena.Take(column * kMixes * BlockColumns());
  scratch.mixed = arena.Take(column * kMixes * hidden);
  scratch.receptance_key = arena.Take(column * 2 * config_.heads.KeyDim());
  scratch.decay_in = arena.Take(column * DecayColumns());
  scratch.decay = arena.Take(column * config_.heads.KeyDim());
  scratch.value_gate = arena.Take(column * 2 * config_.heads.ValueDim());
  scratch.log_decay = arena.Take<float>(int64_t{size.rows} * config_.heads.KeyDim() * 4);
  scratch.out = arena.Take(column * config_.heads.ValueDim());
  scratch.workspace =
      arena.Take(compute_.device->GatedChunkWorkspaceBytes(shape_, size.segments, size.chunks));
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
  SLUICE_ASSIGN_OR_RETURN(
      layer.mixes, BatchedProjection::LoadBlocks(loader, rank, hidden, kMixes, attn + "x_proj.2"));
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
  SLUICE_ASSIGN_OR_RETURN(layer.receptance_key, BatchedProjection::Load(loader, hidden, key,
                                                                        {attn + "r_proj.linear",
                                                                         attn + "k_proj.linear"}));
  SLUICE_ASSIGN_OR_RETURN(layer.decay_in, Projection::Load(loader, hidden, {{lora + "0", rank}}));
  SLUICE_ASSIGN_OR_RETURN(layer.decay_out, Projection::Load(loader, rank, {{lora + "2", key}}));
  SLUICE_ASSIGN_OR_RETURN(layer.decay_bias, loader->Floats({{lora + "2.bias", {key}}}));
  SLUICE_ASSIGN_OR_RETURN(
      layer.value_gate, BatchedProjection::Load(loader, hidden, value,
                                                {attn + "v_proj.linear", attn + "g_proj.linear"}));
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

// scratch.mixed, the amounts of which are a low-rank function of one more mix.
void Rwkv6TimeMix::MixTokens(const Rwkv6Layer& layer, const SublayerContext& context,
                             const Scratch& scratch) const {
  const int32_t rows = context.batch.rows;
  const int64_t hidden = config_.trunk.hidden_size;
  const int64_t columns = layer.low_rank.columns();
  token_mix_.Shift(compute_, context, layer.low_rank_mu.as<float>(), 1, scratch.mixed,
                   scratch.delta);
  layer.low_rank.Forward(compute_, rows, scratch.mixed, hidden, scratch.low_rank, columns);
  compute_.device->Activate({.dtype = compute_.act,
                             .act = Activation::kTanh,
                             .rows = rows,
                             .cols = static_cast<int32_t>(columns),
                             .x = scratch.low_rank,
                             .stride = columns});
  layer.mixes.Forward(compute_, rows, {scratch.low_rank, columns, BlockColumns()},
                      {scratch.mixed, hidden, rows * hidden});
  token_mix_.Mix(compute_, context, scratch.delta, layer.mix_bias.as<float>(), kMixes,
                 scratch.mixed);
}

// Receptance, key, value and gate, two products of one shape at a time.
void Rwkv6TimeMix::Project(const Rwkv6Layer& layer, int32_t rows, const Scratch& scratch) const {
  const int64_t hidden = config_.trunk.hidden_size;
  const int64_t key = config_.heads.KeyDim();
  const int64_t value = config_.heads.ValueDim();
  layer.receptance_key.Forward(
      compute_, rows,
      {MixOf(scratch, rows, kReceptance), hidden, (kKey - kReceptance) * rows * hidden},
      {scratch.receptance_key, key, rows * key});
  layer.value_gate.Forward(compute_, rows,
                           {MixOf(scratch, rows, kValue), hidden, (kGate - kValue) * rows * hidden},
                           {scratch.value_gate, value, rows * value});
}

// The log decays of each channel of a key.
void Rwkv6TimeMix::Decay(const Rwkv6Layer& layer, int32_t rows, const Scratch& scratch) const {
  const int32_t key = config_.heads.KeyDim();
  layer.decay_in.Forward(compute_, rows, MixOf(scratch, rows, kDecay), config_.trunk.hidden_size,
                         scratch.decay_in, DecayColumns());
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
  const int64_t key = config_.heads.KeyDim();
  const int64_t value = config_.heads.ValueDim();
  MixTokens(weights, context, scratch);
  Project(weights, batch.rows, scratch);
  Decay(weights, batch.rows, scratch);
  RunRecurrence(compute_, shape_, batch,
                {.q = scratch.receptance_key,
                 .k = compute_.Column(scratch.receptance_key, batch.rows * key),
                 .v = scratch.value_gate,
                 .q_stride = key,
                 .k_stride = key,
                 .v_stride = value,
                 .log_decay = scratch.log_decay,
                 .bonus = weights.bonus.as<float>(),
                 .states = context.states + matrix_offset_,
                 .slot_stride = context.slot_stride,
                 .out = scratch.out},
                scratch.workspace);
  weights.output.Forward(compute_, batch.rows, scratch.out,
                         compute_.Column(scratch.value_gate, batch.rows * value), value, context.x);
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
