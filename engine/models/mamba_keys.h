// The keys that both generations of Mamba share, in both of their formats.
//
// transformers and flash-linear-attention (fla) both write "mamba" and "mamba2" as model_type, and
// the same tensors; their keys and defaults differ. Both always write the norms' epsilon, each by a
// name of its own: it tells whose file it is. A file without it, which neither has written, is
// fla's if it has another key that only fla has, and otherwise one of transformers.
//
// Every function keeps its first error in the reader and gives values within limits all the same.
//
// Source: configuration_mamba.py and configuration_mamba2.py of transformers (5.23) and fla
// (0.6.0); older files of either have keys of both, such as fla's time_step_rank.
#pragma once

#include <cstdint>

#include "engine/json.h"

namespace sluice {

constexpr int64_t kMaxMambaInnerSize = 32768;

enum class MambaFormat : uint8_t { kTransformers, kFla };

// Refuses a file with both names of the epsilon.
MambaFormat ReadMambaFormat(JsonReader& reader);

// What a configuration class has for keys that are absent, and its idea of the inner size.
struct MambaDefaults {
  int64_t hidden_size;
  int64_t num_layers;
  int64_t vocab_size;
  bool tie_word_embeddings;
  int32_t bos_token_id;
  int32_t eos_token_id;
  // Whether intermediate_size is the inner size where a file has one, whatever `expand` makes.
  // Otherwise nothing looks at it.
  bool by_intermediate_size;
};

// Around the mixers, and what these have in common.
struct MambaTrunk {
  int32_t hidden_size;  // multiple of 8, 8..16384
  int32_t num_layers;   // 1..256
  int32_t vocab_size;   // 8..1,000,000
  int32_t inner_size;   // D, usually int(expand * hidden_size): multiple of 8, 8..32768
  int32_t conv_kernel;  // taps: 2..8
  float norm_eps;       // of every norm
  bool use_bias;        // of in_proj and out_proj
  bool use_conv_bias;
  bool tie_word_embeddings;
  int32_t bos_token_id;  // of the format's defaults
  int32_t eos_token_id;
};

// Reads the trunk, and ignores what changes no function: initialisation, fused kernels, the type of
// the residual stream, and keys left over from the checkpoints that files were converted from.
MambaTrunk ReadMambaTrunk(JsonReader& reader, MambaFormat format, const MambaDefaults& defaults);

// Of two names of one key, the one that is there; `name` if none is. Refuses both with different
// values.
const char* EitherKey(JsonReader& reader, const char* name, const char* other);

}  // namespace sluice
