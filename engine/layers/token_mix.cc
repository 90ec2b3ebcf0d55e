#include "engine/layers/token_mix.h"

#include <utility>

namespace sluice {

TokenMix::TokenMix(int32_t hidden_size, std::string name, StateLayout* state)
    : hidden_size_(hidden_size), offset_(state->Add(std::move(name), hidden_size)) {}

void TokenMix::Shift(const Compute& compute, const SublayerContext& context, const float* mu,
                     int32_t count, std::byte* mixed, std::byte* delta) const {
  const BatchView& batch = context.batch;
  compute.device->TokenShift({.dtype = compute.act,
                              .dim = hidden_size_,
                              .decode_rows = batch.decode_rows,
                              .slots = batch.decode_slots,
                              .segment_count = batch.segment_count,
                              .segments = batch.segments,
                              .rows = batch.rows,
                              .x = context.normed,
                              .x_stride = hidden_size_,
                              .last = context.states + offset_,
                              .slot_stride = context.slot_stride,
                              .delta = delta,
                              .mixes = count,
                              .mu = mu,
                              .mixed = mixed});
}

void TokenMix::Mix(const Compute& compute, const SublayerContext& context, const std::byte* delta,
                   const float* mu, int32_t count, std::byte* mixed) const {
  const int64_t step = int64_t{context.batch.rows} * hidden_size_;
  compute.device->Lerp({.dtype = compute.act,
                        .rows = context.batch.rows,
                        .dim = hidden_size_,
                        .x = context.normed,
                        .x_stride = hidden_size_,
                        .delta = delta,
                        .mu = mu,
                        .mix = mixed,
                        .mix_stride = hidden_size_,
                        .y = mixed,
                        .y_stride = hidden_size_,
                        .count = count,
                        .mix_step = step,
                        .y_step = step});
}

}  // namespace sluice
