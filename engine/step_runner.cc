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

int64_t InputBytes(int32_t max_rows, int32_t slots) {
  const int64_t rows = UploadArena::Padded(int64_t{max_rows} * 4);
  const int64_t chunks = Model::MaxChunks(max_rows, slots);
  // Tokens, positions, decode slots, count slots, logit rows and targets are an int32 a row.
  return 6 * rows + UploadArena::Padded(int64_t{max_rows} * int64_t{sizeof(SampleParams)}) +
         UploadArena::Padded(int64_t{slots} * int64_t{sizeof(Segment)}) +
         UploadArena::Padded(chunks * int64_t{sizeof(ChunkSpan)}) +
         UploadArena::Padded(int64_t{slots} * kMaxBiasesARow * int64_t{sizeof(TokenBias)});
}

// The most that a step puts out.
int64_t OutputBytes(int32_t max_rows) { return int64_t{max_rows} * 8 * (1 + kMaxTopLogprobs); }

// Numbers of rows that decoding is recorded for: each up to 8, then steps of 8, and of 16 from 64
// on.
int32_t NextRecorded(int32_t rows) {
  const int32_t step = rows < 8 ? 1 : rows < 64 ? 8 : 16;
  return rows / step * step + step;
}

}  // namespace

int64_t StepRunner::MemoryBytes(const Model& model, int32_t max_rows, int32_t slots) {
  const int64_t vocab = model.config().vocab_size;
  return model.BufferBytes(max_rows, slots) + InputBytes(max_rows, slots) +
         int64_t{slots} * vocab * 4 + 2 * kLogitRows * vocab * 4 + OutputBytes(max_rows);
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
  outputs_ = DeviceBuffer(device_, OutputBytes(max_rows));
  host_outputs_ = HostBuffer(device_, OutputBytes(max_rows));
  if (host_outputs_.data() == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("results of steps of ", max_rows, " tokens need ", OutputBytes(max_rows),
                     " bytes of page-locked memory of the host; there is not that much"));
  }
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

// A device that does everything on the spot has the caller go on first: what it has to tell of the
// step before is not for later.
void StepRunner::Start(const StepPlan& plan) {
  SLUICE_CHECK(plan_ == nullptr && !plan.empty());
  plan_ = &plan;
  if (device_->RunsBehind()) Queue(plan);
}

StepResults StepRunner::Finish() {
  SLUICE_CHECK(plan_ != nullptr);
  if (!device_->RunsBehind()) Queue(*plan_);
  plan_ = nullptr;
  device_->Synchronize();
  void* const host = host_outputs_.data();
  StepResults results;
  for (int64_t r = 0; r < layout_.rows; ++r) {
    if (logit_rows_[r].sequence == nullptr) continue;
    const Sequence& sequence = *logit_rows_[r].sequence;
    TokenResult result = {logit_rows_[r].sequence, {layout_.tokens(host)[r], {}, {}}};
    if (sequence.logprobs) result.token.logprob = layout_.logprob(host)[r];
    const int64_t top =
        sequence.logprobs ? std::min<int64_t>(sequence.top_logprobs, layout_.top_n) : 0;
    for (int64_t n = r * layout_.top_n; n < r * layout_.top_n + top; ++n) {
      result.token.top.push_back({layout_.top_tokens(host)[n], layout_.top_logprobs(host)[n]});
    }
    (r < layout_.first_draw ? results.scored : results.drawn).push_back(std::move(result));
  }
  return results;
}

void StepRunner::Abandon() {
  plan_ = nullptr;
  device_->Synchronize();
}

void StepRunner::Queue(const StepPlan& plan) {
  Batch batch = MakeBatch(plan);
  const auto recorded = plan.prefill.empty() ? decodes_.lower_bound(batch.rows()) : decodes_.end();
  const bool is_recorded = recorded != decodes_.end();
  if (is_recorded) FillUp(recorded->first, &batch);
  LayOutOutput();
  const Inputs inputs = Upload(batch, CountSlots(plan));
  if (is_recorded) {
    device_->Play(*recorded->second);
  } else {
    Forward(inputs);
  }
  for (int64_t begin = 0; begin < layout_.rows; begin += kLogitRows) {
    const int64_t end = std::min(begin + kLogitRows, layout_.rows);
    if (!is_recorded) DrawBlock(inputs, begin, end);
    if (layout_.logprobs) LogprobsBlock(begin, end);
  }
  if (layout_.rows > 0) {
    device_->DownloadLater(host_outputs_.data(), outputs_.data(), layout_.bytes());
  }
}

