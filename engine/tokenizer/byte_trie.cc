#include "engine/tokenizer/byte_trie.h"

#include <algorithm>
#include <cstring>

namespace sluice {

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, int32_t>> strings) {
  std::sort(strings.begin(), strings.end());
  // The strings that go through a node, which is at `depth`. Nodes are numbered breadth first.
  struct Range {
    size_t begin;
    size_t end;
    size_t depth;
  };
  std::vector<Range> level = {{0, strings.size(), 0}};
  bytes_.push_back('\0');
  while (!level.empty()) {
    std::vector<Range> next;
    for (Range range : level) {
      first_child_.push_back(static_cast<uint32_t>(bytes_.size()));
      values_.push_back(kNone);
      // The string that ends here is the first of those with this beginning.
      if (range.begin < range.end && strings[range.begin].first.size() == range.depth) {
        values_.back() = strings[range.begin++].second;
      }
      while (range.begin < range.end) {
        const char byte = strings[range.begin].first[range.depth];
        size_t end = range.begin + 1;
        while (end < range.end && strings[end].first[range.depth] == byte) ++end;
        bytes_.push_back(byte);
        next.push_back({range.begin, end, range.depth + 1});
        range.begin = end;
      }
    }
    level = std::move(next);
  }
  first_child_.push_back(static_cast<uint32_t>(bytes_.size()));
}

std::optional<uint32_t> ByteTrie::Next(uint32_t node, char byte) const {
  const uint32_t begin = first_child_[node];
  const uint32_t count = first_child_[node + 1] - begin;
  if (count == 0) return std::nullopt;
  const char* bytes = bytes_.data() + begin;
  const void* found = std::memchr(bytes, static_cast<unsigned char>(byte), count);
  if (found == nullptr) return std::nullopt;
  return begin + static_cast<uint32_t>(static_cast<const char*>(found) - bytes);
}

ByteTrie::Match ByteTrie::Longest(std::string_view text) const {
  Match longest{0, kNone};
  std::optional<uint32_t> node = kRoot;
  for (size_t i = 0; i < text.size(); ++i) {
    node = Next(*node, text[i]);
    if (!node.has_value()) break;
    if (values_[*node] != kNone) longest = {i + 1, values_[*node]};
  }
  return longest;
}

int32_t ByteTrie::Find(std::string_view text) const {
  std::optional<uint32_t> node = kRoot;
  for (const char byte : text) {
    node = Next(*node, byte);
    if (!node.has_value()) return kNone;
  }
  return values_[*node];
}

}  // namespace sluice
