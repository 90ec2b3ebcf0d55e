// A whole model directory of random weights, small enough to be written for each test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "engine/engine_config.h"
#include "tests/engine/safetensors_writer.h"

namespace sluice {

struct TinyModelOptions {
  int32_t hidden_size = 64;
  int32_t num_layers = 2;
  int32_t num_heads = 2;
  int32_t num_kv_heads = 2;
  bool use_short_conv = false;
  // Of the embedding and head: larger makes the next token more certain.
  float head_scale = 0.3F;
  // Whether the matrices that an engine may keep as float8 hold numbers that are that already.
  bool float8 = false;
  uint64_t seed = 1;
};

// Byte-level: ids 0..255 are the bytes, 256 is the end-of-text token.
class TinyModel {
 public:
  static constexpr int32_t kVocab = 264;
  static constexpr int32_t kEos = 256;

  explicit TinyModel(const TinyModelOptions& options = {});

  const std::filesystem::path& path() const { return directory_.path(); }
  const ScratchDirectory& directory() const { return directory_; }

 private:
  ScratchDirectory directory_;
};

// Serves such a model on the CPU in float32, with 8 slots and steps of 256 tokens.
EngineConfig TinyConfig(const std::filesystem::path& model);

// tokenizer.json of the byte-level tokenizer above.
std::string ByteTokenizerJson();

}  // namespace sluice
