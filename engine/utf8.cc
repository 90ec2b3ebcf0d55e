#include "engine/utf8.h"

#include <algorithm>
#include <cstring>

namespace sluice {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

struct Lead {
  size_t bytes;        // of the whole character; 0 when no character begins with this byte
  uint8_t second_min;  // the range of the second byte, which excludes overlong forms, surrogates
  uint8_t second_max;  // and what is above U+10FFFF
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

bool IsContinuation(uint8_t byte) { return (byte & 0xC0) == 0x80; }

// Whether `byte` may stand at `index` (1 to 3) of a character with this lead.
bool Continues(const Lead& lead, size_t index, uint8_t byte) {
  if (index == 1) return byte >= lead.second_min && byte <= lead.second_max;
  return IsContinuation(byte);
}

// The length of the well-formed character at `at`; 0 when there is none.
size_t CharBytes(std::string_view text, size_t at) {
  const Lead lead = LeadOf(static_cast<uint8_t>(text[at]));
  if (lead.bytes == 0 || text.size() - at < lead.bytes) return 0;
  for (size_t i = 1; i < lead.bytes; ++i) {
    if (!Continues(lead, i, static_cast<uint8_t>(text[at + i]))) return 0;
  }
  return lead.bytes;
}

}  // namespace

std::optional<size_t> FirstInvalidUtf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t word = 0;
    if (text.size() - at >= sizeof(word)) {
      std::memcpy(&word, text.data() + at, sizeof(word));
      if ((word & 0x8080808080808080U) == 0) {
        at += sizeof(word);
        continue;
      }
    }
    const size_t bytes = CharBytes(text, at);
    if (bytes == 0) return at;
    at += bytes;
  }
  return std::nullopt;
}

Utf8Char Utf8At(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) {
    return static_cast<char32_t>(static_cast<uint8_t>(text[at + i]));
  };
  const char32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xE0) return {(first & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (first < 0xF0) {
    return {(first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  }
  return {(first & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
          4};
}

Utf8Char Utf8Before(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && IsContinuation(static_cast<uint8_t>(text[at]))) --at;
  return Utf8At(text, at);
}

void AppendUtf8(char32_t code_point, std::string* out) {
  const auto push = [&](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    push(code_point);
    return;
  }
  if (code_point < 0x800) {
    push(0xC0 | code_point >> 6);
  } else if (code_point < 0x10000) {
    push(0xE0 | code_point >> 12);
    push(0x80 | (code_point >> 6 & 0x3F));
  } else {
    push(0xF0 | code_point >> 18);
    push(0x80 | (code_point >> 12 & 0x3F));
    push(0x80 | (code_point >> 6 & 0x3F));
  }
  push(0x80 | (code_point & 0x3F));
}

void LossyUtf8::PushLead(uint8_t byte, std::string* out) {
  const Lead lead = LeadOf(byte);
  if (lead.bytes == 0) {
    out->append(kReplacement);
  } else if (lead.bytes == 1) {
    out->push_back(static_cast<char>(byte));
  } else {
    held_.push_back(static_cast<char>(byte));
  }
}

void LossyUtf8::Push(std::string_view bytes, std::string* out) {
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    if (held_.empty()) {
      PushLead(byte, out);
      continue;
    }
    const Lead lead = LeadOf(static_cast<uint8_t>(held_[0]));
    if (!Continues(lead, held_.size(), byte)) {
      Flush(out);
      PushLead(byte, out);
      continue;
    }
    held_.push_back(c);
    if (held_.size() == lead.bytes) {
      out->append(held_);
      held_.clear();
    }
  }
}

void LossyUtf8::Flush(std::string* out) {
  // All held bytes but the first continue a character, so none of them begins another one.
  const bool each = replaces_ == Replaces::kEachByte;
  const size_t count = each ? held_.size() : std::min<size_t>(held_.size(), 1);
  for (size_t i = 0; i < count; ++i) out->append(kReplacement);
  held_.clear();
}

}  // namespace sluice
