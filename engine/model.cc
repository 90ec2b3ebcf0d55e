#include "engine/model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "engine/weight_loader.h"
#include "kernels/check.h"

namespace sluice {

Model::Model(const ModelConfig& config, Device* device, DType matrix_dtype,
             const StateFormat& state, bool float8)
    : config_(config),
      compute_(device, matrix_dtype, state),
      float8_(float8),
      architecture_(MakeArchitecture(config, compute_)) {
  SLUICE_CHECK(!float8 || matrix_dtype == DType::kBFloat16);
}

absl::Status Model::Load(const Checkpoint& checkpoint,
                         const std::function<void(const std::string&)>& progress) {
  WeightLoader loader(&checkpoint, compute_.device, compute_.matrix_dtype, float8_);
  SLUICE_RETURN_IF_ERROR(LoadWeights(&loader));
  // A tied head is the embedding, also where a file repeats it.
  if (config_.tie_word_embeddings && checkpoint.Has(architecture_.head)) {
    const int64_t shape[] = {config_.vocab_size, config_.hidden_size};
    SLUICE_RETURN_IF_ERROR(checkpoint.Find(architecture_.head, shape).status());
  }
  const std::vector<std::string> unread = checkpoint.Unread();
  if (!unread.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("checkpoint: ", unread.size(), " tensors have no place in a ",
                     config_.model_type, " model of this config.json, the first is ", unread[0]));
  }
  compute_.device->Synchronize();
  if (progress) {
    const std::string rounded =
        float8_ ? absl::StrCat(", ", float8_elements_, " of them as ", DTypeName(DType::kFloat8))
                : "";
    progress(absl::StrCat("loaded ", parameters_, " weights as ", DTypeName(compute_.matrix_dtype),
                          rounded, ", ", weight_bytes_ >> 20, " MiB"));
  }
  return absl::OkStatus();
}

absl::Status Model::CheckStateType() const {
  if (architecture_.decays || compute_.state.type == StateType::kFloat32) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "state_type is ", compute_.state.type == StateType::kFloat16 ? "float16" : "int8",
      "; states of ", config_.model_type,
      " never decay, so what rounding loses adds up without end: it must be float32, with or "
      "without a state_ring"));
}

std::vector<WeightPart> Model::Measure() {
  WeightLoader loader(compute_.device, compute_.matrix_dtype, float8_);
  SLUICE_CHECK(LoadWeights(&loader).ok());
  return loader.asked();
}

absl::Status Model::LoadWeights(WeightLoader* loader) {
  const int64_t vocab = config_.vocab_size;
  const int64_t hidden = config_.hidden_size;
  SLUICE_ASSIGN_OR_RETURN(embedding_, loader->Matrix({{architecture_.embedding, {vocab, hidden}}}));
  if (!architecture_.embedding_norm.empty()) {
    SLUICE_ASSIGN_OR_RETURN(
        embedding_norm_, NormLayer::Load(loader, architecture_.norm, architecture_.embedding_norm,
                                         config_.hidden_size));
  }
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    const std::string prefix = absl::StrCat(architecture_.layers, layer, ".");
    std::vector<NormLayer>& norms = norms_.emplace_back();
    for (const ResidualBlock& block : architecture_.blocks) {
      SLUICE_ASSIGN_OR_RETURN(
          norms.emplace_back(),
          NormLayer::Load(loader, architecture_.norm, prefix + block.norm, config_.hidden_size));
      SLUICE_RETURN_IF_ERROR(block.sublayer->Load(loader, prefix));
    }
  }
  SLUICE_ASSIGN_OR_RETURN(
      final_norm_, NormLayer::Load(loader, architecture_.last_norm.value_or(architecture_.norm),
                                   architecture_.final_norm, config_.hidden_size));
  if (!config_.tie_word_embeddings) {
    SLUICE_ASSIGN_OR_RETURN(head_, loader->Matrix({{architecture_.head, {vocab, hidden}}}));
  }
  parameters_ = loader->loaded_elements();
  weight_bytes_ = loader->loaded_bytes();
  float8_elements_ = loader->float8_elements();
  return absl::OkStatus();
}

