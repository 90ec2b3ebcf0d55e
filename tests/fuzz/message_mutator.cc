#include "tests/fuzz/message_mutator.h"

#include <array>
#include <limits>

#include "engine/utf8.h"
#include "google/protobuf/descriptor.h"
#include "kernels/check.h"

namespace sluice {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Around the limits that readers set, and where types end.
constexpr std::array<uint64_t, 14> kIntegers = {
    0,   1,    16,   17,         20,         21,         64,
    256, 1024, 1025, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, std::numeric_limits<uint64_t>::max()};
constexpr std::array<double, 16> kNumbers = {0,
                                             -0.0,
                                             1,
                                             -1,
                                             2,
                                             -2,
                                             10,
                                             100,
                                             -100,
                                             100.0001,
                                             1e-45,
                                             1e-6,
                                             3e38,
                                             -3e38,
                                             std::numeric_limits<double>::infinity(),
                                             std::numeric_limits<double>::quiet_NaN()};
constexpr std::array<uint64_t, 4> kRepeats = {1, 2, 64, 1024};

std::string Mended(const std::string& text) {
  std::string mended;
  LossyUtf8 characters;
  characters.Push(text, &mended);
  characters.Flush(&mended);
  return mended;
}

}  // namespace

void MessageMutator::Mutate(Message* message) {
  for (uint64_t changes = 1 + Below(4); changes > 0; --changes) Change(message);
}

void MessageMutator::Change(Message* message) {
  const auto* descriptor = message->GetDescriptor();
  if (descriptor->field_count() == 0) return;
  const Reflection* reflection = message->GetReflection();
  const Field* field =
      descriptor->field(static_cast<int>(Below(static_cast<uint64_t>(descriptor->field_count()))));
  if (field->is_repeated()) {
    ChangeRepeated(message, field);
  } else if (OneIn(8)) {
    reflection->ClearField(message, field);
  } else if (field->cpp_type() == Field::CPPTYPE_MESSAGE) {
    Change(reflection->MutableMessage(message, field));
  } else {
    Set(message, field);
  }
}

void MessageMutator::ChangeRepeated(Message* message, const Field* field) {
  const Reflection* reflection = message->GetReflection();
  const int size = reflection->FieldSize(*message, field);
  switch (Below(4)) {
    case 0:
      if (size > 0) reflection->RemoveLast(message, field);
      return;
    case 1:
      if (size > 0) {
        reflection->SwapElements(message, field, size - 1,
                                 static_cast<int>(Below(static_cast<uint64_t>(size))));
      }
      return;
    default:
      for (uint64_t more = kRepeats[Below(kRepeats.size())]; more > 0; --more) Add(message, field);
  }
}

void MessageMutator::Add(Message* message, const Field* field) {
  const Reflection* reflection = message->GetReflection();
  switch (field->cpp_type()) {
    case Field::CPPTYPE_MESSAGE: {
      Message* added = reflection->AddMessage(message, field);
      for (int i = 0; i < added->GetDescriptor()->field_count(); ++i) Change(added);
      return;
    }
    case Field::CPPTYPE_STRING:
      return reflection->AddString(message, field, Text(""));
    case Field::CPPTYPE_UINT32:
      return reflection->AddUInt32(message, field, static_cast<uint32_t>(Integer()));
    default:
      SLUICE_CHECK(false);  // no request has another repeated type yet
  }
}

void MessageMutator::Set(Message* message, const Field* field) {
  const Reflection* reflection = message->GetReflection();
  switch (field->cpp_type()) {
    case Field::CPPTYPE_BOOL:
      return reflection->SetBool(message, field, OneIn(2));
    case Field::CPPTYPE_FLOAT:
      return reflection->SetFloat(message, field, static_cast<float>(Number()));
    case Field::CPPTYPE_UINT32:
      return reflection->SetUInt32(message, field, static_cast<uint32_t>(Integer()));
    case Field::CPPTYPE_UINT64:
      return reflection->SetUInt64(message, field, Integer());
    case Field::CPPTYPE_STRING:
      return reflection->SetString(message, field, Text(reflection->GetString(*message, field)));
    default:
      SLUICE_CHECK(false);  // no request has another type yet
  }
}

uint64_t MessageMutator::Integer() {
  switch (Below(3)) {
    case 0:
      return kIntegers[Below(kIntegers.size())];
    case 1:
      return Below(300);
    default:
      return random_() >> Below(64);
  }
}

double MessageMutator::Number() {
  if (OneIn(2)) return kNumbers[Below(kNumbers.size())];
  return static_cast<double>(static_cast<int64_t>(random_() >> Below(64))) / 65536.0;
}

std::string MessageMutator::Text(std::string text) {
  change_bytes_(&text);
  return Mended(text);
}

}  // namespace sluice
