// RWKV-6 against plain loops in double precision over the same random weights.

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "gtest/gtest.h"
#include "tests/engine/recording_sink.h"
#include "tests/engine/safetensors_writer.h"
#include "tests/kernels/devices.h"

namespace sluice {
namespace {

using Row = std::vector<double>;

struct Shape {
  const char* name;
  int64_t hidden;
  int64_t heads;
  int64_t key_dim;  // of a head
  int64_t value_dim;
  int64_t mix_rank;
  int64_t decay_rank;
  int64_t inner;  // of the channel mix
  bool norm_first;
  bool norm_bias;
  bool square;  // relu(x)^2, or relu(x)
  bool tied;
};
constexpr int64_t kLayers = 2;
constexpr int64_t kVocab = 104;
constexpr double kEps = 0.03;

const Shape kShapes[] = {
    {"Defaults", 64, 2, 16, 32, 16, 24, 224, true, true, true, false},
    {"OddRanksWithoutBiases", 64, 2, 32, 64, 5, 13, 96, false, false, false, true},
};

void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }

std::string ConfigJson(const Shape& s) {
  const auto boolean = [](bool value) { return value ? "true" : "false"; };
  return absl::StrCat(
      R"({"model_type":"rwkv6","hidden_size":)", s.hidden, R"(,"num_hidden_layers":)", kLayers,
      R"(,"num_heads":)", s.heads, R"(,"expand_k":)",
      static_cast<double>(s.heads * s.key_dim) / static_cast<double>(s.hidden), R"(,"expand_v":)",
      static_cast<double>(s.heads * s.value_dim) / static_cast<double>(s.hidden),
      R"(,"proj_low_rank_dim":)", s.mix_rank, R"(,"gate_low_rank_dim":)", s.decay_rank,
      // 224 is what the default ratio makes of 64.
      s.inner == 224 ? "" : absl::StrCat(R"(,"intermediate_size":)", s.inner), R"(,"norm_first":)",
      boolean(s.norm_first), R"(,"norm_bias":)", boolean(s.norm_bias), R"(,"norm_eps":)", kEps,
      R"(,"hidden_act":")", s.square ? "sqrelu" : "relu", R"(","tie_word_embeddings":)",
      boolean(s.tied), R"(,"vocab_size":)", kVocab, "}");
}

// Random tensors by name, made when they are first asked for.
class Weights {
 public:
  const std::vector<float>& Get(const std::string& name, const std::vector<int64_t>& shape,
                                double middle, double deviation) {
    const auto found = values_.find(name);
    if (found != values_.end()) return found->second;
    int64_t count = 1;
    for (const int64_t dim : shape) count *= dim;
    std::normal_distribution<double> normal(middle, deviation);
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(normal(random_));
    tensors_.push_back(Float32Tensor(name, shape, values));
    return values_[name] = std::move(values);
  }
  std::string Bytes() const { return SafetensorsBytes(tensors_); }

 private:
  std::mt19937_64 random_{7};
  std::map<std::string, std::vector<float>> values_;
  std::vector<WrittenTensor> tensors_;
};

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The model over one sequence from its first token on.
class Oracle {
 public:
  explicit Oracle(const Shape& shape) : s_(shape) {
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      time_last_.emplace_back(s_.hidden, 0.0);
      channel_last_.emplace_back(s_.hidden, 0.0);
      states_.emplace_back(s_.heads * s_.key_dim * s_.value_dim, 0.0);
    }
  }

