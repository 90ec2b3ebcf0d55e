#include "tests/engine/tiny_family.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint.h"
#include "engine/model.h"
#include "engine/model_config.h"
#include "kernels/check.h"
#include "kernels/device.h"

namespace sluice {
namespace {

// How a tensor is drawn, by the first row whose text is part of its name: evenly from a range, or
// normally around its middle if it is no range of a gate. Decays come out as slow as trained ones.
struct Drawn {
  const char* part;
  float low;
  float high;
};
constexpr Drawn kDrawn[] = {
    {"A_log", 0.0F, 2.7F},      // Mamba's decays
    {"dt_bias", -6.9F, -2.2F},  // and time steps
    {"dt_proj.bias", -6.9F, -2.2F}, {"norm", 0.8F, 1.2F},        {"conv1d", -0.8F, 0.8F},
    {"a_proj.bias", 2.0F, 5.0F},  // gates that forget slowly
    {"b_proj.bias", 2.0F, 5.0F},    {"g_proj.bias", 2.0F, 5.0F}, {"fgate_preact.bias", 2.0F, 5.0F},
    {"lora.2.bias", -5.0F, -1.0F},  {"mu", 0.0F, 1.0F},          {"bias", -0.5F, 0.5F},
};

// What no row is of: a matrix that keeps the size of its input.
Drawn MatrixRange(const WeightPart& tensor) {
  const bool table = absl::StrContains(tensor.name, "embed") || tensor.shape.size() == 1 ||
                     absl::StrContains(tensor.name, "random_features") ||
                     absl::StrContains(tensor.name, "lower_bounds");
  const float fan_in = table ? 1.0F : static_cast<float>(tensor.shape.back());
  const float width = std::sqrt(3.0F / fan_in);
  return {"", -width, width};
}

Drawn RangeOf(const WeightPart& tensor) {
  for (const Drawn& drawn : kDrawn) {
    if (absl::StrContains(tensor.name, drawn.part)) return drawn;
  }
  return MatrixRange(tensor);
}

// Numbers that depend on the tensor's name alone.
std::vector<float> Draw(const WeightPart& tensor) {
  int64_t count = 1;
  for (const int64_t dim : tensor.shape) count *= dim;
  uint64_t seed = 1469598103934665603U;
  for (const char letter : tensor.name)
    seed = (seed ^ static_cast<uint8_t>(letter)) * 1099511628211U;
  std::mt19937_64 random(seed);
  const Drawn range = RangeOf(tensor);
  std::uniform_real_distribution<float> even(range.low, range.high);
  std::vector<float> values(count);
  for (float& value : values) value = even(random);
  return values;
}

WrittenTensor Drawing(const WeightPart& tensor) {
  return Float32Tensor(tensor.name, tensor.shape, Draw(tensor));
}

std::string ConfigText(const TinyFamily& family) {
  return absl::StrCat(R"({"vocab_size":)", TinyFamilyModel::kVocab,
                      R"(,"bos_token_id":256,"eos_token_id":256,)", family.config, "}");
}

}  // namespace

bool TinyFamily::decays() const {
  return !absl::StrContains(config, R"("model_type":"linear_attn")");
}

const std::vector<TinyFamily>& TinyFamilies() {
  static const auto* const families = new std::vector<TinyFamily>{
      {"DecayingFastWeights",
       R"("model_type":"decaying_fast_weights","hidden_size":64,"num_hidden_layers":2,)"
       R"("num_heads":2,"expand_k":0.5,"intermediate_size":128)"},
      {"GatedRetNet",
       R"("model_type":"gated_retnet","hidden_size":64,"num_hidden_layers":2,"num_heads":2,)"
       R"("expand_v":2,"elementwise_affine":true,"intermediate_size":128)"},
      {"GatedRfa",
       R"("model_type":"gated_rfa","hidden_size":64,"num_hidden_layers":2,"num_heads":2,)"
       R"("num_features":40,"intermediate_size":128)"},
      {"Gla", R"("model_type":"gla","hidden_size":64,"num_hidden_layers":2,"num_heads":2,)"
              R"("num_kv_heads":1,"use_short_conv":true,"intermediate_size":128)"},
      {"Hgrn2", R"("model_type":"hgrn2","hidden_size":64,"num_hidden_layers":3,"expand_ratio":32,)"
                R"("intermediate_size":128)"},
      {"Hgrn2Conv",
       R"("model_type":"hgrn2","hidden_size":64,"num_hidden_layers":2,"expand_ratio":48,)"
       R"("use_short_conv":true,"use_lower_bound":false,"elementwise_affine":false,)"
       R"("intermediate_size":128)"},
      {"LinearAttn",
       R"("model_type":"linear_attn","hidden_size":64,"num_hidden_layers":2,"num_heads":2,)"
       R"("intermediate_size":128)"},
      {"LinearAttnDpfp",
       R"("model_type":"linear_attn","hidden_size":64,"num_hidden_layers":2,"num_heads":4,)"
       R"("feature_map":"dpfp","norm_k":true,"intermediate_size":128)"},
      {"LinearAttnElu",
       R"("model_type":"linear_attn","hidden_size":64,"num_hidden_layers":2,"num_heads":4,)"
       R"("num_kv_heads":2,"feature_map":"elu","norm_q":true,"norm_k":true,)"
       R"("norm_feature_map":true,"intermediate_size":128)"},
      {"LinearAttnHedgehog",
       R"("model_type":"linear_attn","hidden_size":64,"num_hidden_layers":2,"num_heads":2,)"
       R"("feature_map":"hedgehog","tie_feature_map_qk":true,"norm_q":true,)"
       R"("norm_feature_map":true,"elementwise_affine":false,"intermediate_size":128)"},
      {"LinearAttnIdentity",
       R"("model_type":"linear_attn","hidden_size":64,"num_hidden_layers":2,"num_heads":2,)"
       R"("feature_map":"identity","intermediate_size":128)"},
      {"LinearAttnT2r",
       R"("model_type":"linear_attn","hidden_size":64,"num_hidden_layers":2,"num_heads":2,)"
       R"("feature_map":"t2r","norm_feature_map":true,"intermediate_size":128)"},
      {"Mamba", R"("model_type":"mamba","hidden_size":40,"num_hidden_layers":2)"},
      {"MambaBias",
       R"("model_type":"mamba","norm_eps":1e-5,"hidden_size":64,"num_hidden_layers":2,"expand":3,)"
       R"("state_size":8,"dt_rank":8,"conv_kernel":3,"use_bias":true,"use_conv_bias":false)"},
      {"Mamba2", R"("model_type":"mamba2","hidden_size":48,"num_hidden_layers":2,"head_dim":32,)"
                 R"("num_heads":3,"n_groups":1,"state_size":16)"},
      {"Mamba2Groups",
       R"("model_type":"mamba2","norm_eps":1e-5,"hidden_size":64,"num_hidden_layers":2,)"
       R"("head_dim":16,"n_groups":4,"state_size":32,"norm_before_gate":true,"D_has_hdim":true,)"
       R"("use_bias":true,"use_conv_bias":false,"dt_limit":[0.01,0.1])"},
      {"Mamba2Unnormed",
       R"("model_type":"mamba2","norm_eps":1e-5,"hidden_size":32,"num_hidden_layers":2,)"
       R"("head_dim":64,"state_size":16,"rmsnorm":false)"},
      {"RetNet", R"("model_type":"retnet","hidden_size":64,"num_hidden_layers":2,"num_heads":4,)"
                 R"("intermediate_size":128)"},
      {"RetNetGrouped",
       R"("model_type":"retnet","hidden_size":64,"num_hidden_layers":2,"num_heads":4,)"
       R"("num_kv_heads":2,"feature_map":"silu","use_output_gate":false,)"
       R"("elementwise_affine":false,"intermediate_size":128)"},
      {"Rwkv6", R"("model_type":"rwkv6","hidden_size":64,"num_hidden_layers":2,"num_heads":2,)"
                R"("gate_low_rank_dim":24,"intermediate_size":128)"},
      {"Rwkv6Unbiased",
       R"("model_type":"rwkv6","hidden_size":64,"num_hidden_layers":2,"num_heads":2,)"
       R"("expand_k":1,"proj_low_rank_dim":5,"gate_low_rank_dim":13,"norm_first":false,)"
       R"("norm_bias":false,"hidden_act":"relu","intermediate_size":128)"},
      {"Xlstm", R"("model_type":"xlstm","hidden_size":64,"num_hidden_layers":2,"num_heads":2)"},
      {"XlstmFused",
       R"("model_type":"xlstm","hidden_size":64,"num_hidden_layers":2,"num_heads":2,)"
       R"("qk_dim_factor":1,"use_bias":true,"weight_mode":"fused","output_logit_soft_cap":5)"},
  };
  return *families;
}

const TinyFamily& FindTinyFamily(const std::string& name) {
  const std::vector<TinyFamily>& families = TinyFamilies();
  const auto found = std::find_if(families.begin(), families.end(),
                                  [&](const TinyFamily& family) { return family.name == name; });
  SLUICE_CHECK(found != families.end());
  return *found;
}

TinyFamilyModel::TinyFamilyModel(const TinyFamily& family) {
  const std::string config = ConfigText(family);
  directory_.Write("config.json", config);
  const absl::StatusOr<ModelConfig> read = ParseModelConfig(config, std::nullopt);
  if (!read.ok()) std::fprintf(stderr, "%s\n", read.status().ToString().c_str());
  SLUICE_CHECK(read.ok());
  const std::unique_ptr<Device> device = CreateCpuDevice(1);
  tensors_ = Model(*read, device.get(), DType::kFloat32).Measure();
  Rewrite({}, {});
}

absl::Status TinyFamilyModel::Load(Device* device) const {
  const auto config = ReadModelConfig(path());
  if (!config.ok()) return config.status();
  const auto checkpoint = Checkpoint::Open(path());
  if (!checkpoint.ok()) return checkpoint.status();
  return Model(*config, device, DType::kFloat32).Load(**checkpoint, nullptr);
}

void TinyFamilyModel::Rewrite(const std::vector<std::string>& without,
                              const std::vector<WeightPart>& added) const {
  std::vector<WrittenTensor> written;
  for (const WeightPart& tensor : tensors_) {
    if (std::find(without.begin(), without.end(), tensor.name) != without.end()) continue;
    written.push_back(Drawing(tensor));
  }
  for (const WeightPart& tensor : added) written.push_back(Drawing(tensor));
  directory_.Write("model.safetensors", SafetensorsBytes(written));
}

void TinyFamilyModel::Change(
    const std::function<void(const WeightPart&, std::vector<float>*)>& change) const {
  std::vector<WrittenTensor> written;
  for (const WeightPart& tensor : tensors_) {
    std::vector<float> values = Draw(tensor);
    change(tensor, &values);
    written.push_back(Float32Tensor(tensor.name, tensor.shape, values));
  }
  directory_.Write("model.safetensors", SafetensorsBytes(written));
}

void TinyFamilyModel::Fill(const std::string& name, float value) const {
  Change([&](const WeightPart& tensor, std::vector<float>* values) {
    if (tensor.name == name) values->assign(values->size(), value);
  });
}

}  // namespace sluice
