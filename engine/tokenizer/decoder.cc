#include "engine/tokenizer/decoder.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/metaspace.h"
#include "engine/tokenizer/pattern.h"

namespace sluice {
namespace {

using Kind = DecoderStep::Kind;

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool IsOneCharacter(const std::string& text) {
  return !text.empty() && Utf8At(text, 0).bytes == text.size();
}

std::optional<uint8_t> HexDigit(char c) {
  if (!absl::ascii_isxdigit(c)) return std::nullopt;
  return static_cast<uint8_t>(absl::ascii_isdigit(c) ? c - '0' : absl::ascii_tolower(c) - 'a' + 10);
}

// "<0x41>" stands for 0x41. So does "<0x+1>" for 1: Rust reads a number with its sign.
std::optional<uint8_t> ByteOfToken(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return std::nullopt;
  const std::optional<uint8_t> high = token[3] == '+' ? 0 : HexDigit(token[3]);
  const std::optional<uint8_t> low = HexDigit(token[4]);
  if (!high.has_value() || !low.has_value()) return std::nullopt;
  return static_cast<uint8_t>(*high << 4 | *low);
}

absl::StatusOr<DecoderStep> ParseReplace(JsonReader* reader, const std::string& path) {
  DecoderStep step{.kind = Kind::kReplace, .pattern = "", .content = reader->String("content", "")};
  if (!reader->Has("pattern")) {
    reader->Refuse("pattern", "it must be there");
    return reader->status();
  }
  SLUICE_ASSIGN_OR_RETURN(const Pattern pattern,
                          Pattern::Parse(reader->Value("pattern"), path + ".pattern"));
  if (!pattern.literal().has_value()) reader->Refuse("pattern", "only a String is supported");
  step.pattern = pattern.literal().value_or("");
  return step;
}

DecoderStep ParseStrip(JsonReader* reader) {
  DecoderStep step{.kind = Kind::kStrip, .pattern = reader->String("content", ""), .content = ""};
  step.count = reader->Int("start", 0, 0, std::numeric_limits<int32_t>::max());
  if (!IsOneCharacter(step.pattern)) reader->Refuse("content", "it must be one character");
  if (reader->Int("stop", 0, 0, std::numeric_limits<int32_t>::max()) != 0) {
    reader->Refuse("stop", "only 0 is supported");
  }
  return step;
}

absl::StatusOr<DecoderStep> ParseStep(const nlohmann::json& value, const std::string& path) {
  JsonReader reader(value, path);
  const std::string type = reader.String("type", "");
  DecoderStep step{.kind = Kind::kFuse, .pattern = "", .content = ""};
  if (type == "ByteLevel") {
    reader.Ignore({"add_prefix_space", "trim_offsets", "use_regex"});
    step.kind = Kind::kByteLevel;
  } else if (type == "ByteFallback") {
    step.kind = Kind::kByteFallback;
  } else if (type == "Metaspace") {
    SLUICE_ASSIGN_OR_RETURN(const Metaspace metaspace, ParseMetaspace(value, path));
    const bool never = metaspace.prepend == Metaspace::Prepend::kNever;
    step.kind = never ? Kind::kMetaspaceNever : Kind::kMetaspace;
    step.pattern = metaspace.replacement;
    return step;
  } else if (type == "Replace") {
    SLUICE_ASSIGN_OR_RETURN(step, ParseReplace(&reader, path));
  } else if (type == "Strip") {
    step = ParseStrip(&reader);
  } else if (type != "Fuse") {
    reader.Refuse("type",
                  "supported are Sequence, ByteLevel, ByteFallback, Metaspace, Replace, Strip and "
                  "Fuse, with their keys");
  }
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  return step;
}

}  // namespace

absl::StatusOr<Decoder> Decoder::Parse(const nlohmann::json& value, const std::string& path) {
  Decoder decoder;
  if (value.is_null()) {
    decoder.steps_.push_back({.kind = Kind::kJoinWithSpaces, .pattern = "", .content = ""});
    return decoder;
  }
  SLUICE_RETURN_IF_ERROR(decoder.ParseInto(value, path));
  return decoder;
}

absl::Status Decoder::ParseInto(const nlohmann::json& value, const std::string& path) {
  JsonReader reader(value, path);
  if (reader.String("type", "") == "Sequence" && reader.Has("decoders")) {
    const nlohmann::json& list = reader.Value("decoders");
    if (!list.is_array()) reader.Refuse("decoders", "it must be an array");
    SLUICE_RETURN_IF_ERROR(reader.Finish());
    for (size_t i = 0; i < list.size(); ++i) {
      SLUICE_RETURN_IF_ERROR(ParseInto(list[i], absl::StrCat(path, ".decoders[", i, "]")));
    }
    return absl::OkStatus();
  }
  SLUICE_ASSIGN_OR_RETURN(DecoderStep step, ParseStep(value, path));
  step.is_fused = std::any_of(steps_.begin(), steps_.end(), [](const DecoderStep& earlier) {
    return earlier.kind == Kind::kFuse || earlier.kind == Kind::kByteLevel;
  });
  // These look at a whole string at once, which on fused text would be all of it.
  const bool whole = step.kind == Kind::kByteLevel || step.kind == Kind::kByteFallback ||
                     (step.kind == Kind::kReplace && !IsOneCharacter(step.pattern));
  if (step.is_fused && whole) {
    reader.Refuse("type", "it is not supported behind Fuse or ByteLevel");
    return reader.status();
  }
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

DecodeRun::DecodeRun(const Decoder* decoder) : steps_(&decoder->steps()) { Reset(); }

void DecodeRun::Reset() {
  states_.assign(steps_->size(), State());
  for (size_t i = 0; i < states_.size(); ++i) {
    if ((*steps_)[i].kind == Kind::kBytesEach) {
      states_[i].characters = LossyUtf8(LossyUtf8::Replaces::kEachByte);
    }
  }
}

void DecodeRun::Push(std::string_view token, std::string* out) { PushTo(0, token, out); }

void DecodeRun::Flush(std::string* out) {
  for (size_t i = 0; i < states_.size(); ++i) {
    if (!states_[i].bytes.empty()) EndByteRun(i, out);
    std::string rest;
    states_[i].characters.Flush(&rest);
    if (!rest.empty()) PushTo(i + 1, rest, out);
  }
  Reset();
}

void DecodeRun::PushTo(size_t step, std::string_view text, std::string* out) {
  if (step == steps_->size()) {
    out->append(text);
    return;
  }
  switch ((*steps_)[step].kind) {
    case Kind::kByteLevel:
      PushByteLevel(step, text, out);
      return;
    case Kind::kByteFallback:
      PushByteFallback(step, text, out);
      return;
    case Kind::kFuse:
      PushTo(step + 1, text, out);
      return;
    case Kind::kReplace:
    case Kind::kMetaspace:
    case Kind::kMetaspaceNever:
      PushReplace(step, text, out);
      return;
    case Kind::kStrip:
      PushStrip(step, text, out);
      return;
    case Kind::kJoinWithSpaces:
      if (std::exchange(states_[step].begun, true)) out->push_back(' ');
      PushTo(step + 1, text, out);
      return;
    case Kind::kStripStart:
      PushStripStart(step, text, out);
      return;
    case Kind::kBytes:
    case Kind::kBytesEach:
      PushBytes(step, text, out);
      return;
  }
}

void DecodeRun::PushByteLevel(size_t step, std::string_view text, std::string* out) {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = Utf8At(text, at);
    const std::optional<uint8_t> byte = ByteOfCharacter(c.code_point);
    if (!byte.has_value()) {
      // A token with any other character stands for itself.
      bytes = std::string(text);
      break;
    }
    bytes.push_back(static_cast<char>(*byte));
    at += c.bytes;
  }
  PushBytes(step, bytes, out);
}

void DecodeRun::PushBytes(size_t step, std::string_view bytes, std::string* out) {
  std::string characters;
  states_[step].characters.Push(bytes, &characters);
  if (!characters.empty()) PushTo(step + 1, characters, out);
}

void DecodeRun::PushByteFallback(size_t step, std::string_view text, std::string* out) {
  const std::optional<uint8_t> byte = ByteOfToken(text);
  if (byte.has_value()) {
    states_[step].bytes.push_back(static_cast<char>(*byte));
    return;
  }
  if (!states_[step].bytes.empty()) EndByteRun(step, out);
  PushTo(step + 1, text, out);
}

void DecodeRun::EndByteRun(size_t step, std::string* out) {
  const std::string bytes = std::exchange(states_[step].bytes, "");
  if (!FirstInvalidUtf8(bytes).has_value()) {
    PushTo(step + 1, bytes, out);
    return;
  }
  for (size_t i = 0; i < bytes.size(); ++i) PushTo(step + 1, kReplacement, out);
}

void DecodeRun::PushReplace(size_t step, std::string_view text, std::string* out) {
  const DecoderStep& what = (*steps_)[step];
  const bool is_first = what.is_fused || !std::exchange(states_[step].begun, true);
  std::string content = what.content;
  if (what.kind == Kind::kMetaspaceNever) content = " ";
  if (what.kind == Kind::kMetaspace) content = is_first ? "" : " ";
  const absl::string_view view(text.data(), text.size());
  PushTo(step + 1, absl::StrReplaceAll(view, {{what.pattern, content}}), out);
}

void DecodeRun::PushStrip(size_t step, std::string_view text, std::string* out) {
  const DecoderStep& what = (*steps_)[step];
  State& state = states_[step];
  if (!what.is_fused) state = State();
  const std::string_view pattern = what.pattern;
  while (!state.begun && state.stripped < what.count && text.substr(0, pattern.size()) == pattern) {
    text.remove_prefix(pattern.size());
    ++state.stripped;
  }
  if (!text.empty()) state.begun = true;
  PushTo(step + 1, text, out);
}

// `count` patterns are taken off at most, each off a string of its own: further ones only while
// nothing else has come.
void DecodeRun::PushStripStart(size_t step, std::string_view text, std::string* out) {
  const DecoderStep& what = (*steps_)[step];
  State& state = states_[step];
  const std::string_view pattern = what.pattern;
  if (!state.begun && state.stripped < what.count && text.substr(0, pattern.size()) == pattern) {
    text.remove_prefix(pattern.size());
    ++state.stripped;
  }
  if (!text.empty()) state.begun = true;
  PushTo(step + 1, text, out);
}

}  // namespace sluice
