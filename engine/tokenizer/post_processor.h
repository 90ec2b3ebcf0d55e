// What is put around the tokens of a text.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sluice {

// TemplateProcessing for one sequence, ByteLevel (which is about offsets, so nothing), and
// Sequences of them. Immutable.
class PostProcessor {
 public:
  // `value` is the file's "post_processor", null included.
  static absl::StatusOr<PostProcessor> Parse(const nlohmann::json& value, const std::string& path);

  // Puts these tokens before and behind a text's.
  static PostProcessor Around(std::vector<int32_t> before, std::vector<int32_t> behind);

  std::vector<int32_t> Apply(std::vector<int32_t> tokens, bool add_special_tokens) const;

  // Every token that Apply may add.
  std::vector<int32_t> AddedTokens() const;

 private:
  // Special tokens, or the sequence itself.
  struct Item {
    bool is_sequence;
    std::vector<int32_t> tokens;
  };
  using Template = std::vector<Item>;
  using SpecialTokens = absl::flat_hash_map<std::string, std::vector<int32_t>>;

  absl::Status ParseInto(const nlohmann::json& value, const std::string& path);
  static absl::StatusOr<SpecialTokens> ParseSpecialTokens(const nlohmann::json& value,
                                                          const std::string& path);
  static absl::StatusOr<Item> ParseItem(const nlohmann::json& value, const std::string& path,
                                        const SpecialTokens& special_tokens);

  std::vector<Template> templates_;
};

}  // namespace sluice
