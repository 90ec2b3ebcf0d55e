#include "tests/engine/tiny_run.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/batch.h"
#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "kernels/check.h"
#include "tests/engine/upload_batch.h"

namespace sluice {

TinyRun::TinyRun(const TinyFamilyModel& model, Device* device)
    : device_(device),
      model_(*ReadModelConfig(model.path()), device, DType::kFloat32),
      inputs_(device, kBatchBytes),
      logits_(device, int64_t{kMaxTokens} * TinyFamilyModel::kVocab * 4) {
  SLUICE_CHECK(inputs_.ok() && logits_.ok());
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
  model_.Forward(UploadBatch(batch, &inputs_), pool_->states());
}

void TinyRun::Decode(int32_t token) {
  Batch batch;
  rows_ = 1;
  batch.AddDecode(token, slot_, position_++);
  model_.Forward(UploadBatch(batch, &inputs_), pool_->states());
}

std::vector<float> TinyRun::State() const {
  std::vector<float> state(pool_->slot_floats());
  device_->Download(state.data(), pool_->states() + slot_ * pool_->slot_floats(),
                    pool_->slot_bytes());
  return state;
}

std::vector<float> TinyRun::Logprobs() {
  constexpr int64_t kVocab = TinyFamilyModel::kVocab;
  std::vector<int32_t> picked(rows_);
  std::iota(picked.begin(), picked.end(), 0);
  inputs_.Begin();
  const int32_t* const rows = inputs_.Add(picked);
  inputs_.Upload();
  model_.Logits(rows, rows_, logits_.as<float>());
  std::vector<float> logprobs(rows_ * kVocab);
  device_->Download(logprobs.data(), logits_.data(), rows_ * kVocab * 4);
  for (auto row = logprobs.begin(); row != logprobs.end(); row += kVocab) {
    const double max = *std::max_element(row, row + kVocab);
    double sum = 0;
    for (auto x = row; x != row + kVocab; ++x) sum += std::exp(*x - max);
    for (auto x = row; x != row + kVocab; ++x) *x -= static_cast<float>(max + std::log(sum));
  }
  return logprobs;
}

}  // namespace sluice
