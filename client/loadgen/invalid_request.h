// Requests that a server has to refuse.
#pragma once

#include <string>

#include "client/loadgen/random_stream.h"
#include "sluice/v1/generation.pb.h"

namespace sluice {

// Puts one field of a valid request outside the range that proto/sluice/v1/generation.proto states.
// Returns the field's name.
std::string MakeInvalid(RandomStream* random, v1::GenerateRequest* message);

}  // namespace sluice
