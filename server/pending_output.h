// Output that waits for its client: increments merged into few messages of bounded size.
#pragma once

#include <cstddef>
#include <deque>
#include <string_view>

#include "engine/request.h"
#include "sluice/v1/generation.pb.h"

namespace sluice {

// Not thread-safe.
class PendingOutput {
 public:
  // No message is larger than about this, so that a long echoed prompt fits into what clients
  // accept.
  static constexpr size_t kMessageBytes = size_t{64} << 10;

  // `logprobs`: whether messages carry one TokenLogprob a token.
  explicit PendingOutput(bool logprobs) : logprobs_(logprobs) {}

  void Add(const Output& output);
  void AddFinished(const Outcome& outcome);

  bool empty() const { return messages_.empty(); }
  // About what the messages take on the wire; in memory it is a small multiple.
  size_t bytes() const { return bytes_; }

  // The oldest message. Not when empty.
  v1::GenerateResponse Take();

 private:
  struct Message {
    v1::GenerateResponse proto;
    size_t bytes = 0;
  };

  // The last message, if `bytes` more fit into it, else a new one.
  Message& Room(size_t bytes);
  void Grow(Message* message, size_t bytes);
  void AddText(std::string_view text);
  void AddToken(const OutputToken& token);

  bool logprobs_;
  std::deque<Message> messages_;
  size_t bytes_ = 0;
};

}  // namespace sluice