  // Log-probabilities of what follows the token.
  Row Step(int64_t token) {
    const auto& table = weights_.Get("model.embeddings.weight", {kVocab, s_.hidden}, 0, 1);
    Row x(table.begin() + token * s_.hidden, table.begin() + (token + 1) * s_.hidden);
    if (s_.norm_first) x = Norm(x, "model.layers.0.pre_norm", s_.norm_bias);
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      const std::string prefix = absl::StrCat("model.layers.", layer, ".");
      Add(TimeMix(Norm(x, prefix + "attn_norm", s_.norm_bias), prefix + "attn.", layer), &x);
      Add(ChannelMix(Norm(x, prefix + "ffn_norm", s_.norm_bias), prefix + "ffn.", layer), &x);
    }
    x = Norm(x, "model.norm", s_.norm_bias);
    Row logits = s_.tied ? Times(x, table, kVocab) : Linear(x, "lm_head", kVocab);
    double sum = 0;
    for (const double logit : logits) sum += std::exp(logit);
    for (double& logit : logits) logit -= std::log(sum);
    return logits;
  }

  // Of all that Step has asked for.
  std::string Checkpoint() const { return weights_.Bytes(); }

 private:
  static void Add(const Row& y, Row* x) {
    for (size_t c = 0; c < y.size(); ++c) (*x)[c] += y[c];
  }

  static Row Times(const Row& x, const std::vector<float>& matrix, int64_t out) {
    Row y(out, 0.0);
    for (int64_t n = 0; n < out; ++n) {
      for (size_t k = 0; k < x.size(); ++k) y[n] += x[k] * matrix[n * x.size() + k];
    }
    return y;
  }

  Row Linear(const Row& x, const std::string& name, int64_t out) {
    const auto in = static_cast<int64_t>(x.size());
    const double deviation = 1 / std::sqrt(static_cast<double>(in));
    return Times(x, weights_.Get(name + ".weight", {out, in}, 0, deviation), out);
  }

  // Of each run of `dim` channels alone.
  Row GroupNorm(const Row& x, const std::string& name, bool has_bias, int64_t dim) {
    const auto size = static_cast<int64_t>(x.size());
    const auto& weight = weights_.Get(name + ".weight", {size}, 1, 0.2);
    Row y(size);
    for (int64_t begin = 0; begin < size; begin += dim) {
      double mean = 0;
      double square = 0;
      for (int64_t c = begin; c < begin + dim; ++c) mean += x[c] / static_cast<double>(dim);
      for (int64_t c = begin; c < begin + dim; ++c) {
        square += (x[c] - mean) * (x[c] - mean) / static_cast<double>(dim);
      }
      for (int64_t c = begin; c < begin + dim; ++c) {
        y[c] = (x[c] - mean) / std::sqrt(square + kEps) * weight[c];
      }
    }
    if (!has_bias) return y;
    const auto& bias = weights_.Get(name + ".bias", {size}, 0, 0.3);
    for (int64_t c = 0; c < size; ++c) y[c] += bias[c];
    return y;
  }
  Row Norm(const Row& x, const std::string& name, bool has_bias) {
    return GroupNorm(x, name, has_bias, static_cast<int64_t>(x.size()));
  }

  static Row Shift(const Row& x, Row* last) {
    Row delta(x.size());
    for (size_t c = 0; c < x.size(); ++c) delta[c] = (*last)[c] - x[c];
    *last = x;
    return delta;
  }

  Row Mixed(const Row& x, const Row& delta, const std::string& name) {
    const auto& mu = weights_.Get(name, {s_.hidden}, 0.5, 0.3);
    Row y(x);
    for (size_t c = 0; c < x.size(); ++c) y[c] += delta[c] * mu[c];
    return y;
  }

  // The inputs of r, w, k, v and g.
  std::vector<Row> FiveMixes(const Row& x, const Row& delta, const std::string& attn) {
    const int64_t rank = s_.mix_rank;
    Row low = Linear(Mixed(x, delta, attn + "x_proj.0.mu"), attn + "x_proj.0.linear", 5 * rank);
    for (double& value : low) value = std::tanh(value);
    const auto& second = weights_.Get(attn + "x_proj.2.weight", {s_.hidden, 5 * rank}, 0, 0.2);
    const auto& bias = weights_.Get(attn + "x_bias", {5, s_.hidden}, 0.5, 0.3);
    std::vector<Row> mixes(5, x);
    for (int64_t n = 0; n < 5; ++n) {
      for (int64_t c = 0; c < s_.hidden; ++c) {
        double amount = bias[n * s_.hidden + c];
        for (int64_t r = 0; r < rank; ++r) {
          amount += low[n * rank + r] * second[c * 5 * rank + n * rank + r];
        }
        mixes[n][c] += delta[c] * amount;
      }
    }
    return mixes;
  }

  // exp(-exp(w)) of each channel of a key.
  Row Decay(const Row& x, const std::string& lora) {
    Row low = Linear(x, lora + "0", s_.decay_rank);
    for (double& value : low) value = std::tanh(value);
    Row decay = Linear(low, lora + "2", s_.heads * s_.key_dim);
    const auto& bias = weights_.Get(lora + "2.bias", {s_.heads * s_.key_dim}, -2, 1.5);
    for (size_t c = 0; c < decay.size(); ++c) decay[c] = std::exp(-std::exp(decay[c] + bias[c]));
    return decay;
  }

  Row TimeMix(const Row& x, const std::string& attn, int64_t layer) {
    const int64_t keys = s_.heads * s_.key_dim;
    const int64_t values = s_.heads * s_.value_dim;
    const std::vector<Row> mixes = FiveMixes(x, Shift(x, &time_last_[layer]), attn);
    const Row r = Linear(mixes[0], attn + "r_proj.linear", keys);
    const Row decay = Decay(mixes[1], attn + "w_proj.linear.lora.");
    const Row k = Linear(mixes[2], attn + "k_proj.linear", keys);
    const Row v = Linear(mixes[3], attn + "v_proj.linear", values);
    const Row g = Linear(mixes[4], attn + "g_proj.linear", values);
    const auto& bonus = weights_.Get(attn + "bonus", {s_.heads, s_.key_dim}, 0.3, 0.5);
    Row o(values, 0.0);
    for (int64_t key = 0; key < keys; ++key) {
      const int64_t first = key / s_.key_dim * s_.value_dim;
      for (int64_t c = 0; c < s_.value_dim; ++c) {
        double& state = states_[layer][key * s_.value_dim + c];
        const double added = k[key] * v[first + c];
        o[first + c] += r[key] * (state + bonus[key] * added);
        state = decay[key] * state + added;
      }
    }
    o = GroupNorm(o, attn + "g_norm", /*has_bias=*/true, s_.value_dim);
    for (int64_t c = 0; c < values; ++c) o[c] *= g[c] * Sigmoid(g[c]);
    return Linear(o, attn + "o_proj", s_.hidden);
  }

  Row ChannelMix(const Row& x, const std::string& ffn, int64_t layer) {
    const Row delta = Shift(x, &channel_last_[layer]);
    Row key = Linear(Mixed(x, delta, ffn + "key.mu"), ffn + "key.linear", s_.inner);
    for (double& value : key) {
      value = std::max(value, 0.0);
      if (s_.square) value *= value;
    }
    Row y = Linear(key, ffn + "value", s_.hidden);
    const Row gate =
        Linear(Mixed(x, delta, ffn + "receptance.mu"), ffn + "receptance.linear", s_.hidden);
    for (size_t c = 0; c < y.size(); ++c) y[c] *= Sigmoid(gate[c]);
    return y;
  }

  Shape s_;
  Weights weights_;
  std::vector<Row> time_last_;
  std::vector<Row> channel_last_;
  std::vector<Row> states_;  // [layer][heads * K, V]
};

