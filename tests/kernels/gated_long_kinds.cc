#include <algorithm>
#include <cmath>
#include <cstddef>

#include "tests/kernels/gated_long_run.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/log_gate_ref.h"

namespace sluice {
namespace {

std::vector<float> Gates(Random& random, int64_t count, double low, double high,
                         const std::function<double(double)>& gate) {
  std::vector<float> values = random.Uniforms(count, low, high);
  for (float& value : values) value = static_cast<float>(gate(value));
  return values;
}

int64_t GateCount(const GatedShape& s) { return kLongBlock * kLongRows * s.GateCols(); }

// Feature maps give what is positive.
void MakePositive(const GatedShape& s, GatedBlock* block) {
  for (std::vector<float>* x : {&block->q, &block->k}) {
    for (float& value : *x) value = std::abs(value);
    *x = Rounded(*x, s.dtype);
  }
}

void DrawGla(const GatedShape& s, Random& random, GatedBlock* block) {
  block->log_decay =
      Gates(random, GateCount(s), -3, 3, [](double z) { return ref::LogSigmoid(z) / 16; });
}

// Forget gates from nearly none to nearly one, and keys that are what they leave free.
void DrawHgrn2(const GatedShape& s, Random& random, GatedBlock* block) {
  block->log_decay =
      Gates(random, GateCount(s), -6, 10, [](double z) { return ref::LogSigmoid(z); });
  for (size_t i = 0; i < block->k.size(); ++i) {
    block->k[i] = static_cast<float>(-std::expm1(double{block->log_decay[i]}));
  }
  block->k = Rounded(block->k, s.dtype);
}

// A token keeps from 0.9997 down to e^-7 of a channel.
void DrawRwkv6(const GatedShape& s, Random& random, GatedBlock* block) {
  block->log_decay = Gates(random, GateCount(s), -8, 2, [](double w) { return -std::exp(w); });
}

void DrawRetNet(const GatedShape& s, Random& /*random*/, GatedBlock* block) {
  for (int32_t h = 0; h < s.kv_heads; ++h) {
    block->log_decay.push_back(static_cast<float>(std::log1p(-std::exp2(-5.0 - h))));
  }
}

// Steps of 0.001 to 0.1, and a decay of 1, 2, 3, .. a head for each unit of them.
void DrawMamba2(const GatedShape& s, Random& random, GatedBlock* block) {
  block->input_scale = Gates(random, GateCount(s), std::log(0.001), std::log(0.1),
                             [](double z) { return std::exp(z); });
  for (size_t i = 0; i < block->input_scale.size(); ++i) {
    const auto head = static_cast<float>(i % s.kv_heads);
    block->log_decay.push_back(-block->input_scale[i] * (1 + 5 * head));
  }
}

void DrawGatedRfa(const GatedShape& s, Random& random, GatedBlock* block) {
  MakePositive(s, block);
  block->log_decay = Gates(random, GateCount(s), 0, 8, [](double z) { return ref::LogSigmoid(z); });
  for (const float g : block->log_decay) {
    block->input_scale.push_back(static_cast<float>(-std::expm1(double{g})));
  }
}

void DrawFastWeights(const GatedShape& s, Random& random, GatedBlock* block) {
  const auto gate = [](double z) { return ref::LogSigmoid(z); };
  block->log_decay = Gates(random, GateCount(s), -2, 8, gate);
  block->value_log_decay =
      Gates(random, kLongBlock * kLongRows * s.kv_heads * s.value_dim, -2, 8, gate);
}

void DrawMlstm(const GatedShape& s, Random& random, GatedBlock* block) {
  const int64_t count = kLongBlock * kLongRows * s.kv_heads;
  block->input = Rounded(random.Uniforms(count, -10, 2), s.dtype);
  block->forget = Rounded(random.Uniforms(count, 0, 10), s.dtype);
}

}  // namespace

// Bounds are about three times the larger of the errors on the CPU and on a GPU, as the table in
// kernels/README.md has them: 2.8 to 3.4 times in float32, 2.3 to 3 times for bfloat16 outputs.
std::vector<GatedLongKind> GatedLongKinds() {
  constexpr DType kAny = DType::kFloat32;
  constexpr ReadKind kInclusive = ReadKind::kInclusive;
  constexpr ReadKind kExclusive = ReadKind::kExclusive;
  const auto none = [](const GatedShape&, Random&, GatedBlock*) {};
  const auto positive = [](const GatedShape& s, Random&, GatedBlock* block) {
    MakePositive(s, block);
  };
  return {
      {"gla", {kAny, 4, 2, 32, 32, 0.18F}, LongNormalizer::kNone, 5e-7, 4e-3, DrawGla},
      {"hgrn2", {kAny, 2, 2, 32, 16, 0.18F}, LongNormalizer::kNone, 4e-7, 4e-3, DrawHgrn2},
      {"rwkv6",
       {kAny, 2, 2, 32, 32, 1, GateKind::kVector, false, kExclusive},
       LongNormalizer::kNone,
       4e-7,
       4e-3,
       DrawRwkv6},
      {"retnet",
       {kAny, 2, 2, 32, 64, 0.18F, GateKind::kConstant},
       LongNormalizer::kNone,
       2.4e-6,
       4e-3,
       DrawRetNet},
      {"gated_retnet",
       {kAny, 2, 2, 32, 32, 0.18F, GateKind::kScalar},
       LongNormalizer::kNone,
       5e-7,
       4e-3,
       DrawGla},
      {"mamba2",
       {kAny, 4, 4, 48, 16, 1, GateKind::kScalar, false, kInclusive, 2},
       LongNormalizer::kNone,
       7e-7,
       4e-3,
       DrawMamba2},
      {"linear_attn",
       {kAny, 2, 2, 32, 32, 0.18F, GateKind::kNone},
       LongNormalizer::kNone,
       1.8e-5,
       4e-3,
       none},
      {"linear_attn, normaliser",
       {kAny, 2, 2, 32, 32, 0.18F, GateKind::kNone},
       LongNormalizer::kSum,
       1.6e-5,
       8e-3,
       positive},
      {"gated_rfa, normaliser",
       {kAny, 2, 2, 32, 16, 1, GateKind::kScalar},
       LongNormalizer::kSum,
       4e-7,
       8e-3,
       DrawGatedRfa},
      {"decaying_fast_weights",
       {kAny, 2, 2, 16, 32, 0.25F, GateKind::kVector, true},
       LongNormalizer::kNone,
       3e-7,
       4e-3,
       DrawFastWeights},
      {"xlstm, normaliser",
       {kAny, 2, 2, 16, 32, 0.25F, GateKind::kScalar},
       LongNormalizer::kMlstm,
       1.3e-6,
       7.5e-3,
       DrawMlstm},
  };
}

}  // namespace sluice
