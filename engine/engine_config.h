// What an operator decides, once, before anything is loaded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kernels/state_format.h"

namespace sluice {

constexpr int32_t kMaxStateSlots = 4096;

struct EngineConfig {
  std::filesystem::path model_dir;  // a Hugging Face model directory
  bool needs_tokenizer = true;      // false: a directory without a tokenizer serves token ids alone
  std::string model_name;           // empty: the directory's name
  std::string device = "auto";      // auto (a GPU if there is one), cpu, cuda or cuda:N
  std::string dtype = "auto";       // of weights: auto (bfloat16), bfloat16 or float32
  // What the large matrices of projections are stored as: checkpoint (as `dtype` says) or fp8, e4m3
  // with a scale a row, to which they are rounded while they are loaded; not with dtype float32.
  std::string weight_type = "checkpoint";
  // What the matrices of states are stored as: float32, float16 or int8. A selective scan's stay
  // float32. With anything else than float32 a prompt is rounded where it is split, and models
  // whose states never decay are refused.
  std::string state_type = "float32";
  // Tokens that a state is behind by before it is written, 1..32; 0: none.
  int32_t state_ring = 0;
  int32_t threads = 0;  // CPU threads, 1..1024; 0: as many as there are
  // Whether no bit of a request depends on what else is in the batch: auto (on the CPU, where it
  // costs little), true or false. Of rounded states (state_type) it never holds.
  std::string deterministic = "auto";
  int32_t state_slots = 0;  // requests that run at once, 1..4096; 0: 64 on the CPU, 256 on a GPU,
                            // or as many as fit
  int32_t max_waiting = 1024;                     // requests that wait for a slot, 0..1,000,000
  int64_t max_waiting_tokens = int64_t{1} << 22;  // of all prompts that wait for a slot, 1..2^40
  absl::Duration max_queue_time = absl::Seconds(60);  // how long a request may wait for a slot
  int32_t max_prompt_tokens = 65536;                  // 1..16,777,216
  int32_t max_output_tokens = 65536;                  // 1..16,777,216
  int64_t max_text_bytes = int64_t{1} << 20;          // 1..1 GiB
  // Prompt and decode tokens of a step, 65..65536 and at least state_slots + 64; 0: 512 on the CPU,
  // 4096 on a GPU, or what the slots need if that is more.
  int32_t max_step_tokens = 0;
  double memory_fraction = 0.9;  // of the device's free memory that may be taken, (0, 1]
  absl::Duration stall_limit = absl::Seconds(60);  // how long a client may leave its stream unread
};

// Of a valid config.
StateFormat StateFormatOf(const EngineConfig& config);
bool HasFloat8Weights(const EngineConfig& config);

// Every range above; the message names the flag and the range.
absl::Status ValidateEngineConfig(const EngineConfig& config);

}  // namespace sluice
