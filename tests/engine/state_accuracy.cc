#include "tests/engine/state_accuracy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <utility>

#include "absl/types/span.h"
#include "engine/batch.h"
#include "engine/runtime.h"
#include "engine/status_macros.h"
#include "engine/upload_arena.h"
#include "kernels/check.h"
#include "kernels/device_buffer.h"
#include "tests/engine/upload_batch.h"

namespace sluice {
namespace {

constexpr std::array<const char*, 4> kPrompts = {
    "It was a fine evening in June, and", "The captain looked at the sea and said that",
    "There is nothing that a man can", "When she had read the letter, she"};
constexpr int32_t kRandomPrompt = 8;  // tokens

// The token that a sequence reads in a step.
struct Read {
  int32_t sequence;
  int32_t token;
  int32_t position;
};

// The model with states of one option: one state a sequence.
class Decoder {
 public:
  // One that `forgets` reads every token from states of zeros.
  static absl::StatusOr<std::unique_ptr<Decoder>> Open(const AccuracyRun& run,
                                                       const StateOption& option,
                                                       bool forgets = false);

  // Logits of what follows each, [reads, vocabulary].
  absl::Span<const float> Step(absl::Span<const Read> reads);

  const Runtime& runtime() const { return runtime_; }

 private:
  Decoder(Runtime runtime, bool forgets) : runtime_(std::move(runtime)), forgets_(forgets) {}

  Runtime runtime_;
  bool forgets_;
  UploadArena inputs_;  // of a step, then of its logits
  DeviceBuffer logits_;
  std::vector<int32_t> slots_;  // by sequence
  std::vector<float> downloaded_;
};

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Open(const AccuracyRun& run,
                                                       const StateOption& option, bool forgets) {
  EngineConfig config = run.config;
  config.state_type = option.type;
  config.state_ring = option.ring;
  config.weight_type = option.weights;
  config.state_slots = run.sequences;
  SLUICE_ASSIGN_OR_RETURN(Runtime runtime, LoadRuntime(config, nullptr));
  Device* const device = runtime.device.get();
  const int64_t bytes = int64_t{run.sequences} * runtime.info.vocab_size * sizeof(float);
  std::unique_ptr<Decoder> decoder(new Decoder(std::move(runtime), forgets));
  decoder->inputs_ = UploadArena(device, kBatchBytes);
  decoder->logits_ = DeviceBuffer(device, bytes);
  if (!decoder->inputs_.ok() || !decoder->logits_.ok()) {
    return absl::ResourceExhaustedError("the device has no memory left for logits");
  }
  for (int32_t i = 0; i < run.sequences; ++i) {
    decoder->slots_.push_back(decoder->runtime_.pool->Acquire());
  }
  return decoder;
}

absl::Span<const float> Decoder::Step(absl::Span<const Read> reads) {
  Batch batch;
  for (const Read& read : reads) {
    if (forgets_) {
      runtime_.pool->Release(slots_[read.sequence]);
      slots_[read.sequence] = runtime_.pool->Acquire();
    }
    batch.AddDecode(read.token, slots_[read.sequence], read.position);
  }
  Model& model = *runtime_.model;
  model.Forward(UploadBatch(batch, &inputs_), runtime_.pool->states());
  std::vector<int32_t> picked(reads.size());
  std::iota(picked.begin(), picked.end(), 0);
  inputs_.Begin();
  const int32_t* const rows = inputs_.Add(picked);
  inputs_.Upload();
  model.Logits(rows, static_cast<int32_t>(picked.size()), logits_.as<float>());
  downloaded_.resize(reads.size() * model.config().vocab_size);
  runtime_.device->Download(downloaded_.data(), logits_.data(),
                            static_cast<int64_t>(downloaded_.size() * sizeof(float)));
  return downloaded_;
}

size_t Argmax(absl::Span<const float> logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

// The logarithm of what probabilities are the exponentials of the logits over.
double LogSum(absl::Span<const float> logits) {
  const double max = logits[Argmax(logits)];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return max + std::log(sum);
}

// Of a token that was drawn: the distribution with float32.
struct Truth {
  absl::Span<const float> logits;
  double log_sum;
  size_t argmax;
  std::vector<double> probabilities;
};

Truth TruthOf(absl::Span<const float> logits) {
  Truth truth = {logits, LogSum(logits), Argmax(logits), {}};
  truth.probabilities.reserve(logits.size());
  for (const float logit : logits) {
    truth.probabilities.push_back(std::exp(logit - truth.log_sum));
  }
  return truth;
}

int32_t Draw(const Truth& truth, std::mt19937_64& random) {
  double left = std::uniform_real_distribution<double>(0, 1)(random);
  for (size_t token = 0; token < truth.probabilities.size(); ++token) {
    left -= truth.probabilities[token];
    if (left < 0) return static_cast<int32_t>(token);
  }
  return static_cast<int32_t>(truth.argmax);  // what rounding leaves
}

double Divergence(const Truth& truth, absl::Span<const float> logits, double log_sum) {
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double difference = static_cast<double>(truth.logits[i]) - logits[i];
    sum += truth.probabilities[i] * (difference - truth.log_sum + log_sum);
  }
  return std::max(sum, 0.0);
}

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// What is known of an option, token by token.
class Tally {
 public:
  // `index`: of the token among the `tokens` of its sequence.
  void Add(const Truth& truth, absl::Span<const float> logits, int32_t token, int32_t index,
           int32_t tokens) {
    const double log_sum = LogSum(logits);
    const double divergence = Divergence(truth, logits, log_sum);
    all_.push_back(divergence);
    const int32_t tenth = std::max(tokens / 10, 1);
    if (index < tenth) first_.push_back(divergence);
    if (index >= tokens - tenth) last_.push_back(divergence);
    same_ += Argmax(logits) == truth.argmax ? 1 : 0;
    lost_ += (truth.logits[token] - truth.log_sum) - (logits[token] - log_sum);
  }

