#include "engine/step_runner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "kernels/check.h"

namespace sluice {
namespace {

constexpr int64_t kLogitRows = Model::kLogitRows;
constexpr int64_t kMaxBiasesARow = 1024;

// The larger of what a forward pass and what a block of logit rows reads.
int64_t InputBytes(int32_t max_rows, int32_t slots) {
  const int64_t chunks = Model::MaxChunks(max_rows, slots);
  const int64_t forward = UploadArena::Padded(int64_t{max_rows} * 4) * 3 +
                          UploadArena::Padded(int64_t{slots} * 4) +
                          UploadArena::Padded(int64_t{slots} * int64_t{sizeof(Segment)}) +
                          UploadArena::Padded(chunks * int64_t{sizeof(ChunkSpan)});
  const int64_t biases = std::min<int64_t>(slots, kLogitRows) * kMaxBiasesARow;
  const int64_t logits = UploadArena::Padded(kLogitRows * 4) * 2 +
                         UploadArena::Padded(kLogitRows * int64_t{sizeof(SampleParams)}) +
                         UploadArena::Padded(biases * int64_t{sizeof(TokenBias)});
  return std::max(forward, logits);
}

// The most that a block of logit rows puts out.
constexpr int64_t kOutputBytes = kLogitRows * 8 * (1 + kMaxTopLogprobs);

}  // namespace

int64_t StepRunner::MemoryBytes(const Model& model, int32_t max_rows, int32_t slots) {
  const int64_t vocab = model.config().vocab_size;
  return model.BufferBytes(max_rows, slots) + InputBytes(max_rows, slots) +
         int64_t{slots} * vocab * 4 + 2 * kLogitRows * vocab * 4 + kOutputBytes;
}

StepRunner::StepRunner(Device* device, Model* model, StatePool* pool)
    : device_(device), model_(model), pool_(pool) {}

absl::StatusOr<std::unique_ptr<StepRunner>> StepRunner::Create(Device* device, Model* model,
                                                               StatePool* pool, int32_t max_rows) {
  std::unique_ptr<StepRunner> runner(new StepRunner(device, model, pool));
  SLUICE_RETURN_IF_ERROR(runner->Reserve(max_rows));
  return runner;
}

absl::Status StepRunner::Reserve(int32_t max_rows) {
  SLUICE_RETURN_IF_ERROR(model_->Reserve(max_rows, pool_->total()));
  const int64_t vocab = model_->config().vocab_size;
  inputs_ = UploadArena(device_, InputBytes(max_rows, pool_->total()));
  counts_ = DeviceBuffer(device_, pool_->total() * vocab * 4);
  logits_ = DeviceBuffer(device_, kLogitRows * vocab * 4);
  scratch_ = DeviceBuffer(device_, kLogitRows * vocab * 4);
  outputs_ = DeviceBuffer(device_, kOutputBytes);
  host_outputs_.resize(outputs_.bytes());
  if (inputs_.ok() && counts_.ok() && logits_.ok() && scratch_.ok() && outputs_.ok()) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("step buffers for a vocabulary of ", vocab, " and ", pool_->total(),
                   " slots need ", MemoryBytes(*model_, max_rows, pool_->total()),
                   " bytes; the device has ", device_->FreeBytes(), " free"));
}

void StepRunner::Admit(const Sequence& sequence) {
  if (!sequence.keeps_counts) return;
  const int64_t vocab = model_->config().vocab_size;
  device_->Zero(counts_.as<uint32_t>() + sequence.slot * vocab, vocab * 4);
}

StepResults StepRunner::Run(const StepPlan& plan) {
  std::vector<LogitRow> rows;
  std::vector<LogitRow> targets;
  const Batch batch = MakeBatch(plan, &rows, &targets);
  Forward(batch, CountSlots(plan, batch));
  StepResults results;
  // Rows to draw come last in a block: see RunLogits.
  rows.insert(rows.begin(), targets.begin(), targets.end());
  const absl::Span<const LogitRow> all = rows;
  for (size_t begin = 0; begin < all.size(); begin += kLogitRows) {
    RunLogits(all.subspan(begin, kLogitRows), &results);
  }
  return results;
}

