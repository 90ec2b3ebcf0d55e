// From tokens back to text.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/utf8.h"

namespace sluice {

// One step of a file's "decoder". Each takes a list of strings and gives a list of strings.
struct DecoderStep {
  enum class Kind {
    kByteLevel,       // all strings to one, of the bytes that their characters stand for
    kByteFallback,    // runs of "<0x..>" to the text that the bytes make
    kFuse,            // all strings to one
    kReplace,         // `pattern` to `content` in each
    kMetaspace,       // `pattern` to a space in each but the first, where it is removed
    kMetaspaceNever,  // `pattern` to a space in each
    kStrip,           // up to `count` times `pattern` off the front of each
    kJoinWithSpaces,  // a file without decoder: a space between each two
    kStripStart,      // `pattern` off the front of what begins the text (SentencePiece)
    kBytes,           // all strings to one, of their bytes; broken characters become U+FFFD
    kBytesEach,       // the same with one U+FFFD for each byte
  };

  Kind kind;
  std::string pattern;  // one character for kMetaspace and kStrip
  std::string content;
  int64_t count = 0;
  bool is_fused = false;  // whether the step is given one string: an earlier one has fused
};

// The steps of a file. Immutable.
class Decoder {
 public:
  Decoder() = default;
  explicit Decoder(std::vector<DecoderStep> steps) : steps_(std::move(steps)) {}

  // `value` is the file's "decoder", null included.
  static absl::StatusOr<Decoder> Parse(const nlohmann::json& value, const std::string& path);

  const std::vector<DecoderStep>& steps() const { return steps_; }

 private:
  absl::Status ParseInto(const nlohmann::json& value, const std::string& path);

  std::vector<DecoderStep> steps_;
};

// One decoding: tokens go in one by one, text comes out as soon as no later token can change it.
// Not thread-safe; the decoder outlives it.
class DecodeRun {
 public:
  explicit DecodeRun(const Decoder* decoder);

  // Appends the text that is now certain: whole characters, always.
  void Push(std::string_view token, std::string* out);

  // Appends what is held back, and starts afresh.
  void Flush(std::string* out);

 private:
  struct State {
    bool begun = false;    // whether the step has been given a string (kStrip: has kept any of it)
    int64_t stripped = 0;  // kStrip on fused text
    std::string bytes;     // kByteFallback: the run so far
    LossyUtf8 characters;  // kByteLevel, kBytes, kBytesEach
  };

  void Reset();

  void PushTo(size_t step, std::string_view text, std::string* out);
  void PushByteLevel(size_t step, std::string_view text, std::string* out);
  void PushByteFallback(size_t step, std::string_view text, std::string* out);
  void PushReplace(size_t step, std::string_view text, std::string* out);
  void PushStrip(size_t step, std::string_view text, std::string* out);
  void PushStripStart(size_t step, std::string_view text, std::string* out);
  void PushBytes(size_t step, std::string_view bytes, std::string* out);
  void EndByteRun(size_t step, std::string* out);

  const std::vector<DecoderStep>* steps_;
  std::vector<State> states_;  // one a step
};

}  // namespace sluice
