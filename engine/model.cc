#include "engine/model.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/status_macros.h"
#include "engine/weight_loader.h"
#include "kernels/check.h"

namespace sluice {

Model::Model(const ModelConfig& config, Device* device, DType matrix_dtype)
    : config_(config),
      device_(device),
      matrix_dtype_(matrix_dtype),
      act_(device->ActivationType(matrix_dtype)),
      layers_(MakeLayerStack(config, device, matrix_dtype)) {}

absl::Status Model::Load(const Checkpoint& checkpoint,
                         const std::function<void(const std::string&)>& progress) {
  const int64_t vocab = config_.vocab_size;
  const int64_t hidden = config_.hidden_size;
  WeightLoader loader(&checkpoint, device_, matrix_dtype_);
  SLUICE_ASSIGN_OR_RETURN(embedding_,
                          loader.Matrix({{"model.embeddings.weight", {vocab, hidden}}}));
  SLUICE_ASSIGN_OR_RETURN(norm_, loader.Floats({{"model.norm.weight", {hidden}}}));
  // A tied head is the embedding, also where a file repeats it.
  if (!config_.tie_word_embeddings) {
    SLUICE_ASSIGN_OR_RETURN(head_, loader.Matrix({{"lm_head.weight", {vocab, hidden}}}));
  } else if (checkpoint.Has("lm_head.weight")) {
    SLUICE_RETURN_IF_ERROR(checkpoint.Find("lm_head.weight", {vocab, hidden}).status());
  }
  SLUICE_RETURN_IF_ERROR(layers_->Load(&loader));
  const std::vector<std::string> unread = checkpoint.Unread();
  if (!unread.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("checkpoint: ", unread.size(), " tensors have no place in a ",
                     config_.model_type, " model of this config.json, the first is ", unread[0]));
  }
  device_->Synchronize();
  parameters_ = loader.loaded_elements();
  weight_bytes_ = loader.loaded_bytes();
  if (progress) {
    progress(absl::StrCat("loaded ", parameters_, " weights as ", DTypeName(matrix_dtype_), ", ",
                          weight_bytes_ >> 20, " MiB"));
  }
  return absl::OkStatus();
}

int32_t Model::MaxChunks(int32_t max_rows, int32_t max_segments) {
  // Every segment may add a part of a chunk at either end.
  return max_rows / kChunk + 2 * max_segments;
}

int64_t Model::BufferBytes(int32_t max_rows, int32_t max_segments) const {
  const int64_t row = config_.hidden_size * DTypeBytes(act_);
  return (max_rows + kLogitRows) * row +
         layers_->ScratchBytes(max_rows, MaxChunks(max_rows, max_segments));
}

absl::Status Model::Reserve(int32_t max_rows, int32_t max_segments) {
  const int64_t row = config_.hidden_size * DTypeBytes(act_);
  residual_ = DeviceBuffer(device_, max_rows * row);
  picked_ = DeviceBuffer(device_, kLogitRows * row);
  if (!residual_.ok() || !picked_.ok()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("activations for steps of ", max_rows, " tokens need ", residual_.bytes(),
                     " bytes; the device has ", device_->FreeBytes(), " free"));
  }
  return layers_->Reserve(max_rows, MaxChunks(max_rows, max_segments));
}

void Model::Forward(const BatchView& batch, float* states) {
  device_->GatherRows({.rows = batch.rows,
                       .dim = config_.hidden_size,
                       .table_rows = config_.vocab_size,
                       .table_dtype = matrix_dtype_,
                       .out_dtype = act_,
                       .table = embedding_.data(),
                       .indices = batch.tokens,
                       .out = residual_.data()});
  LayerContext context = {
      .batch = batch, .x = residual_.data(), .states = states, .slot_stride = SlotFloats()};
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    layers_->Forward(layer, context);
    context.states += layers_->LayerStateFloats();
  }
}

void Model::Logits(const int32_t* rows, int32_t count, float* logits) {
  SLUICE_CHECK(count <= kLogitRows);
  const int32_t hidden = config_.hidden_size;
  device_->GatherRows({.rows = count,
                       .dim = hidden,
                       .table_rows = residual_.bytes() / (hidden * DTypeBytes(act_)),
                       .table_dtype = act_,
                       .out_dtype = act_,
                       .table = residual_.data(),
                       .indices = rows,
                       .out = picked_.data()});
  device_->Norm({.dtype = act_,
                 .rows = count,
                 .dim = hidden,
                 .eps = config_.norm_eps,
                 .x = picked_.data(),
                 .x_stride = hidden,
                 .weight = norm_.as<float>(),
                 .y = picked_.data(),
                 .y_stride = hidden});
  device_->Linear({.rows = count,
                   .in_dim = hidden,
                   .out_dim = config_.vocab_size,
                   .weight_dtype = matrix_dtype_,
                   .x_dtype = act_,
                   .y_dtype = DType::kFloat32,
                   .x = picked_.data(),
                   .x_stride = hidden,
                   .weight = config_.tie_word_embeddings ? embedding_.data() : head_.data(),
                   .y = logits,
                   .y_stride = config_.vocab_size});
}

}  // namespace sluice