Batch StepRunner::MakeBatch(const StepPlan& plan, std::vector<LogitRow>* draws,
                            std::vector<LogitRow>* targets) const {
  Batch batch;
  for (Sequence* sequence : plan.decode) {
    draws->push_back({batch.rows(), sequence, -1});
    batch.AddDecode(sequence->tokens.back(), sequence->slot,
                    static_cast<int32_t>(sequence->tokens.size()) - 1);
  }
  for (const PrefillPart& part : plan.prefill) {
    Sequence* sequence = part.sequence;
    const int32_t first_row = batch.rows();
    const int32_t end = part.begin + part.length;
    batch.AddSegment(sequence->tokens.data() + part.begin, part.length, sequence->slot, part.begin);
    if (sequence->scores_prompt()) {
      for (int32_t i = part.begin; i < std::min(end, sequence->prompt_length - 1); ++i) {
        targets->push_back({first_row + i - part.begin, sequence, sequence->tokens[i + 1]});
      }
    }
    if (end == sequence->prompt_length && sequence->kind == RequestKind::kGenerate) {
      draws->push_back({batch.rows() - 1, sequence, -1});
    }
  }
  return batch;
}

// For each row the count table that its prompt token is to be marked in, or nothing if no row has
// one.
std::vector<int32_t> StepRunner::CountSlots(const StepPlan& plan, const Batch& batch) const {
  const auto keeps = [](const PrefillPart& part) { return part.sequence->keeps_counts; };
  if (std::none_of(plan.prefill.begin(), plan.prefill.end(), keeps)) return {};
  std::vector<int32_t> slots(plan.decode.size(), -1);
  for (const PrefillPart& part : plan.prefill) {
    slots.insert(slots.end(), part.length, keeps(part) ? part.sequence->slot : -1);
  }
  SLUICE_CHECK(static_cast<int32_t>(slots.size()) == batch.rows());
  return slots;
}

void StepRunner::Forward(const Batch& batch, const std::vector<int32_t>& count_slots) {
  inputs_.Begin();
  const BatchView view = {.rows = batch.rows(),
                          .decode_rows = static_cast<int32_t>(batch.decode_slots.size()),
                          .segment_count = static_cast<int32_t>(batch.segments.size()),
                          .chunk_count = static_cast<int32_t>(batch.chunks.size()),
                          .tokens = inputs_.Add(batch.tokens),
                          .positions = inputs_.Add(batch.positions),
                          .decode_slots = inputs_.Add(batch.decode_slots),
                          .segments = inputs_.Add(batch.segments),
                          .chunks = inputs_.Add(batch.chunks)};
  const int32_t* slots = inputs_.Add(count_slots);
  inputs_.Upload();
  if (!count_slots.empty()) {
    device_->MarkPrompt({.rows = view.rows,
                         .vocab = model_->config().vocab_size,
                         .tokens = view.tokens,
                         .slots = slots,
                         .counts = counts_.as<uint32_t>()});
  }
  model_->Forward(view, pool_->states());
}

// Rows to draw come last in a block: their tokens become the targets of their own
// log-probabilities.
void StepRunner::RunLogits(absl::Span<const LogitRow> rows, StepResults* results) {
  const int32_t vocab = model_->config().vocab_size;
  const auto count = static_cast<int32_t>(rows.size());
  OutputLayout layout = {count, 0, 0, false};
  for (const LogitRow& row : rows) {
    if (row.target >= 0) ++layout.first_draw;
    if (!row.sequence->logprobs) continue;
    layout.logprobs = true;
    layout.top_n = std::max<int64_t>(layout.top_n, std::min(row.sequence->top_logprobs, vocab));
  }
  const auto first_draw = static_cast<int32_t>(layout.first_draw);
  const LogitInputs inputs = UploadLogitRows(rows, first_draw);
  void* out = outputs_.data();
  device_->Copy(layout.tokens(out), inputs.targets, count * int64_t{4});
  model_->Logits(inputs.rows, count, logits_.as<float>());
  if (first_draw < count) {
    device_->Sample({.rows = count - first_draw,
                     .vocab = vocab,
                     .logits = logits_.as<float>() + layout.first_draw * vocab,
                     .params = inputs.params,
                     .bias = inputs.biases,
                     .counts = counts_.as<uint32_t>(),
                     .scratch = scratch_.as<float>(),
                     .tokens = layout.tokens(out) + first_draw});
  }
  if (layout.logprobs) {
    device_->Logprobs({.rows = count,
                       .vocab = vocab,
                       .top_n = static_cast<int32_t>(layout.top_n),
                       .logits = logits_.as<float>(),
                       .targets = layout.tokens(out),
                       .target_logprobs = layout.logprob(out),
                       .top_tokens = layout.top_tokens(out),
                       .top_logprobs = layout.top_logprobs(out)});
  }
  device_->Download(host_outputs_.data(), out, layout.bytes());
  Collect(rows, layout, host_outputs_.data(), results);
}

