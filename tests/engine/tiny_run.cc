#include "tests/engine/tiny_run.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/batch.h"
#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "kernels/check.h"

namespace sluice {
namespace {

BatchView View(const Batch& batch) {
  return {.rows = batch.rows(),
          .decode_rows = static_cast<int32_t>(batch.decode_slots.size()),
          .segment_count = static_cast<int32_t>(batch.segments.size()),
          .chunk_count = static_cast<int32_t>(batch.chunks.size()),
          .tokens = batch.tokens.data(),
          .positions = batch.positions.data(),
          .decode_slots = batch.decode_slots.data(),
          .segments = batch.segments.data(),
          .chunks = batch.chunks.data()};
}

}  // namespace

TinyRun::TinyRun(const TinyFamilyModel& model, Device* device)
    : model_(*ReadModelConfig(model.path()), device, DType::kFloat32),
      logits_(device, int64_t{kMaxTokens} * TinyFamilyModel::kVocab * 4) {
  SLUICE_CHECK(device->kind() == DeviceKind::kCpu);
  SLUICE_CHECK(model_.Load(**Checkpoint::Open(model.path()), nullptr).ok());
  SLUICE_CHECK(model_.Reserve(kMaxTokens, 1).ok());
  pool_ = *StatePool::Create(device, model_.SlotFloats(), 2);
  pool_->Acquire();  // so that the sequence's is not the first
  slot_ = pool_->Acquire();
}

void TinyRun::Prefill(const std::vector<int32_t>& tokens) {
  Batch batch;
  rows_ = static_cast<int32_t>(tokens.size());
  batch.AddSegment(tokens.data(), rows_, slot_, position_);
  position_ += rows_;
  model_.Forward(View(batch), pool_->states());
}

void TinyRun::Decode(int32_t token) {
  Batch batch;
  rows_ = 1;
  batch.AddDecode(token, slot_, position_++);
  model_.Forward(View(batch), pool_->states());
}

std::vector<float> TinyRun::State() const {
  const float* first = pool_->states() + slot_ * pool_->slot_floats();
  return {first, first + pool_->slot_floats()};
}

std::vector<float> TinyRun::Logprobs() {
  constexpr int64_t kVocab = TinyFamilyModel::kVocab;
  std::vector<int32_t> picked(rows_);
  std::iota(picked.begin(), picked.end(), 0);
  model_.Logits(picked.data(), rows_, logits_.as<float>());
  std::vector<float> logprobs(logits_.as<float>(), logits_.as<float>() + rows_ * kVocab);
  for (auto row = logprobs.begin(); row != logprobs.end(); row += kVocab) {
    const double max = *std::max_element(row, row + kVocab);
    double sum = 0;
    for (auto x = row; x != row + kVocab; ++x) sum += std::exp(*x - max);
    for (auto x = row; x != row + kVocab; ++x) *x -= static_cast<float>(max + std::log(sum));
  }
  return logprobs;
}

}  // namespace sluice
