#include "engine/batch.h"

#include <algorithm>

#include "kernels/check.h"

namespace sluice {

void Batch::AddDecode(int32_t token, int32_t slot, int32_t position) {
  SLUICE_CHECK(segments.empty() && position >= 0);
  tokens.push_back(token);
  positions.push_back(position);
  decode_slots.push_back(slot);
}

void Batch::AddSegment(const int32_t* tokens_begin, int32_t length, int32_t slot,
                       int32_t position) {
  SLUICE_CHECK(length > 0 && position >= 0);
  const auto index = static_cast<int32_t>(segments.size());
  segments.push_back({rows(), length, slot, position, static_cast<int32_t>(chunks.size())});
  for (int32_t done = 0; done < length;) {
    const int32_t to_grid = kChunk - (position + done) % kChunk;
    const int32_t take = std::min(to_grid, length - done);
    chunks.push_back({index, rows() + done, take});
    done += take;
  }
  tokens.insert(tokens.end(), tokens_begin, tokens_begin + length);
  for (int32_t i = 0; i < length; ++i) positions.push_back(position + i);
}

}  // namespace sluice