int32_t Model::MaxChunks(int32_t max_rows, int32_t max_segments) {
  // Every segment may add a part of a chunk at either end.
  return max_rows / kChunk + 2 * max_segments;
}

int64_t Model::ScratchBytes(int32_t max_rows, int32_t max_segments) const {
  const StepSize size = {max_rows, MaxChunks(max_rows, max_segments), max_segments};
  int64_t bytes = 0;
  for (const ResidualBlock& block : architecture_.blocks) {
    bytes = std::max(bytes, block.sublayer->ScratchBytes(size));
  }
  return bytes;
}

int64_t Model::BufferBytes(int32_t max_rows, int32_t max_segments) const {
  const int64_t row = config_.hidden_size * DTypeBytes(compute_.act);
  return (2 * int64_t{max_rows} + kLogitRows) * row + ScratchBytes(max_rows, max_segments);
}

absl::Status Model::Reserve(int32_t max_rows, int32_t max_segments) {
  Device* const device = compute_.device;
  const int64_t row = config_.hidden_size * DTypeBytes(compute_.act);
  residual_ = DeviceBuffer(device, max_rows * row);
  normed_ = DeviceBuffer(device, max_rows * row);
  picked_ = DeviceBuffer(device, kLogitRows * row);
  scratch_ = DeviceBuffer(device, ScratchBytes(max_rows, max_segments));
  if (residual_.ok() && normed_.ok() && picked_.ok() && scratch_.ok()) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "activations for steps of ", max_rows, " tokens need ", BufferBytes(max_rows, max_segments),
      " bytes; the device has ", device->FreeBytes(), " free"));
}

void Model::Forward(const BatchView& batch, float* states) {
  compute_.device->GatherRows({.rows = batch.rows,
                               .dim = config_.hidden_size,
                               .table_rows = config_.vocab_size,
                               .table_dtype = compute_.matrix_dtype,
                               .out_dtype = compute_.act,
                               .table = embedding_.data(),
                               .indices = batch.tokens,
                               .out = residual_.data()});
  if (embedding_norm_.has_value()) {
    embedding_norm_->Forward(compute_, batch.rows, residual_.data(), residual_.data());
  }
  SublayerContext context = {.batch = batch,
                             .normed = normed_.data(),
                             .x = residual_.data(),
                             .states = states,
                             .slot_stride = SlotFloats(),
                             .scratch = {scratch_.as<std::byte>(), scratch_.bytes()}};
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    for (size_t block = 0; block < architecture_.blocks.size(); ++block) {
      norms_[layer][block].Forward(compute_, batch.rows, context.x, normed_.data());
      architecture_.blocks[block].sublayer->Forward(layer, context);
    }
    context.states += architecture_.layer_state.floats();
  }
}

void Model::Logits(const int32_t* rows, int32_t count, float* logits) {
  SLUICE_CHECK(count <= kLogitRows);
  const int32_t hidden = config_.hidden_size;
  compute_.device->GatherRows(
      {.rows = count,
       .dim = hidden,
       .table_rows = residual_.bytes() / (hidden * DTypeBytes(compute_.act)),
       .table_dtype = compute_.act,
       .out_dtype = compute_.act,
       .table = residual_.data(),
       .indices = rows,
       .out = picked_.data()});
  final_norm_.Forward(compute_, count, picked_.data(), picked_.data());
  compute_.device->Linear({.rows = count,
                           .in_dim = hidden,
                           .out_dim = config_.vocab_size,
                           .weight_dtype = compute_.matrix_dtype,
                           .x_dtype = compute_.act,
                           .y_dtype = DType::kFloat32,
                           .x = picked_.data(),
                           .x_stride = hidden,
                           .weight = config_.tie_word_embeddings ? embedding_.data() : head_.data(),
                           .y = logits,
                           .y_stride = config_.vocab_size});
  if (architecture_.logit_cap == 0) return;
  compute_.device->Activate({.dtype = DType::kFloat32,
                             .act = Activation::kSoftCap,
                             .rows = count,
                             .cols = config_.vocab_size,
                             .x = logits,
                             .stride = config_.vocab_size,
                             .cap = architecture_.logit_cap});
}

}  // namespace sluice