  StateAccuracy Finish() {
    const auto count = static_cast<double>(all_.size());
    StateAccuracy result;
    result.mean = Mean(all_);
    result.first_tenth = Mean(first_);
    result.last_tenth = Mean(last_);
    result.same_argmax = static_cast<double>(same_) / count;
    result.perplexity_change = std::expm1(lost_ / count);
    std::sort(all_.begin(), all_.end());
    result.p99 = all_[static_cast<size_t>(std::ceil(0.99 * count)) - 1];
    result.max = all_.back();
    return result;
  }

 private:
  std::vector<double> all_;
  std::vector<double> first_;
  std::vector<double> last_;
  int64_t same_ = 0;
  double lost_ = 0;  // of the logarithm of the drawn tokens' probabilities
};

absl::StatusOr<std::vector<int32_t>> Prompt(const Runtime& runtime, int32_t sequence,
                                            std::mt19937_64& random) {
  if (runtime.tokenizer->vocab_size() > 0) {
    return runtime.tokenizer->Encode(kPrompts[sequence % kPrompts.size()], true);
  }
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < kRandomPrompt; ++i) {
    tokens.push_back(static_cast<int32_t>(random() % runtime.info.vocab_size));
  }
  return tokens;
}

struct Walk {
  std::vector<int32_t> tokens;  // the prompt, and what was drawn
  int32_t prompt;               // tokens
  std::mt19937_64 random;
};

class Measurement {
 public:
  Measurement(const AccuracyRun& run, std::vector<std::unique_ptr<Decoder>> decoders)
      : run_(run), decoders_(std::move(decoders)), tallies_(decoders_.size() - 1) {}

  absl::Status Begin();
  AccuracyReport Finish();

 private:
  std::vector<Read> ReadsOf(int64_t step) const;
  void Look(const std::vector<Read>& reads);

