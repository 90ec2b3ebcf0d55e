#include "engine/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/engine/safetensors_writer.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kIndex = "model.safetensors.index.json";

std::string Message(const absl::Status& status) { return std::string(status.message()); }

float First(const Checkpoint& checkpoint, const char* name) {
  float value = 0;
  EXPECT_TRUE(
      checkpoint.Read(name, 0, absl::MakeSpan(reinterpret_cast<std::byte*>(&value), 4)).ok());
  return value;
}

// A directory of two shards, a in the first and b in the second.
void WriteShards(const ScratchDirectory& scratch, const std::string& weight_map) {
  scratch.Write("one.safetensors", SafetensorsBytes({Float32Tensor("a", {1}, {1})}));
  scratch.Write("two.safetensors", SafetensorsBytes({Float32Tensor("b", {2}, {2, 3})}));
  scratch.Write(kIndex, R"({"metadata":{"total_size":12},"weight_map":)" + weight_map + "}");
}

TEST(Checkpoint, ReadsASingleFile) {
  const ScratchDirectory scratch;
  scratch.Write("model.safetensors", SafetensorsBytes({Float32Tensor("a", {1}, {4}),
                                                       Float32Tensor("b", {2, 1}, {5, 6})}));
  const auto checkpoint = Checkpoint::Open(scratch.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->names(), ElementsAre("a", "b"));
  EXPECT_EQ((*checkpoint)->total_bytes(), 12);
  const auto view = (*checkpoint)->Find("b", {2, 1});
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(First(**checkpoint, "b"), 5);
}

TEST(Checkpoint, ReadsShards) {
  const ScratchDirectory scratch;
  WriteShards(scratch, R"({"a":"one.safetensors","b":"two.safetensors"})");
  const auto checkpoint = Checkpoint::Open(scratch.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->names(), ElementsAre("a", "b"));
  EXPECT_EQ((*checkpoint)->total_bytes(), 12);
  EXPECT_EQ(First(**checkpoint, "a"), 1);
  EXPECT_EQ(First(**checkpoint, "b"), 2);
}

TEST(Checkpoint, NamesTheShardThatWasChangedSinceItWasOpened) {
  const ScratchDirectory scratch;
  WriteShards(scratch, R"({"a":"one.safetensors","b":"two.safetensors"})");
  const auto checkpoint = Checkpoint::Open(scratch.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE((*checkpoint)->CheckUnchanged().ok());
  std::filesystem::resize_file(scratch.path() / "two.safetensors", 100);
  EXPECT_EQ((*checkpoint)->CheckUnchanged().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message((*checkpoint)->CheckUnchanged()), HasSubstr("two.safetensors"));
  std::vector<std::byte> bytes(8);
  EXPECT_EQ((*checkpoint)->Read("b", 0, absl::MakeSpan(bytes)).code(), absl::StatusCode::kDataLoss);
}

TEST(Checkpoint, RefusesADirectoryThatIsNotThere) {
  const auto checkpoint = Checkpoint::Open("/nowhere/model");
  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(checkpoint.status()), HasSubstr("/nowhere/model"));
}

TEST(Checkpoint, RefusesADirectoryWithoutWeights) {
  const ScratchDirectory scratch;
  const auto checkpoint = Checkpoint::Open(scratch.path());
  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(
      Message(checkpoint.status()),
      AllOf(HasSubstr(scratch.path().string()), HasSubstr("model.safetensors"), HasSubstr(kIndex)));
}

TEST(Checkpoint, RefusesATruncatedFileByName) {
  const ScratchDirectory scratch;
  const std::string whole = SafetensorsBytes({Float32Tensor("a", {4}, {1, 2, 3, 4})});
  scratch.Write("model.safetensors", whole.substr(0, whole.size() - 3));
  const auto checkpoint = Checkpoint::Open(scratch.path());
  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      Message(checkpoint.status()),
      AllOf(HasSubstr("model.safetensors"), HasSubstr("\"a\""), HasSubstr("16"), HasSubstr("13")));
}

TEST(Checkpoint, RefusesAMissingTensor) {
  const ScratchDirectory scratch;
  scratch.Write("model.safetensors", SafetensorsBytes({Float32Tensor("a", {1}, {4})}));
  const auto checkpoint = Checkpoint::Open(scratch.path()).value();
  const auto view = checkpoint->Find("model.norm.weight", {64});
  EXPECT_EQ(view.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(view.status()), AllOf(HasSubstr("\"model.norm.weight\""), HasSubstr("[64]")));
  EXPECT_FALSE(checkpoint->Has("model.norm.weight"));
}

