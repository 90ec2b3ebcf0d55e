#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/sentencepiece_segmenter.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

using Segment = SentencePieceSegmenter::Segment;

constexpr int32_t kEnd = -1;  // of the chain of symbols

// A text repeats its words, so that what a short one gave is looked up when it comes again.
constexpr size_t kShortBytes = 64;
constexpr size_t kMaxRemembered = 1 << 16;

uint64_t CharacterKey(char32_t left, char32_t right) {
  return static_cast<uint64_t>(left) << 32 | right;
}

absl::string_view Key(std::string_view text) { return {text.data(), text.size()}; }

struct Symbol {
  std::string_view text;  // empty once merged into its left neighbour
  int32_t previous;
  int32_t next;
};

struct Candidate {
  float score;
  int32_t left;
  int32_t right;
  size_t bytes;  // of both, to see whether they still are what they were

  bool operator<(const Candidate& other) const {
    return score != other.score ? score < other.score : left > other.left;
  }
};

class BpeSegmenter : public SentencePieceSegmenter {
 public:
  BpeSegmenter(const SentencePieceFile& file, const ByteTrie& user_defined)
      : user_defined_(user_defined) {
    using Type = SentencePieceFile::Type;
    for (size_t i = 0; i < file.pieces.size(); ++i) {
      const SentencePieceFile::Piece& piece = file.pieces[i];
      if (piece.type != Type::kNormal && piece.type != Type::kUserDefined) continue;
      pieces_.emplace(piece.text, Scored{piece.score, static_cast<int32_t>(i)});
      NoteNeighbours(piece.text);
    }
  }

  void Cut(std::string_view text, std::vector<Segment>* segments) const override {
    Scratch scratch;
    size_t word = 0;  // where the word begins that goes up to `at`
    char32_t left = 0;
    for (size_t at = 0; at < text.size();) {
      const ByteTrie::Match whole = user_defined_.Longest(text.substr(at));
      const Utf8Char right = Utf8At(text, at);
      const bool ends =
          whole.bytes > 0 || !neighbours_.contains(CharacterKey(left, right.code_point));
      if (ends && at > word) {
        CutWord(text.substr(word, at - word), &scratch, segments);
        word = at;
      }
      left = right.code_point;
      at += right.bytes;
      if (whole.bytes == 0) continue;
      at = word + whole.bytes;
      segments->push_back({text.substr(word, whole.bytes), IdOf(text.substr(word, whole.bytes))});
      word = at;
    }
    if (word < text.size()) CutWord(text.substr(word), &scratch, segments);
  }

 private:
  struct Scored {
    float score;
    int32_t id;
  };

  // What one call of Cut works in.
  struct Scratch {
    std::vector<Symbol> symbols;
    std::vector<Candidate> queue;
    // Where the segments of short words begin and end in the list that is filled.
    absl::flat_hash_map<absl::string_view, std::pair<size_t, size_t>> memory;
  };

  // No piece goes across two characters that are neighbours in none, so that merges on the two
  // sides are independent of each other.
  void NoteNeighbours(std::string_view piece) {
    Utf8Char left = Utf8At(piece, 0);
    for (size_t at = left.bytes; at < piece.size();) {
      const Utf8Char right = Utf8At(piece, at);
      neighbours_.insert(CharacterKey(left.code_point, right.code_point));
      left = right;
      at += right.bytes;
    }
  }

  int32_t IdOf(std::string_view text) const {
    const auto found = pieces_.find(Key(text));
    return found == pieces_.end() ? kUnknown : found->second.id;
  }

  void CutWord(std::string_view word, Scratch* scratch, std::vector<Segment>* segments) const {
    const bool is_short = word.size() <= kShortBytes;
    const auto known = is_short ? scratch->memory.find(Key(word)) : scratch->memory.end();
    if (known != scratch->memory.end()) {
      for (size_t i = known->second.first; i < known->second.second; ++i) {
        const Segment segment = (*segments)[i];
        segments->push_back(segment);
      }
      return;
    }
    const size_t begin = segments->size();
    scratch->symbols.clear();
    for (size_t at = 0; at < word.size();) {
      const size_t bytes = Utf8At(word, at).bytes;
      const auto index = static_cast<int32_t>(scratch->symbols.size());
      at += bytes;
      scratch->symbols.push_back(
          {word.substr(at - bytes, bytes), index - 1, at < word.size() ? index + 1 : kEnd});
    }
    MergeAll(scratch);
    for (int32_t i = 0; i != kEnd; i = scratch->symbols[i].next) {
      segments->push_back({scratch->symbols[i].text, IdOf(scratch->symbols[i].text)});
    }
    if (is_short && scratch->memory.size() < kMaxRemembered) {
      scratch->memory.emplace(Key(word), std::make_pair(begin, segments->size()));
    }
  }

  static std::string_view Joined(const Symbol& left, const Symbol& right) {
    return {left.text.data(), left.text.size() + right.text.size()};
  }

  void Propose(int32_t left, Scratch* scratch) const {
    if (left == kEnd || scratch->symbols[left].next == kEnd) return;
    const int32_t right = scratch->symbols[left].next;
    const std::string_view joined = Joined(scratch->symbols[left], scratch->symbols[right]);
    const auto found = pieces_.find(Key(joined));
    if (found == pieces_.end()) return;
    scratch->queue.push_back({found->second.score, left, right, joined.size()});
    std::push_heap(scratch->queue.begin(), scratch->queue.end());
  }

  void MergeAll(Scratch* scratch) const {
    std::vector<Symbol>& symbols = scratch->symbols;
    for (size_t i = 0; i < symbols.size(); ++i) Propose(static_cast<int32_t>(i), scratch);
    while (!scratch->queue.empty()) {
      const Candidate top = scratch->queue.front();
      std::pop_heap(scratch->queue.begin(), scratch->queue.end());
      scratch->queue.pop_back();
      Symbol& left = symbols[top.left];
      Symbol& right = symbols[top.right];
      const bool merged = left.text.empty() || right.text.empty();
      if (merged || left.text.size() + right.text.size() != top.bytes) continue;
      left.text = Joined(left, right);
      left.next = right.next;
      right.text = {};
      if (left.next != kEnd) symbols[left.next].previous = top.left;
      Propose(left.previous, scratch);
      Propose(top.left, scratch);
    }
  }

  absl::flat_hash_map<std::string, Scored> pieces_;
  absl::flat_hash_set<uint64_t> neighbours_;
  const ByteTrie& user_defined_;
};

}  // namespace

std::unique_ptr<const SentencePieceSegmenter> MakeBpeSegmenter(const SentencePieceFile& file,
                                                               const ByteTrie& user_defined) {
  return std::make_unique<BpeSegmenter>(file, user_defined);
}

}  // namespace sluice