Batch StepRunner::MakeBatch(const StepPlan& plan) {
  Batch batch;
  std::vector<LogitRow> draws;
  logit_rows_.clear();
  for (Sequence* sequence : plan.decode) {
    draws.push_back({batch.rows(), sequence, -1});
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
        logit_rows_.push_back({first_row + i - part.begin, sequence, sequence->tokens[i + 1]});
      }
    }
    if (end == sequence->prompt_length && sequence->kind == RequestKind::kGenerate) {
      draws.push_back({batch.rows() - 1, sequence, -1});
    }
  }
  logit_rows_.insert(logit_rows_.end(), draws.begin(), draws.end());
  return batch;
}

// Adds decode rows that nobody asked for.
void StepRunner::FillUp(int32_t rows, Batch* batch) {
  while (batch->rows() < rows) {
    logit_rows_.push_back({batch->rows(), nullptr, -1});
    batch->AddDecode(0, pool_->sink(), 0);
  }
}

void StepRunner::LayOutOutput() {
  layout_ = {.rows = static_cast<int64_t>(logit_rows_.size())};
  for (const LogitRow& row : logit_rows_) {
    if (row.target >= 0) ++layout_.first_draw;
    if (row.sequence == nullptr || !row.sequence->logprobs) continue;
    layout_.logprobs = true;
    layout_.top_n = std::max<int64_t>(
        layout_.top_n, std::min(row.sequence->top_logprobs, model_->config().vocab_size));
  }
}

// For each row the count table that its prompt token is to be marked in, or nothing if no row has
// one.
std::vector<int32_t> StepRunner::CountSlots(const StepPlan& plan) const {
  const auto keeps = [](const PrefillPart& part) { return part.sequence->keeps_counts; };
  if (std::none_of(plan.prefill.begin(), plan.prefill.end(), keeps)) return {};
  std::vector<int32_t> slots(plan.decode.size(), -1);
  for (const PrefillPart& part : plan.prefill) {
    slots.insert(slots.end(), part.length, keeps(part) ? part.sequence->slot : -1);
  }
  return slots;
}

// Arrays that a recorded step reads come before those whose size its rows do not decide, so that
// they lie where they lay when it was recorded.
StepRunner::Inputs StepRunner::Upload(const Batch& batch, const std::vector<int32_t>& count_slots) {
  std::vector<int32_t> rows;
  std::vector<int32_t> targets;
  std::vector<SampleParams> params;
  std::vector<TokenBias> biases;
  for (const LogitRow& row : logit_rows_) {
    rows.push_back(row.row);
    if (row.target >= 0) {
      targets.push_back(row.target);
      continue;
    }
    SampleParams& p = params.emplace_back();
    p.temperature = 0;
    if (row.sequence == nullptr) continue;
    const Sequence& sequence = *row.sequence;
    p = sequence.sampling;
    p.position = static_cast<uint32_t>(sequence.tokens.size());
    p.slot = sequence.keeps_counts ? sequence.slot : -1;
    p.bias_begin = static_cast<int32_t>(biases.size());
    p.bias_count = static_cast<int32_t>(sequence.bias.size());
    biases.insert(biases.end(), sequence.bias.begin(), sequence.bias.end());
  }
  inputs_.Begin();
  const Inputs inputs = {.batch = {.rows = batch.rows(),
                                   .decode_rows = static_cast<int32_t>(batch.decode_slots.size()),
                                   .segment_count = static_cast<int32_t>(batch.segments.size()),
                                   .chunk_count = static_cast<int32_t>(batch.chunks.size()),
                                   .tokens = inputs_.Add(batch.tokens),
                                   .positions = inputs_.Add(batch.positions),
                                   .decode_slots = inputs_.Add(batch.decode_slots),
                                   .segments = inputs_.Add(batch.segments),
                                   .chunks = inputs_.Add(batch.chunks),
                                   .sink = pool_->sink()},
                         .count_slots = count_slots.empty() ? nullptr : inputs_.Add(count_slots),
                         .logit_rows = inputs_.Add(rows),
                         .targets = inputs_.Add(targets),
                         .params = inputs_.Add(params),
                         .biases = inputs_.Add(biases)};
  inputs_.Upload();
  return inputs;
}

