// Changes protobuf messages by their fields, so that a fuzzer's time goes into what a message says
// and not into how its bytes are laid out.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <utility>

#include "google/protobuf/message.h"

namespace sluice {

// The same seed makes the same changes. Not thread-safe.
class MessageMutator {
 public:
  // `change_bytes` changes a string, to anything: what is no UTF-8 then is mended, since proto3
  // writes none.
  MessageMutator(uint32_t seed, std::function<void(std::string*)> change_bytes)
      : random_(seed), change_bytes_(std::move(change_bytes)) {}

  // Makes one to four changes, each at one field of `message` or of a message in it.
  void Mutate(google::protobuf::Message* message);

 private:
  using Field = google::protobuf::FieldDescriptor;

  uint64_t Below(uint64_t limit) { return random_() % limit; }
  bool OneIn(uint64_t n) { return Below(n) == 0; }

  void Change(google::protobuf::Message* message);
  void ChangeRepeated(google::protobuf::Message* message, const Field* field);
  void Add(google::protobuf::Message* message, const Field* field);
  void Set(google::protobuf::Message* message, const Field* field);
  uint64_t Integer();
  double Number();
  std::string Text(std::string text);

  std::mt19937_64 random_;
  std::function<void(std::string*)> change_bytes_;
};

}  // namespace sluice
