// The two ends of GatedChunkCpu over a state that is not float32 alone (unpacked_states.h).
#pragma once

#include "kernels/thread_pool.h"
#include "kernels/unpacked_states.h"

namespace sluice {

// Makes the table of segments and the states that they begin with.
void UnpackStatesCpu(const GatedChunkArgs& packed, const UnpackedChunk& unpacked, ThreadPool& pool);
// Rounds the states that they end with into their slots, and empties the rings there.
void PackStatesCpu(const UnpackedChunk& unpacked, const GatedChunkArgs& packed, ThreadPool& pool);

}  // namespace sluice
