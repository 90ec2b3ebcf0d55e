// Cuts a text into the pieces that the model merges within.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/metaspace.h"
#include "engine/tokenizer/pattern.h"
#include "engine/tokenizer/pieces.h"

namespace sluice {

// ByteLevel, Metaspace, Split, Digits, and Sequences of them. Immutable.
class PreTokenizer {
 public:
  // `value` is the file's "pre_tokenizer", null included. `normalizer_keeps_start` is
  // Normalizer::keeps_start: without it, Metaspace cannot tell the start of the text.
  static absl::StatusOr<PreTokenizer> Parse(const nlohmann::json& value, const std::string& path,
                                            bool normalizer_keeps_start);

  // ResourceExhausted as Regex::FindAll.
  absl::Status Apply(MatchDeadline deadline, Pieces* pieces) const;

 private:
  // What becomes of the matches that a text is split at.
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Kind { kByteLevel, kMetaspace, kSplit, kDigits };

  struct Step {
    Kind kind;
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;            // Split: what does not match is the match
    bool add_prefix_space = false;  // ByteLevel
    bool use_pattern = true;        // ByteLevel, Metaspace: whether to split at all
    Metaspace metaspace{};          // Metaspace
    Pattern pattern{};              // all but Digits
  };

  struct Part {
    TextRange range;
    bool is_match;
  };

  // Of one text; kept from text to text, since there are many and most are short.
  struct Parts {
    std::vector<Part> parts;
    std::vector<TextRange> matches;
  };

  absl::Status ParseInto(const nlohmann::json& value, const std::string& path);
  absl::Status ParseSequence(const nlohmann::json& list, const std::string& path);
  absl::Status ParseByteLevel(const nlohmann::json& value, const std::string& path);
  absl::Status ParseMetaspaceStep(const nlohmann::json& value, const std::string& path);
  absl::Status ParseSplit(const nlohmann::json& value, const std::string& path);
  absl::Status ParseDigits(const nlohmann::json& value, const std::string& path);

  static absl::Status Cut(const Step& step, MatchDeadline deadline, Pieces* pieces);
  static absl::Status RewriteAndCut(const Step& step, MatchDeadline deadline, Pieces* pieces);
  static std::string Rewritten(const Step& step, std::string_view text, bool at_start);
  static absl::Status FindParts(const Step& step, std::string_view text, MatchDeadline deadline,
                                Parts* parts);
  static void MergeParts(Behavior behavior, std::vector<Part>* parts);

  std::vector<Step> steps_;
  bool start_is_known_ = true;  // while parsing: whether at_start of the pieces can be relied on
};

}  // namespace sluice