  const AccuracyRun& run_;
  // Of float32, of no states, then of the options.
  std::vector<std::unique_ptr<Decoder>> decoders_;
  std::vector<Walk> walks_;     // by sequence
  std::vector<Tally> tallies_;  // of all decoders but the first
  double surprise_ = 0;         // of the drawn tokens, with float32
};

absl::Status Measurement::Begin() {
  for (int32_t i = 0; i < run_.sequences; ++i) {
    Walk walk = {{}, 0, std::mt19937_64(run_.seed + i)};
    SLUICE_ASSIGN_OR_RETURN(walk.tokens, Prompt(decoders_[0]->runtime(), i, walk.random));
    walk.prompt = static_cast<int32_t>(walk.tokens.size());
    SLUICE_CHECK(walk.prompt > 0);
    walks_.push_back(std::move(walk));
  }
  return absl::OkStatus();
}

// The last drawn token is not read.
std::vector<Read> Measurement::ReadsOf(int64_t step) const {
  std::vector<Read> reads;
  for (int32_t i = 0; i < run_.sequences; ++i) {
    const auto position = static_cast<int32_t>(step - i);
    if (position < 0 || position >= walks_[i].prompt + run_.tokens - 1) continue;
    reads.push_back({i, walks_[i].tokens[position], position});
  }
  return reads;
}

void Measurement::Look(const std::vector<Read>& reads) {
  std::vector<absl::Span<const float>> logits;
  logits.reserve(decoders_.size());
  for (auto& decoder : decoders_) logits.push_back(decoder->Step(reads));
  const size_t vocab = decoders_[0]->runtime().info.vocab_size;
  for (size_t row = 0; row < reads.size(); ++row) {
    Walk& walk = walks_[reads[row].sequence];
    const int32_t index = reads[row].position + 1 - walk.prompt;
    if (index < 0) continue;
    const Truth truth = TruthOf(logits[0].subspan(row * vocab, vocab));
    const int32_t token = Draw(truth, walk.random);
    walk.tokens.push_back(token);
    surprise_ += truth.log_sum - truth.logits[token];
    for (size_t i = 0; i < tallies_.size(); ++i) {
      tallies_[i].Add(truth, logits[i + 1].subspan(row * vocab, vocab), token, index, run_.tokens);
    }
  }
}

AccuracyReport Measurement::Finish() {
  for (int64_t step = 0;; ++step) {
    const std::vector<Read> reads = ReadsOf(step);
    if (reads.empty()) break;
    Look(reads);
  }
  const EngineInfo& info = decoders_[0]->runtime().info;
  AccuracyReport report = {.device = info.device, .weight_dtype = info.weight_dtype, .options = {}};
  report.perplexity = std::exp(surprise_ / (int64_t{run_.sequences} * run_.tokens));
  report.without = tallies_[0].Finish();
  for (size_t i = 1; i < tallies_.size(); ++i) report.options.push_back(tallies_[i].Finish());
  return report;
}

}  // namespace

absl::StatusOr<AccuracyReport> MeasureStateAccuracy(const AccuracyRun& run) {
  SLUICE_CHECK(run.sequences >= 1 && run.sequences <= Model::kLogitRows && run.tokens >= 1);
  std::vector<std::unique_ptr<Decoder>> decoders;
  SLUICE_ASSIGN_OR_RETURN(decoders.emplace_back(), Decoder::Open(run, {"float32", 0}));
  SLUICE_ASSIGN_OR_RETURN(decoders.emplace_back(), Decoder::Open(run, {"float32", 0}, true));
  for (const StateOption& option : run.options) {
    SLUICE_ASSIGN_OR_RETURN(decoders.emplace_back(), Decoder::Open(run, option));
  }
  Measurement measurement(run, std::move(decoders));
  SLUICE_RETURN_IF_ERROR(measurement.Begin());
  return measurement.Finish();
}

}  // namespace sluice
