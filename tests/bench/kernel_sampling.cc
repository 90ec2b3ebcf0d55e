// What is done to logits.
#include <cstdint>
#include <string>
#include <vector>

#include "tests/bench/kernel_cases.h"

namespace sluice {

void TimeSample(KernelTimer& timer, int32_t rows, const std::string& name, SampleParams params) {
  const Rotation rotation(timer.device(), int64_t{2} * rows * kVocab * 4);
  std::vector<SampleParams> all(rows, params);
  for (int32_t r = 0; r < rows; ++r) all[r].position = static_cast<uint32_t>(r);
  const Ring logits = rotation.Numbers(int64_t{rows} * kVocab, DType::kFloat32, -8, 8);
  const Ring param = rotation.Same(all);
  const Ring scratch = rotation.Empty(int64_t{rows} * kVocab * 4);
  const Ring tokens = rotation.Empty(int64_t{rows} * 4);
  SampleArgs args = {.rows = rows, .vocab = kVocab, .bias = nullptr, .counts = nullptr};
  timer.Time({"sample " + name, Format("%lldx%lld", rows, kVocab), SampleBytes(args)},
             [&](int64_t call) {
               args.logits = logits.at<float>(call);
               args.params = param.at<SampleParams>(call);
               args.scratch = scratch.at<float>(call);
               args.tokens = tokens.at<int32_t>(call);
               timer.device().Sample(args);
             });
}

void TimeLogprobs(KernelTimer& timer, int32_t rows, int32_t top_n) {
  LogprobsArgs args = {.rows = rows, .vocab = kVocab, .top_n = top_n};
  const Rotation rotation(timer.device(), LogprobsBytes(args));
  const Ring logits = rotation.Numbers(int64_t{rows} * kVocab, DType::kFloat32, -8, 8);
  const Ring targets = rotation.Same(Counting(rows));
  const Ring logprobs = rotation.Empty(int64_t{rows} * 4);
  const Ring top_tokens = rotation.Empty(int64_t{rows} * top_n * 4);
  const Ring top_logprobs = rotation.Empty(int64_t{rows} * top_n * 4);
  timer.Time({"logprobs", Format("%lldx%lld top %lld", rows, kVocab, top_n), LogprobsBytes(args)},
             [&](int64_t call) {
               args.logits = logits.at<float>(call);
               args.targets = targets.at<int32_t>(call);
               args.target_logprobs = logprobs.at<float>(call);
               args.top_tokens = top_tokens.at<int32_t>(call);
               args.top_logprobs = top_logprobs.at<float>(call);
               timer.device().Logprobs(args);
             });
}

void TimeMarkPrompt(KernelTimer& timer, int32_t rows) {
  MarkPromptArgs args = {.rows = rows, .vocab = kVocab};
  // A token, a slot, and a word of the table read and written.
  const int64_t bytes = int64_t{rows} * 16;
  const Rotation rotation(timer.device(), int64_t{kVocab} * 4);
  const Ring tokens = rotation.Same(Counting(rows));
  const Ring slots = rotation.Same(std::vector<int32_t>(rows, 0));
  const Ring counts = rotation.Empty(int64_t{kVocab} * 4);
  timer.Time({"token_counts", Format("%lld", rows), bytes}, [&](int64_t call) {
    args.tokens = tokens.at<int32_t>(call);
    args.slots = slots.at<int32_t>(call);
    args.counts = counts.at<uint32_t>(call);
    timer.device().MarkPrompt(args);
  });
}

}  // namespace sluice