class Rwkv6Test : public testing::TestWithParam<std::tuple<DeviceKind, Shape>> {
 protected:
  double Tolerance() const { return std::get<0>(GetParam()) == DeviceKind::kCuda ? 1e-3 : 1e-4; }
  std::unique_ptr<Engine> Open(const ScratchDirectory& directory) const {
    EngineConfig config;
    config.model_dir = directory.path();
    config.needs_tokenizer = false;
    config.device = std::get<0>(GetParam()) == DeviceKind::kCuda ? "cuda" : "cpu";
    config.dtype = "float32";
    config.threads = 2;
    config.state_slots = 2;
    config.max_step_tokens = 128;
    auto engine = Engine::Create(config, nullptr, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }
};

TEST_P(Rwkv6Test, AgreesWithPlainLoops) {
  const Shape& shape = std::get<1>(GetParam());
  Request request;
  request.kind = RequestKind::kScore;
  request.token_ids.emplace();
  for (int64_t i = 0; i < 200; ++i) request.token_ids->push_back((i * 31 + i * i * 7) % kVocab);
  request.top_logprobs = 20;
  Oracle oracle(shape);
  std::vector<Row> expected;
  for (const int64_t token : *request.token_ids) expected.push_back(oracle.Step(token));
  ScratchDirectory directory;
  directory.Write("config.json", ConfigJson(shape));
  directory.Write("model.safetensors", oracle.Checkpoint());
  const auto engine = Open(directory);
  ASSERT_NE(engine, nullptr);
  auto sink = std::make_shared<RecordingSink>();
  const std::vector<int64_t> ids = *request.token_ids;
  ASSERT_TRUE(engine->Submit(std::move(request), sink).ok());
  ASSERT_TRUE(sink->Wait().status.ok());
  const std::vector<OutputToken> tokens = sink->tokens();
  ASSERT_EQ(tokens.size(), ids.size());
  for (size_t i = 1; i < tokens.size(); ++i) {
    ASSERT_NEAR(*tokens[i].logprob, expected[i - 1][ids[i]], Tolerance()) << i;
    ASSERT_EQ(tokens[i].top.size(), 20);
    for (const TopToken& top : tokens[i].top) {
      ASSERT_NEAR(top.logprob, expected[i - 1][top.token], Tolerance()) << i;
    }
  }
}

std::string CaseName(const testing::TestParamInfo<std::tuple<DeviceKind, Shape>>& info) {
  const bool cuda = std::get<0>(info.param) == DeviceKind::kCuda;
  return absl::StrCat(cuda ? "Cuda_" : "Cpu_", std::get<1>(info.param).name);
}

INSTANTIATE_TEST_SUITE_P(All, Rwkv6Test,
                         testing::Combine(testing::ValuesIn(DevicesUnderTest()),
                                          testing::ValuesIn(kShapes)),
                         CaseName);

}  // namespace
}  // namespace sluice
