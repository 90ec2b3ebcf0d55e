// Byte pair encoding: a piece of text is cut into characters, then neighbours are merged.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice {

class JsonReader;

// Vocabulary and merges of a file's "model". Immutable.
class BpeModel {
 public:
  // Ids of a file are at most this, which bounds the memory that a small file can ask for.
  static constexpr int32_t kMaxId = 1 << 24;

  static absl::StatusOr<BpeModel> Parse(const nlohmann::json& value, const std::string& path);

  // What Encode works in: one for each text, since it remembers what that text's words gave.
  struct Scratch {
    struct Symbol {
      int32_t token;  // kRemoved once merged into its left neighbour
      int32_t previous;
      int32_t next;
    };
    struct Candidate {
      uint64_t order;  // the merge's rank, then its position: the lowest is done first
      int32_t token;   // that the merge makes
      bool operator>(const Candidate& other) const { return order > other.order; }
    };
    struct Tokens {  // a range of the tokens that were appended before
      size_t begin;
      size_t end;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> queue;
    absl::flat_hash_map<absl::string_view, Tokens> memory;  // of short texts, into the pieces
  };

  // Appends the tokens of `piece`: valid UTF-8 of less than 2^31 bytes, not empty, which outlives
  // `scratch`, as `tokens` does. O(n log n).
  void Encode(std::string_view piece, Scratch* scratch, std::vector<int32_t>* tokens) const;

  const absl::flat_hash_map<std::string, int32_t>& vocab() const { return vocab_; }

 private:
  struct Merge {
    uint32_t rank;
    int32_t token;
  };

  absl::Status ParseVocab(const nlohmann::json& value, const std::string& path);
  absl::Status ParseMerges(const nlohmann::json& value, const std::string& path);
  absl::Status ParseUnknown(JsonReader* reader);
  absl::Status AddMerge(const std::pair<std::string, std::string>& pair, const std::string& path);
  void IndexCharacters();

  void EncodeWord(std::string_view text, Scratch* scratch, std::vector<int32_t>* tokens) const;
  void EncodeByMerges(std::string_view text, Scratch* scratch, std::vector<int32_t>* tokens) const;
  size_t EndOfWord(std::string_view piece, size_t begin) const;
  int32_t TokenOfCharacter(char32_t code_point) const;
  void Split(std::string_view piece, Scratch* scratch) const;
  bool FallBackToBytes(std::string_view character, Scratch* scratch) const;
  void MergeAll(Scratch* scratch) const;
  void Propose(int32_t left, Scratch* scratch) const;

  absl::flat_hash_map<std::string, int32_t> vocab_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by left token << 32 | right token
  // Characters that some merge joins: left << 32 | right. No token goes across any others.
  absl::flat_hash_set<uint64_t> joined_;
  int32_t merge_count_ = 0;
  absl::flat_hash_map<char32_t, int32_t> characters_;
  std::vector<int32_t> low_characters_;  // the same below U+0800, without hashing
  std::array<int32_t, 256> bytes_{};     // of "<0x00>" to "<0xFF>"
  std::optional<int32_t> unknown_;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
};

}  // namespace sluice
