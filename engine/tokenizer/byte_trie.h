// A set of strings of bytes, with a number for each, that finds which of them begin a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice {

// Takes 9 bytes a node. Immutable.
class ByteTrie {
 public:
  struct Match {
    size_t bytes;   // 0 for none
    int32_t value;  // kNone for none
  };

  static constexpr int32_t kNone = -1;
  static constexpr uint32_t kRoot = 0;

  ByteTrie() : ByteTrie(std::vector<std::pair<std::string_view, int32_t>>()) {}

  // Strings are different and not empty, 2^31 bytes in all at most; values are not negative.
  explicit ByteTrie(std::vector<std::pair<std::string_view, int32_t>> strings);

  // The node behind `byte`; none when no string goes on so.
  std::optional<uint32_t> Next(uint32_t node, char byte) const;

  // The value of the string that ends in the node, or kNone.
  int32_t Value(uint32_t node) const { return values_[node]; }

  // The longest string that `text` begins with.
  Match Longest(std::string_view text) const;

  // The value of `text` itself, or kNone.
  int32_t Find(std::string_view text) const;

 private:
  // By node. Children of a node are neighbours, so that those of node n are the nodes from
  // first_child_[n] up to first_child_[n + 1].
  std::vector<uint32_t> first_child_;
  std::vector<int32_t> values_;
  std::vector<char> bytes_;  // that leads to the node
};

}  // namespace sluice