StepRunner::LogitInputs StepRunner::UploadLogitRows(absl::Span<const LogitRow> rows,
                                                    int32_t first_draw) {
  std::vector<int32_t> batch_rows;
  std::vector<int32_t> targets;
  std::vector<SampleParams> params;
  std::vector<TokenBias> biases;
  for (const LogitRow& row : rows) {
    batch_rows.push_back(row.row);
    targets.push_back(std::max(row.target, 0));
  }
  for (const LogitRow& row : rows.subspan(first_draw)) {
    const Sequence& sequence = *row.sequence;
    SampleParams p = sequence.sampling;
    p.position = static_cast<uint32_t>(sequence.tokens.size());
    p.slot = sequence.keeps_counts ? sequence.slot : -1;
    p.bias_begin = static_cast<int32_t>(biases.size());
    p.bias_count = static_cast<int32_t>(sequence.bias.size());
    params.push_back(p);
    biases.insert(biases.end(), sequence.bias.begin(), sequence.bias.end());
  }
  inputs_.Begin();
  const LogitInputs inputs = {inputs_.Add(batch_rows), inputs_.Add(targets), inputs_.Add(params),
                              inputs_.Add(biases)};
  inputs_.Upload();
  return inputs;
}

void StepRunner::Collect(absl::Span<const LogitRow> rows, const OutputLayout& layout, void* host,
                         StepResults* results) {
  for (int64_t r = 0; r < layout.rows; ++r) {
    const Sequence& sequence = *rows[r].sequence;
    TokenResult result = {rows[r].sequence, {layout.tokens(host)[r], {}, {}}};
    if (sequence.logprobs) result.token.logprob = layout.logprob(host)[r];
    const int64_t top =
        sequence.logprobs ? std::min<int64_t>(sequence.top_logprobs, layout.top_n) : 0;
    for (int64_t n = r * layout.top_n; n < r * layout.top_n + top; ++n) {
      result.token.top.push_back({layout.top_tokens(host)[n], layout.top_logprobs(host)[n]});
    }
    (r < layout.first_draw ? results->scored : results->drawn).push_back(std::move(result));
  }
}

absl::Status StepRunner::WarmUp() {
  std::vector<float> logits(model_->config().vocab_size);
  const int32_t slot = pool_->Acquire();
  const std::vector<int32_t> tokens(kChunk, 0);
  for (const int32_t length : {kChunk, 1}) {
    Batch batch;
    if (length == 1) {
      batch.AddDecode(0, slot, kChunk);
    } else {
      batch.AddSegment(tokens.data(), length, slot, 0);
    }
    Forward(batch, {});
    inputs_.Begin();
    const int32_t* row = inputs_.Add(std::vector<int32_t>{length - 1});
    const SampleParams* params = inputs_.Add(std::vector<SampleParams>(1));
    inputs_.Upload();
    model_->Logits(row, 1, logits_.as<float>());
    device_->Download(logits.data(), logits_.data(), static_cast<int64_t>(logits.size()) * 4);
    if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); })) {
      return absl::InvalidArgumentError("checkpoint: its weights make logits that are not finite");
    }
    device_->Sample({.rows = 1,
                     .vocab = model_->config().vocab_size,
                     .logits = logits_.as<float>(),
                     .params = params,
                     .bias = nullptr,
                     .counts = nullptr,
                     .scratch = scratch_.as<float>(),
                     .tokens = outputs_.as<int32_t>()});
  }
  device_->Synchronize();
  pool_->Release(slot);
  return absl::OkStatus();
}

}  // namespace sluice
