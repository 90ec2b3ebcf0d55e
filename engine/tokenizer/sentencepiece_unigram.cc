#include <algorithm>
#include <cfloat>
#include <optional>
#include <utility>

#include "engine/tokenizer/sentencepiece_segmenter.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

using Type = SentencePieceFile::Type;

// How much less likely than the least likely piece an unknown character is.
constexpr float kUnknownPenalty = 10;

class UnigramSegmenter : public SentencePieceSegmenter {
 public:
  explicit UnigramSegmenter(const SentencePieceFile& file) {
    float lowest = FLT_MAX;
    float highest = FLT_MIN;  // not the lowest there is, as in SentencePiece
    std::vector<std::pair<std::string_view, int32_t>> strings;
    for (size_t i = 0; i < file.pieces.size(); ++i) {
      const SentencePieceFile::Piece& piece = file.pieces[i];
      scores_.push_back(piece.score);
      user_defined_.push_back(piece.type == Type::kUserDefined);
      if (piece.type == Type::kNormal) {
        lowest = std::min(lowest, piece.score);
        highest = std::max(highest, piece.score);
      }
      if (piece.type == Type::kNormal || piece.type == Type::kUserDefined) {
        strings.emplace_back(piece.text, static_cast<int32_t>(i));
      }
    }
    unknown_score_ = lowest - kUnknownPenalty;
    highest_score_ = highest;
    trie_ = ByteTrie(std::move(strings));
  }

  void Cut(std::string_view text, std::vector<Segment>* segments) const override {
    std::vector<Ending> best(text.size() + 1);
    for (size_t begin = 0; begin < text.size();) {
      const size_t character = Utf8At(text, begin).bytes;
      const float score = best[begin].score;
      bool is_known = false;
      std::optional<uint32_t> node = ByteTrie::kRoot;
      for (size_t end = begin; end < text.size();) {
        node = trie_.Next(*node, text[end++]);
        if (!node.has_value()) break;
        const int32_t id = trie_.Value(*node);
        if (id == ByteTrie::kNone) continue;
        is_known |= end - begin == character;
        Improve(ScoreOf(id, end - begin) + score, begin, id, &best[end]);
      }
      if (!is_known) {
        Improve(unknown_score_ + score, begin, kUnknown, &best[begin + character]);
      }
      begin += character;
    }
    const size_t first = segments->size();
    for (size_t end = text.size(); end > 0; end = best[end].begin) {
      segments->push_back({text.substr(best[end].begin, end - best[end].begin), best[end].id});
    }
    std::reverse(segments->begin() + static_cast<std::ptrdiff_t>(first), segments->end());
  }

 private:
  // The best way to a place in the text.
  struct Ending {
    float score = 0;
    int32_t begin = -1;  // of its last piece
    int32_t id = kUnknown;
  };

  // A user-defined piece beats all that other ones can make of the same text.
  float ScoreOf(int32_t id, size_t bytes) const {
    if (!user_defined_[id]) return scores_[id];
    return static_cast<float>(static_cast<double>(static_cast<float>(bytes) * highest_score_) -
                              0.1);
  }

  static void Improve(float score, size_t begin, int32_t id, Ending* ending) {
    if (ending->begin >= 0 && score <= ending->score) return;
    *ending = {score, static_cast<int32_t>(begin), id};
  }

  std::vector<float> scores_;
  std::vector<bool> user_defined_;
  float unknown_score_ = 0;
  float highest_score_ = 0;
  ByteTrie trie_;
};

}  // namespace

std::unique_ptr<const SentencePieceSegmenter> MakeUnigramSegmenter(const SentencePieceFile& file) {
  return std::make_unique<UnigramSegmenter>(file);
}

}  // namespace sluice
