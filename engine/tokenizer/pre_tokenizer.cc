#include "engine/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/unicode.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void FindDigits(std::string_view text, std::vector<TextRange>* matches) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = Utf8At(text, at);
    if (IsNumeric(c.code_point)) matches->push_back({at, at + c.bytes});
    at += c.bytes;
  }
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::Parse(const nlohmann::json& value,
                                                 const std::string& path,
                                                 bool normalizer_keeps_start) {
  PreTokenizer pre_tokenizer;
  if (value.is_null()) return pre_tokenizer;
  pre_tokenizer.start_is_known_ = normalizer_keeps_start;
  SLUICE_RETURN_IF_ERROR(pre_tokenizer.ParseInto(value, path));
  return pre_tokenizer;
}

absl::Status PreTokenizer::ParseInto(const nlohmann::json& value, const std::string& path) {
  JsonReader reader(value, path);
  const std::string type = reader.String("type", "");
  if (type == "Sequence" && reader.Has("pretokenizers")) {
    const nlohmann::json& list = reader.Value("pretokenizers");
    if (!list.is_array()) reader.Refuse("pretokenizers", "it must be an array");
    SLUICE_RETURN_IF_ERROR(reader.Finish());
    return ParseSequence(list, path);
  }
  if (type == "ByteLevel") return ParseByteLevel(value, path);
  if (type == "Metaspace") return ParseMetaspaceStep(value, path);
  if (type == "Split") return ParseSplit(value, path);
  if (type == "Digits") return ParseDigits(value, path);
  reader.Refuse("type", "supported are Sequence, ByteLevel, Metaspace, Split and Digits");
  return reader.status();
}

absl::Status PreTokenizer::ParseSequence(const nlohmann::json& list, const std::string& path) {
  for (size_t i = 0; i < list.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(ParseInto(list[i], absl::StrCat(path, ".pretokenizers[", i, "]")));
  }
  return absl::OkStatus();
}

absl::Status PreTokenizer::ParseByteLevel(const nlohmann::json& value, const std::string& path) {
  JsonReader reader(value, path);
  reader.Ignore({"type"});
  Step step{.kind = Kind::kByteLevel};
  step.add_prefix_space = reader.Bool("add_prefix_space", true);
  step.use_pattern = reader.Bool("use_regex", true);
  reader.Bool("trim_offsets", true);  // about offsets, which we do not give
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  if (step.use_pattern) {
    SLUICE_ASSIGN_OR_RETURN(step.pattern, Pattern::FromRegex(kGpt2Pattern));
  }
  steps_.push_back(std::move(step));
  start_is_known_ = false;
  return absl::OkStatus();
}

absl::Status PreTokenizer::ParseMetaspaceStep(const nlohmann::json& value,
                                              const std::string& path) {
  Step step{.kind = Kind::kMetaspace, .behavior = Behavior::kMergedWithNext};
  SLUICE_ASSIGN_OR_RETURN(step.metaspace, ParseMetaspace(value, path));
  if (step.metaspace.prepend == Metaspace::Prepend::kFirst && !start_is_known_) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     ": prepend_scheme is \"first\"; it is not supported behind a step, or a "
                     "normalizer, that may move the start of the text"));
  }
  step.use_pattern = step.metaspace.split;
  SLUICE_ASSIGN_OR_RETURN(step.pattern, Pattern::Parse({{"String", step.metaspace.replacement}},
                                                       absl::StrCat(path, ".replacement")));
  steps_.push_back(std::move(step));
  start_is_known_ = false;
  return absl::OkStatus();
}

absl::Status PreTokenizer::ParseSplit(const nlohmann::json& value, const std::string& path) {
  static constexpr std::pair<std::string_view, Behavior> kBehaviors[] = {
      {"Removed", Behavior::kRemoved},
      {"Isolated", Behavior::kIsolated},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous}};
  JsonReader reader(value, path);
  reader.Ignore({"type"});
  Step step{.kind = Kind::kSplit};
  step.invert = reader.Bool("invert", false);
  const std::string behavior = reader.String("behavior", "");
  const auto* const known =
      std::find_if(std::begin(kBehaviors), std::end(kBehaviors),
                   [&](const auto& candidate) { return candidate.first == behavior; });
  if (known == std::end(kBehaviors)) {
    reader.Refuse("behavior", "it is not one of those that Hugging Face has");
  } else {
    step.behavior = known->second;
  }
  if (!reader.Has("pattern")) reader.Refuse("pattern", "it must be there");
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  SLUICE_ASSIGN_OR_RETURN(step.pattern, Pattern::Parse(reader.Value("pattern"), path + ".pattern"));
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

absl::Status PreTokenizer::ParseDigits(const nlohmann::json& value, const std::string& path) {
  JsonReader reader(value, path);
  reader.Ignore({"type"});
  Step step{.kind = Kind::kDigits};
  const bool individual = reader.Bool("individual_digits", false);
  step.behavior = individual ? Behavior::kIsolated : Behavior::kContiguous;
  steps_.push_back(std::move(step));
  return reader.Finish();
}

