#include "tests/engine/tiny_model.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/layers/projection.h"
#include "tests/kernels/float8_ref.h"

namespace sluice {
namespace {

class WeightWriter {
 public:
  WeightWriter(uint64_t seed, bool float8) : random_(seed), float8_(float8) {}

  void Normal(const std::string& name, const std::vector<int64_t>& shape, float deviation,
              float mean = 0) {
    tensors_.push_back(Float32Tensor(name, shape, Numbers(shape, deviation, mean)));
  }

  // A projection that keeps the size of its input.
  void Projection(const std::string& name, int64_t out, int64_t in) {
    std::vector<float> values = Numbers({out, in}, 1.0F / std::sqrt(static_cast<float>(in)), 0);
    if (float8_ && std::min(out, in) >= sluice::Projection::kLeastFloat8Dim) {
      RoundRowsThroughFloat8(values.data(), out, in);
    }
    tensors_.push_back(Float32Tensor(name + ".weight", {out, in}, values));
  }

  std::string Bytes() const { return SafetensorsBytes(tensors_); }

 private:
  std::vector<float> Numbers(const std::vector<int64_t>& shape, float deviation, float mean) {
    int64_t count = 1;
    for (const int64_t dim : shape) count *= dim;
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }

  std::mt19937_64 random_;
  bool float8_;
  std::vector<WrittenTensor> tensors_;
};

void WriteLayer(WeightWriter* weights, const TinyModelOptions& options, int32_t index) {
  const int64_t hidden = options.hidden_size;
  const int64_t key = hidden / 2;
  const int64_t kv_key = key * options.num_kv_heads / options.num_heads;
  const int64_t kv_value = hidden * options.num_kv_heads / options.num_heads;
  const std::string layer = absl::StrCat("model.layers.", index, ".");
  const std::string attn = layer + "attn.";
  weights->Normal(layer + "attn_norm.weight", {hidden}, 0.1F, 1);
  weights->Projection(attn + "q_proj", key, hidden);
  weights->Projection(attn + "k_proj", kv_key, hidden);
  weights->Projection(attn + "v_proj", kv_value, hidden);
  weights->Projection(attn + "g_proj", hidden, hidden);
  if (options.use_short_conv) {
    weights->Normal(attn + "q_conv1d.weight", {key, 1, 4}, 0.5F);
    weights->Normal(attn + "k_conv1d.weight", {kv_key, 1, 4}, 0.5F);
    weights->Normal(attn + "v_conv1d.weight", {kv_value, 1, 4}, 0.5F);
  }
  weights->Projection(attn + "gk_proj.0", 16, hidden);
  weights->Projection(attn + "gk_proj.1", kv_key, 16);
  weights->Normal(attn + "gk_proj.1.bias", {kv_key}, 1.0F);
  weights->Normal(attn + "g_norm_swish_gate.weight", {hidden / options.num_heads}, 0.1F, 1);
  weights->Projection(attn + "o_proj", hidden, hidden);
  weights->Normal(layer + "mlp_norm.weight", {hidden}, 0.1F, 1);
  weights->Projection(layer + "mlp.gate_proj", 2 * hidden, hidden);
  weights->Projection(layer + "mlp.up_proj", 2 * hidden, hidden);
  weights->Projection(layer + "mlp.down_proj", hidden, 2 * hidden);
}

std::string Utf8(uint32_t code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0 | (code_point >> 6)),
          static_cast<char>(0x80 | (code_point & 0x3F))};
}

}  // namespace

EngineConfig TinyConfig(const std::filesystem::path& model) {
  EngineConfig config;
  config.model_dir = model;
  config.device = "cpu";
  config.dtype = "float32";
  config.threads = 2;
  config.state_slots = 8;
  config.max_waiting = 64;
  config.max_step_tokens = 256;
  config.max_output_tokens = 1 << 24;
  return config;
}

std::string ByteTokenizerJson() {
  std::string vocab;
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    std::string token = Utf8(visible ? byte : next++);
    if (token == "\"" || token == "\\") token = "\\" + token;
    absl::StrAppend(&vocab, byte == 0 ? "" : ",", "\"", token, "\":", byte);
  }
  // The ids above the bytes: the end of text, and fillers up to a vocabulary that is a multiple
  // of 8.
  std::string added;
  for (int32_t id = TinyModel::kEos; id < TinyModel::kVocab; ++id) {
    const bool eos = id == TinyModel::kEos;
    absl::StrAppend(&added, eos ? "" : ",", R"({"id":)", id, R"(,"content":"<|)",
                    eos ? "endoftext" : absl::StrCat("filler", id),
                    R"(|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,)",
                    R"("special":)", eos ? "true}" : "false}");
  }
  return absl::StrCat(
      R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)", added,
      R"(],"normalizer":null,"pre_tokenizer":{"type":)",
      R"("ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},)",
      R"("post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":true,)",
      R"("trim_offsets":true,"use_regex":true},"model":{"type":"BPE","dropout":null,)",
      R"("unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,)",
      R"("fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{)", vocab,
      R"(},"merges":[]}})");
}

TinyModel::TinyModel(const TinyModelOptions& options) {
  const int64_t hidden = options.hidden_size;
  WeightWriter weights(options.seed, options.float8);
  weights.Normal("model.embeddings.weight", {kVocab, hidden}, 1.0F);
  weights.Normal("lm_head.weight", {kVocab, hidden}, options.head_scale);
  weights.Normal("model.norm.weight", {hidden}, 0.1F, 1);
  for (int32_t layer = 0; layer < options.num_layers; ++layer) {
    WriteLayer(&weights, options, layer);
  }
  directory_.Write("model.safetensors", weights.Bytes());
  directory_.Write("tokenizer.json", ByteTokenizerJson());
  directory_.Write(
      "config.json",
      absl::StrCat(R"({"model_type":"gla","hidden_size":)", hidden, R"(,"num_hidden_layers":)",
                   options.num_layers, R"(,"num_heads":)", options.num_heads, R"(,"num_kv_heads":)",
                   options.num_kv_heads, R"(,"intermediate_size":)", 2 * hidden,
                   R"(,"use_short_conv":)", options.use_short_conv ? "true" : "false",
                   R"(,"vocab_size":)", kVocab, R"(,"bos_token_id":256,"eos_token_id":256})"));
}

}  // namespace sluice
