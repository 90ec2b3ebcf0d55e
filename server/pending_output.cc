#include "server/pending_output.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"
#include "server/request_mapping.h"

namespace sluice {
namespace {

// Upper bounds of the encoded sizes: an id is a varint of at most 5 bytes, a logprob 5 bytes, a
// message has a tag and a length.
constexpr size_t kIdBytes = 5;
constexpr size_t kLogprobBytes = 9;
constexpr size_t kTopLogprobBytes = 13;
constexpr size_t kFinishedBytes = 512;
constexpr size_t kLongestCharacter = 4;

// The longest prefix of at most `limit` bytes that ends at a character's end.
std::string_view Utf8Prefix(std::string_view text, size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0U) == 0x80U) --limit;
  return text.substr(0, limit);
}

}  // namespace

PendingOutput::Message& PendingOutput::Room(size_t bytes) {
  if (messages_.empty() || messages_.back().bytes + bytes > kMessageBytes) {
    messages_.emplace_back();
  }
  return messages_.back();
}

void PendingOutput::Grow(Message* message, size_t bytes) {
  message->bytes += bytes;
  bytes_ += bytes;
}

void PendingOutput::AddText(std::string_view text) {
  while (!text.empty()) {
    Message& message = Room(kLongestCharacter);
    const std::string_view part = Utf8Prefix(text, kMessageBytes - message.bytes);
    message.proto.mutable_text()->append(part.data(), part.size());
    Grow(&message, part.size());
    text.remove_prefix(part.size());
  }
}

void PendingOutput::AddToken(const OutputToken& token) {
  size_t bytes = kIdBytes;
  if (logprobs_) bytes += kLogprobBytes + kTopLogprobBytes * token.top.size();
  Message& message = Room(bytes);
  message.proto.add_token_ids(static_cast<uint32_t>(token.token));
  if (logprobs_) SetTokenLogprob(token, message.proto.add_logprobs());
  Grow(&message, bytes);
}

void PendingOutput::Add(const Output& output) {
  AddText(output.text);
  for (const OutputToken& token : output.tokens) AddToken(token);
}

void PendingOutput::AddFinished(const Outcome& outcome) {
  Message& message = Room(kFinishedBytes);
  SetFinished(outcome, message.proto.mutable_finished());
  Grow(&message, kFinishedBytes);
}

v1::GenerateResponse PendingOutput::Take() {
  SLUICE_CHECK(!messages_.empty());
  Message message = std::move(messages_.front());
  messages_.pop_front();
  bytes_ -= message.bytes;
  return std::move(message.proto);
}

}  // namespace sluice
