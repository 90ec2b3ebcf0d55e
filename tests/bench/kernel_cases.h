// The cases of kernels_bench: an op at sizes that the caller gives, timed into a row of the table.
#pragma once

#include <cstdint>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "tests/bench/kernel_timer.h"

namespace sluice {

constexpr int32_t kVocab = 32000;

inline std::string Format(const char* format, int64_t a, int64_t b = 0, int64_t c = 0) {
  char text[128];
  std::snprintf(text, sizeof(text), format, static_cast<long long>(a), static_cast<long long>(b),
                static_cast<long long>(c));
  return text;
}

inline DType Activations(KernelTimer& timer) {
  return timer.device().ActivationType(DType::kBFloat16);
}

inline std::vector<int32_t> Counting(int32_t count) {
  std::vector<int32_t> values(count);
  std::iota(values.begin(), values.end(), 0);
  return values;
}

// Products: kernel_products.cc.
void TimeLinear(KernelTimer& timer, int32_t rows, int32_t in_dim, int32_t out_dim, DType y_dtype,
                DType weight_dtype = DType::kBFloat16);
// One product a head or a branch: x and y of a row side by side.
void TimeLinearBatch(KernelTimer& timer, int32_t batch, int32_t rows, int32_t in_dim,
                     int32_t out_dim);

// Recurrences, and the others that keep a state: kernel_recurrences.cc. `decode_rows` sequences of
// one token, and one of `length` tokens unless that is 0.
void TimeShortConv(KernelTimer& timer, int32_t channels, int32_t decode_rows, int32_t length);
void TimeMlstmGates(KernelTimer& timer, int32_t heads, int32_t decode_rows, int32_t length);
// Without mixes the difference, else these alone.
void TimeTokenShift(KernelTimer& timer, int32_t dim, int32_t decode_rows, int32_t length,
                    int32_t mixes);

// A mixer to time: the sizes of some model, and what its recurrence can do.
struct Mixer {
  std::string name;
  GatedShape shape;  // dtype and scale follow from the device and the keys
  bool input_scale = false;
};

void TimeGatedStep(KernelTimer& timer, const Mixer& m, int32_t rows);
// With a forget gate of rank 16 before it and a gated norm after it.
void TimeGatedStepWithParts(KernelTimer& timer, const Mixer& m, int32_t rows);
// Over states of another format; with a ring, the mean of a step over the ring's whole cycle.
void TimeGatedReplay(KernelTimer& timer, const Mixer& m, const StateFormat& format, int32_t rows);
void TimeGatedChunk(KernelTimer& timer, const Mixer& m, int32_t sequences, int32_t length);
// Mamba-1.4B: `decode_rows` sequences of one token, or `sequences` of `length`.
void TimeSelectiveScan(KernelTimer& timer, int32_t decode_rows, int32_t sequences, int32_t length);

// Row by row: kernel_rows.cc.
enum class NormKind { kPlain, kGated, kLayer, kGateFirst };
void TimeGatherRows(KernelTimer& timer, int32_t rows, int32_t dim);
void TimeNorm(KernelTimer& timer, NormKind kind, int32_t rows, int32_t groups, int32_t dim);
void TimeLogGate(KernelTimer& timer, int32_t rows, int32_t dim);
// A vector gate if there is one channel a key, else one of a few heads.
void TimeDecay(KernelTimer& timer, DecayFormula formula, const char* name, int32_t rows,
               int32_t dim);
void TimeNormalizer(KernelTimer& timer, int32_t rows, int32_t heads, int32_t dim);
void TimeFeatureMap(KernelTimer& timer, FeatureMapKind kind, const char* name, int32_t heads,
                    int32_t dim);
void TimeActivate(KernelTimer& timer, int32_t rows, int32_t cols);
void TimeGatedUnit(KernelTimer& timer, int32_t rows, int32_t dim);
void TimeRotary(KernelTimer& timer, int32_t rows, int32_t heads, int32_t dim);
void TimeLerp(KernelTimer& timer, int32_t rows, int32_t dim, int32_t mixes);

// Logits: kernel_sampling.cc.
void TimeSample(KernelTimer& timer, int32_t rows, const std::string& name, SampleParams params);
void TimeLogprobs(KernelTimer& timer, int32_t rows, int32_t top_n);
void TimeMarkPrompt(KernelTimer& timer, int32_t rows);

}  // namespace sluice