void StepRunner::Forward(const Inputs& inputs) {
  if (inputs.count_slots != nullptr) {
    device_->MarkPrompt({.rows = inputs.batch.rows,
                         .vocab = model_->config().vocab_size,
                         .tokens = inputs.batch.tokens,
                         .slots = inputs.count_slots,
                         .counts = counts_.as<uint32_t>()});
  }
  model_->Forward(inputs.batch, pool_->states());
}

// Logits of logit rows [begin, end), at most kLogitRows, and the tokens of those to draw; those to
// score have theirs.
void StepRunner::DrawBlock(const Inputs& inputs, int64_t begin, int64_t end) {
  const int32_t vocab = model_->config().vocab_size;
  const int64_t draw = std::clamp(layout_.first_draw, begin, end);
  int32_t* const tokens = layout_.tokens(outputs_.data());
  if (draw > begin) device_->Copy(tokens + begin, inputs.targets + begin, (draw - begin) * 4);
  model_->Logits(inputs.logit_rows + begin, static_cast<int32_t>(end - begin), logits_.as<float>());
  if (draw == end) return;
  device_->Sample({.rows = static_cast<int32_t>(end - draw),
                   .vocab = vocab,
                   .logits = logits_.as<float>() + (draw - begin) * vocab,
                   .params = inputs.params + (draw - layout_.first_draw),
                   .bias = inputs.biases,
                   .counts = counts_.as<uint32_t>(),
                   .scratch = scratch_.as<float>(),
                   .tokens = tokens + draw});
}

// Of the block whose logits were made last.
void StepRunner::LogprobsBlock(int64_t begin, int64_t end) {
  void* const out = outputs_.data();
  device_->Logprobs({.rows = static_cast<int32_t>(end - begin),
                     .vocab = model_->config().vocab_size,
                     .top_n = static_cast<int32_t>(layout_.top_n),
                     .logits = logits_.as<float>(),
                     .targets = layout_.tokens(out) + begin,
                     .target_logprobs = layout_.logprob(out) + begin,
                     .top_tokens = layout_.top_tokens(out) + begin * layout_.top_n,
                     .top_logprobs = layout_.top_logprobs(out) + begin * layout_.top_n});
}

absl::Status StepRunner::WarmUp() {
  const std::vector<int32_t> tokens(kChunk, 0);
  std::vector<float> logits(model_->config().vocab_size);
  const int32_t slot = pool_->Acquire();  // The sink has no state to step.
  for (const int32_t length : {kChunk, 1}) {
    Batch batch;
    if (length == 1) {
      batch.AddDecode(0, slot, kChunk);
    } else {
      batch.AddSegment(tokens.data(), length, slot, 0);
    }
    logit_rows_ = {{length - 1, nullptr, -1}};
    LayOutOutput();
    const Inputs inputs = Upload(batch, {});
    Forward(inputs);
    DrawBlock(inputs, 0, 1);
    device_->Download(logits.data(), logits_.data(), static_cast<int64_t>(logits.size()) * 4);
    if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); })) {
      return absl::InvalidArgumentError("checkpoint: its weights make logits that are not finite");
    }
  }
  pool_->Release(slot);
  RecordDecodes();
  device_->Synchronize();
  return absl::OkStatus();
}

// As many rows as there are slots, or as there may be logits of.
void StepRunner::RecordDecodes() {
  if (!device_->RunsBehind()) return;
  const auto most = std::min<int32_t>(pool_->total(), kLogitRows);
  for (int32_t rows = 1;; rows = NextRecorded(rows)) {
    Batch batch;
    logit_rows_.clear();
    FillUp(rows, &batch);
    LayOutOutput();
    const Inputs inputs = Upload(batch, {});
    const auto queue = [this, inputs, rows] {
      Forward(inputs);
      DrawBlock(inputs, 0, rows);
    };
    queue();  // What ops make at their first use is then there.
    std::unique_ptr<Recording> recording = device_->Record(queue);
    if (recording == nullptr) return;
    decodes_.emplace(rows, std::move(recording));
    if (rows >= most) return;
  }
}

}  // namespace sluice
