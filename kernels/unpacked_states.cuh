// The two ends of GatedChunkCuda over a state that is not float32 alone (unpacked_states.h).
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/unpacked_states.h"

namespace sluice {

// Makes the table of segments and the states that they begin with.
void UnpackStatesCuda(const GatedChunkArgs& packed, const UnpackedChunk& unpacked,
                      cudaStream_t stream);
// Rounds the states that they end with into their slots, and empties the rings there.
void PackStatesCuda(const UnpackedChunk& unpacked, const GatedChunkArgs& packed,
                    cudaStream_t stream);

}  // namespace sluice