absl::Status PreTokenizer::Apply(MatchDeadline deadline, Pieces* pieces) const {
  for (const Step& step : steps_) {
    const bool rewrites = step.kind == Kind::kByteLevel || step.kind == Kind::kMetaspace;
    SLUICE_RETURN_IF_ERROR(rewrites ? RewriteAndCut(step, deadline, pieces)
                                    : Cut(step, deadline, pieces));
  }
  return absl::OkStatus();
}

absl::Status PreTokenizer::Cut(const Step& step, MatchDeadline deadline, Pieces* pieces) {
  const std::string_view text = pieces->text;
  std::vector<Piece> result;
  result.reserve(pieces->pieces.size());
  Parts parts;
  for (const Piece& piece : pieces->pieces) {
    if (piece.token != kNoToken) {
      result.push_back(piece);
      continue;
    }
    SLUICE_RETURN_IF_ERROR(
        FindParts(step, text.substr(piece.begin, piece.end - piece.begin), deadline, &parts));
    for (const Part& part : parts.parts) {
      if (step.behavior == Behavior::kRemoved && part.is_match) continue;
      result.push_back({piece.begin + part.range.begin, piece.begin + part.range.end, kNoToken,
                        piece.at_start && part.range.begin == 0});
    }
  }
  pieces->pieces = std::move(result);
  return absl::OkStatus();
}

absl::Status PreTokenizer::RewriteAndCut(const Step& step, MatchDeadline deadline, Pieces* pieces) {
  Pieces result;
  result.text.reserve(pieces->text.size() + pieces->text.size() / 2);
  result.pieces.reserve(pieces->pieces.size());
  Parts parts;
  for (const Piece& piece : pieces->pieces) {
    const std::string_view old =
        std::string_view(pieces->text).substr(piece.begin, piece.end - piece.begin);
    if (piece.token != kNoToken) {
      const size_t begin = result.text.size();
      result.text.append(old);
      result.pieces.push_back({begin, result.text.size(), piece.token, piece.at_start});
      continue;
    }
    const std::string text = Rewritten(step, old, piece.at_start);
    SLUICE_RETURN_IF_ERROR(FindParts(step, text, deadline, &parts));
    for (const Part& part : parts.parts) {
      const size_t begin = result.text.size();
      const std::string_view bytes =
          std::string_view(text).substr(part.range.begin, part.range.end - part.range.begin);
      if (step.kind == Kind::kByteLevel) {
        AppendByteLevel(bytes, &result.text);
      } else {
        result.text.append(bytes);
      }
      result.pieces.push_back(
          {begin, result.text.size(), kNoToken, piece.at_start && part.range.begin == 0});
    }
  }
  *pieces = std::move(result);
  return absl::OkStatus();
}

std::string PreTokenizer::Rewritten(const Step& step, std::string_view text, bool at_start) {
  if (step.kind == Kind::kByteLevel) {
    std::string result(step.add_prefix_space && text[0] != ' ' ? " " : "");
    return result.append(text);
  }
  const Metaspace& metaspace = step.metaspace;
  std::string result =
      absl::StrReplaceAll({text.data(), text.size()}, {{" ", metaspace.replacement}});
  const bool wanted = metaspace.prepend == Metaspace::Prepend::kAlways ||
                      (metaspace.prepend == Metaspace::Prepend::kFirst && at_start);
  if (wanted && !absl::StartsWith(result, metaspace.replacement)) {
    result.insert(0, metaspace.replacement);
  }
  return result;
}

absl::Status PreTokenizer::FindParts(const Step& step, std::string_view text,
                                     MatchDeadline deadline, Parts* parts) {
  std::vector<TextRange>& matches = parts->matches;
  matches.clear();
  if (step.kind == Kind::kDigits) {
    FindDigits(text, &matches);
  } else if (step.use_pattern) {
    SLUICE_RETURN_IF_ERROR(step.pattern.FindAll(text, deadline, &matches));
  }
  std::vector<Part>& out = parts->parts;
  out.clear();
  size_t covered = 0;
  for (const TextRange& match : matches) {
    if (covered < match.begin) out.push_back({{covered, match.begin}, step.invert});
    out.push_back({match, !step.invert});
    covered = match.end;
  }
  if (covered < text.size()) out.push_back({{covered, text.size()}, step.invert});
  MergeParts(step.behavior, &out);
  return absl::OkStatus();
}

void PreTokenizer::MergeParts(Behavior behavior, std::vector<Part>* parts) {
  if (behavior == Behavior::kRemoved || behavior == Behavior::kIsolated) return;
  const bool backwards = behavior == Behavior::kMergedWithNext;
  if (backwards) std::reverse(parts->begin(), parts->end());
  bool previous = false;
  size_t kept = 0;
  for (const Part& part : *parts) {
    const bool joins =
        behavior == Behavior::kContiguous ? part.is_match == previous : part.is_match && !previous;
    previous = part.is_match;
    if (!joins || kept == 0) {
      (*parts)[kept++] = part;
      continue;
    }
    TextRange& last = (*parts)[kept - 1].range;
    last = {std::min(last.begin, part.range.begin), std::max(last.end, part.range.end)};
  }
  parts->resize(kept);
  if (backwards) std::reverse(parts->begin(), parts->end());
}

}  // namespace sluice