TEST(Checkpoint, RefusesAWrongShapeAndPrintsBoth) {
  const ScratchDirectory scratch;
  scratch.Write("model.safetensors", SafetensorsBytes({Float32Tensor("a", {2, 1}, {4, 5})}));
  const auto checkpoint = Checkpoint::Open(scratch.path()).value();
  const auto view = checkpoint->Find("a", {1, 2});
  EXPECT_EQ(view.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(view.status()),
              AllOf(HasSubstr("\"a\""), HasSubstr("[2, 1]"), HasSubstr("[1, 2]")));
}

TEST(Checkpoint, RefusesATensorOfIntegersOnlyWhenAskedForIt) {
  const ScratchDirectory scratch;
  scratch.Write("model.safetensors", SafetensorsBytes({{"ids", "I64", {1}, std::string(8, 'i')}}));
  const auto checkpoint = Checkpoint::Open(scratch.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->names(), IsEmpty());
  EXPECT_THAT((*checkpoint)->Unread(), IsEmpty());
  EXPECT_TRUE((*checkpoint)->Has("ids"));
  const auto view = (*checkpoint)->Find("ids", {1});
  EXPECT_EQ(view.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(view.status()), AllOf(HasSubstr("\"ids\""), HasSubstr("I64")));
}

TEST(Checkpoint, KnowsWhatWasNeverRead) {
  const ScratchDirectory scratch;
  scratch.Write("model.safetensors",
                SafetensorsBytes({Float32Tensor("a", {1}, {1}), Float32Tensor("b", {1}, {2}),
                                  Float32Tensor("c", {1}, {3})}));
  const auto checkpoint = Checkpoint::Open(scratch.path()).value();
  EXPECT_THAT(checkpoint->Unread(), ElementsAre("a", "b", "c"));
  ASSERT_TRUE(checkpoint->Find("b", {1}).ok());
  // Neither a question nor a refusal is a reading.
  EXPECT_TRUE(checkpoint->Has("a"));
  EXPECT_FALSE(checkpoint->Find("c", {2}).ok());
  EXPECT_THAT(checkpoint->Unread(), ElementsAre("a", "c"));
}

struct BrokenIndex {
  std::string weight_map;
  absl::StatusCode code;
  std::vector<std::string> named;
};

TEST(Checkpoint, RefusesEachBrokenIndexAndNamesWhatIsWrong) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const std::vector<BrokenIndex> table = {
      {R"({"a":"one.safetensors","b":"three.safetensors"})",
       absl::StatusCode::kNotFound,
       {kIndex, "\"three.safetensors\""}},
      {R"({"a":"one.safetensors","b":"../two.safetensors"})", invalid, {"\"b\"", "../two"}},
      {R"({"a":"one.safetensors","b":"/etc/passwd"})", invalid, {"\"b\"", "/etc/passwd"}},
      {R"({"a":"one.safetensors","b":".."})", invalid, {"\"b\"", "\"..\""}},
      {R"({"a":"one.safetensors","b":""})", invalid, {"\"b\"", "\"\""}},
      {R"({"a":"one.safetensors","b":7})", invalid, {"\"b\"", "number"}},
      {R"({"a":"one.safetensors"})"
       R"(,"weight_map":{})",
       invalid,
       {kIndex, "\"weight_map\" twice"}},
      {R"({"a":"two.safetensors","b":"two.safetensors"})", invalid, {"\"a\"", "does not have it"}},
      {R"({"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"})",
       invalid,
       {"\"c\"", "\"two.safetensors\""}},
      {R"({"a":"one.safetensors","x":"two.safetensors"})", invalid, {"\"b\"", "does not name"}},
      {R"({"a":"one.safetensors","b":"one.safetensors","x":"two.safetensors"})",
       invalid,
       {"\"b\"", "one.safetensors"}},
      {"[]", invalid, {kIndex, "weight_map"}},
      {"{", invalid, {kIndex, "not valid JSON"}},
  };
  for (const BrokenIndex& broken : table) {
    SCOPED_TRACE(broken.weight_map);
    const ScratchDirectory scratch;
    WriteShards(scratch, broken.weight_map);
    const auto checkpoint = Checkpoint::Open(scratch.path());
    ASSERT_EQ(checkpoint.status().code(), broken.code) << checkpoint.status();
    for (const std::string& name : broken.named) {
      EXPECT_THAT(Message(checkpoint.status()), HasSubstr(name));
    }
  }
}

}  // namespace
}  // namespace sluice
