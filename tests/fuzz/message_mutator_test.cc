#include "tests/fuzz/message_mutator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "engine/utf8.h"
#include "google/protobuf/descriptor.h"
#include "sluice/v1/generation.pb.h"

namespace sluice {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

void AppendByte(std::string* text) { text->push_back('\xC3'); }

// The full names of the fields that are set in `message` and in the messages in it.
void CollectSet(const Message& message, std::set<std::string>* names) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    names->insert(field->full_name());
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_repeated()) continue;
    CollectSet(message.GetReflection()->GetMessage(message, field), names);
  }
}

TEST(MessageMutator, ReachesEveryField) {
  std::set<std::string> names;
  v1::GenerateRequest request;
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    if (seed % 50 == 0) request.Clear();
    MessageMutator(seed, AppendByte).Mutate(&request);
    CollectSet(request, &names);
  }
  std::set<std::string> all;
  for (const auto* descriptor :
       {v1::GenerateRequest::descriptor(), v1::TokenIds::descriptor(),
        v1::SamplingParams::descriptor(), v1::StoppingCriteria::descriptor(),
        v1::OutputOptions::descriptor()}) {
    for (int i = 0; i < descriptor->field_count(); ++i) {
      all.insert(descriptor->field(i)->full_name());
    }
  }
  EXPECT_EQ(names, all);
}

TEST(MessageMutator, PassesTheLimitsOfLists) {
  size_t stops = 0;
  size_t biases = 0;
  v1::GenerateRequest request;
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    if (seed % 50 == 0) request.Clear();
    MessageMutator(seed, AppendByte).Mutate(&request);
    stops = std::max<size_t>(stops, request.stopping().stop_size());
    biases = std::max<size_t>(biases, request.sampling().logit_bias_size());
  }
  EXPECT_GT(stops, 16);
  EXPECT_GT(biases, 100);
}

TEST(MessageMutator, RepeatsItselfAndWritesUtf8) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    v1::GenerateRequest first;
    v1::GenerateRequest second;
    first.set_text("once");
    second.set_text("once");
    MessageMutator(seed, AppendByte).Mutate(&first);
    MessageMutator(seed, AppendByte).Mutate(&second);
    EXPECT_EQ(first.DebugString(), second.DebugString());
    EXPECT_FALSE(FirstInvalidUtf8(first.text()).has_value());
  }
}

}  // namespace
}  // namespace sluice
