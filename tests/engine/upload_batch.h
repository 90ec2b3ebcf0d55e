// A batch that a test made up, as a step of the engine gives it to a model.
#pragma once

#include <cstdint>

#include "engine/batch.h"
#include "engine/upload_arena.h"

namespace sluice {

constexpr int64_t kBatchBytes = int64_t{1} << 16;  // of an arena that holds any batch of a test

// What it points to is in the arena's memory, on the arena's device, until the arena begins anew.
inline BatchView UploadBatch(const Batch& batch, UploadArena* arena) {
  arena->Begin();
  const BatchView view = {.rows = batch.rows(),
                          .decode_rows = static_cast<int32_t>(batch.decode_slots.size()),
                          .segment_count = static_cast<int32_t>(batch.segments.size()),
                          .chunk_count = static_cast<int32_t>(batch.chunks.size()),
                          .tokens = arena->Add(batch.tokens),
                          .positions = arena->Add(batch.positions),
                          .decode_slots = arena->Add(batch.decode_slots),
                          .segments = arena->Add(batch.segments),
                          .chunks = arena->Add(batch.chunks)};
  arena->Upload();
  return view;
}

}  // namespace sluice
