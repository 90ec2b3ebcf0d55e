#include "engine/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/engine/safetensors_writer.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

absl::StatusOr<SafetensorsIndex> Parse(const std::string& bytes) {
  return ParseSafetensors({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()},
                          static_cast<int64_t>(bytes.size()), "the file");
}

std::string Header(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"w":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

// Each broken file, and what its refusal must name.
struct Broken {
  const char* what;
  std::string bytes;
  std::vector<std::string> named;
};

std::string LengthOnly(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

std::vector<Broken> BrokenFiles() {
  const std::string whole = SafetensorsBytes({Float32Tensor("w", {2}, {1, 2})});
  return {
      {"empty", "", {"the file", "0 bytes", "8"}},
      {"shorter than a length", "1234567", {"7 bytes", "8"}},
      {"header length over the file", LengthOnly(9) + "{}", {"header length of 9", "2 bytes"}},
      {"header length over the limit", LengthOnly(100'000'001), {"100000001", "100000000"}},
      {"header length of all ones", LengthOnly(UINT64_MAX), {"18446744073709551615", "100000000"}},
      {"truncated data", whole.substr(0, whole.size() - 1), {"\"w\"", "ends at byte 8", "has 7"}},
      {"bytes after the last tensor", whole + "x", {"tensors have 8", "9 bytes of data"}},
      {"not JSON", SafetensorsBytes("{\"w\":", ""), {"header", "not valid JSON"}},
      {"broken UTF-8", SafetensorsBytes("{\"\xff\":1}", ""), {"header", "not valid JSON"}},
      {"a list", SafetensorsBytes("[]", ""), {"no JSON object"}},
      {"deep", SafetensorsBytes(std::string(5, '[') + std::string(5, ']'), ""), {"deeper than 4"}},
      {"a name twice", SafetensorsBytes(R"({"w":{},"w":{}})", ""), {"\"w\" twice"}},
      {"a tensor that is no object", SafetensorsBytes(R"({"w":3})", ""), {"\"w\"", "no object"}},
      {"unknown key",
       SafetensorsBytes(R"({"w":{"dtype":"F32","shape":[],"data_offsets":[0,4],"q":1}})", "1234"),
       {"\"w\"", "\"q\""}},
      {"no dtype",
       SafetensorsBytes(R"({"w":{"shape":[],"data_offsets":[0,4]}})", "1234"),
       {"\"w\"", "dtype"}},
      {"no shape",
       SafetensorsBytes(R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", "1234"),
       {"\"w\"", "shape"}},
      {"unknown dtype",
       SafetensorsBytes(Header("F31", "[1]", "[0,4]"), "1234"),
       {"\"w\"", "\"F31\""}},
      {"negative dimension",
       SafetensorsBytes(Header("F32", "[-1]", "[0,4]"), "1234"),
       {"\"w\"", "-1", "shape"}},
      {"fractional dimension",
       SafetensorsBytes(Header("F32", "[1.0]", "[0,4]"), "1234"),
       {"\"w\"", "1.0", "shape"}},
      {"dimension above int64",
       SafetensorsBytes(Header("F32", "[9223372036854775808]", "[0,4]"), "1234"),
       {"\"w\"", "9223372036854775808"}},
      {"overflowing product",
       SafetensorsBytes(Header("F32", "[4294967296,4294967296]", "[0,4]"), "1234"),
       {"\"w\"", "[4294967296, 4294967296]", "9223372036854775807"}},
      {"nine dimensions",
       SafetensorsBytes(Header("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), "1234"),
       {"\"w\"", "9 numbers", "8"}},
      {"bytes of another shape",
       SafetensorsBytes(Header("F32", "[3]", "[0,8]"), "12345678"),
       {"\"w\"", "[3]", "F32", "12 bytes", "span 8"}},
      {"offsets backwards",
       SafetensorsBytes(Header("F32", "[1]", "[4,0]"), "1234"),
       {"\"w\"", "byte 4", "at 0"}},
      {"three offsets",
       SafetensorsBytes(Header("F32", "[1]", "[0,4,4]"), "1234"),
       {"\"w\"", "3 numbers", "2"}},
      {"one offset", SafetensorsBytes(Header("F32", "[1]", "[0]"), "1234"), {"\"w\"", "1", "2"}},
      {"beyond the file",
       SafetensorsBytes(Header("F32", "[2]", "[0,8]"), "1234"),
       {"\"w\"", "byte 8", "has 4"}},
      {"overlap",
       SafetensorsBytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                        R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                        "123456789012"),
       {"\"b\"", "byte 4", "overlaps", "at 8"}},
      {"gap",
       SafetensorsBytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                        "123456789012"),
       {"\"b\"", "byte 8", "gap", "at 4"}},
  };
}

TEST(ParseSafetensors, RefusesEachBrokenFileAndNamesWhatIsWrong) {
  for (const Broken& broken : BrokenFiles()) {
    SCOPED_TRACE(broken.what);
    const auto index = Parse(broken.bytes);
    ASSERT_EQ(index.status().code(), absl::StatusCode::kInvalidArgument) << index.status();
    for (const std::string& name : broken.named) {
      EXPECT_THAT(std::string(index.status().message()), HasSubstr(name));
    }
  }
}

TEST(ParseSafetensors, ReadsTypesShapesAndPlaces) {
  const std::string file = SafetensorsBytes({
      Float32Tensor("matrix", {2, 3}, {1, 2, 3, 4, 5, 6}),
      {"half", "F16", {1}, std::string(2, 'h')},
      {"brain", "BF16", {1, 1}, std::string(2, 'b')},
      Float32Tensor("scalar", {}, {7}),
      Float32Tensor("empty", {0, 5}, {}),
  });
  const auto index = Parse(file);
  ASSERT_TRUE(index.ok()) << index.status();
  ASSERT_THAT(index->tensors, SizeIs(5));
  const TensorView& matrix = index->tensors.at("matrix");
  EXPECT_EQ(matrix.dtype, DType::kFloat32);
  EXPECT_THAT(matrix.shape, ElementsAre(2, 3));
  EXPECT_EQ(matrix.elements(), 6);
  float last = 0;
  std::memcpy(&last, file.data() + matrix.offset + 5 * sizeof(float), sizeof(float));
  EXPECT_EQ(last, 6);
  EXPECT_EQ(index->tensors.at("half").dtype, DType::kFloat16);
  EXPECT_EQ(file[index->tensors.at("half").offset], 'h');
  EXPECT_EQ(index->tensors.at("brain").dtype, DType::kBFloat16);
  EXPECT_EQ(file[index->tensors.at("brain").offset], 'b');
  EXPECT_THAT(index->tensors.at("scalar").shape, IsEmpty());
  EXPECT_EQ(index->tensors.at("scalar").elements(), 1);
  EXPECT_EQ(index->tensors.at("empty").elements(), 0);
}

TEST(ParseSafetensors, SetsTypesThatNoKernelReadsAside) {
  const std::string file = SafetensorsBytes({
      {"ids", "I64", {1}, std::string(8, 'i')},
      Float32Tensor("w", {1}, {1}),
  });
  const auto index = Parse(file);
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_THAT(index->tensors, SizeIs(1));
  EXPECT_EQ(index->unsupported.at("ids"), "I64");
}

TEST(ParseSafetensors, EscapesNamesInMessages) {
  const auto index = Parse(SafetensorsBytes(R"({"a\u0000\nb":3})", ""));
  EXPECT_THAT(std::string(index.status().message()), HasSubstr(R"("a\x00\nb")"));
}

std::string WriteTwo(const ScratchDirectory& scratch) {
  return scratch.Write("w.safetensors", SafetensorsBytes({Float32Tensor("w", {2}, {1, 2})}));
}

TEST(SafetensorsFile, ReadsATensorAndAPartOfIt) {
  const ScratchDirectory scratch;
  const auto file = SafetensorsFile::Open(WriteTwo(scratch));
  ASSERT_TRUE(file.ok()) << file.status();
  const TensorView& view = (*file)->tensors().at("w");
  float values[2];
  ASSERT_TRUE((*file)->Read(view, 0, absl::MakeSpan(reinterpret_cast<std::byte*>(values), 8)).ok());
  EXPECT_THAT(values, ElementsAre(1, 2));
  ASSERT_TRUE((*file)->Read(view, 4, absl::MakeSpan(reinterpret_cast<std::byte*>(values), 4)).ok());
  EXPECT_EQ(values[0], 2);
  EXPECT_TRUE((*file)->CheckUnchanged().ok());
}

TEST(SafetensorsFile, SaysThatItWasShortenedWhileItWasRead) {
  const ScratchDirectory scratch;
  const std::string path = WriteTwo(scratch);
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto whole = std::filesystem::file_size(path);
  std::filesystem::resize_file(path, whole - 2);
  std::vector<std::byte> bytes(8);
  const absl::Status status = (*file)->Read((*file)->tensors().at("w"), 0, absl::MakeSpan(bytes));
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(status.message(), absl::StrCat(path, " ends at byte ", whole - 2, "; it had ", whole,
                                           " bytes when it was opened"));
  EXPECT_EQ((*file)->CheckUnchanged().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(SafetensorsFile, SaysThatItWasOverwrittenWhileItWasRead) {
  const ScratchDirectory scratch;
  const std::string path = WriteTwo(scratch);
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  std::filesystem::last_write_time(
      path, std::filesystem::last_write_time(path) + std::chrono::milliseconds(1));
  const absl::Status status = (*file)->CheckUnchanged();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(path), HasSubstr("was changed")));
}

TEST(SafetensorsFile, IsWhatWasOpenedWhenAnotherTakesItsPlace) {
  const ScratchDirectory scratch;
  const std::string path = WriteTwo(scratch);
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  std::filesystem::remove(path);
  scratch.Write("w.safetensors", SafetensorsBytes({Float32Tensor("w", {2}, {3, 4})}));
  float first = 0;
  ASSERT_TRUE((*file)
                  ->Read((*file)->tensors().at("w"), 0,
                         absl::MakeSpan(reinterpret_cast<std::byte*>(&first), 4))
                  .ok());
  EXPECT_EQ(first, 1);
  EXPECT_TRUE((*file)->CheckUnchanged().ok());
}

TEST(SafetensorsFile, RefusesWhatIsNoReadableFile) {
  const ScratchDirectory scratch;
  const auto missing = SafetensorsFile::Open(scratch.path() / "none.safetensors");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("none.safetensors"));

  const auto directory = SafetensorsFile::Open(scratch.path());
  EXPECT_EQ(directory.status().code(), absl::StatusCode::kInvalidArgument);

  ASSERT_EQ(mkfifo((scratch.path() / "pipe").c_str(), 0600), 0);
  const auto pipe = SafetensorsFile::Open(scratch.path() / "pipe");
  EXPECT_THAT(std::string(pipe.status().message()),
              AllOf(HasSubstr("pipe"), HasSubstr("regular file")));

  const auto empty = SafetensorsFile::Open(scratch.Write("empty", ""));
  EXPECT_EQ(empty.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(empty.status().message()), HasSubstr("0 bytes"));

  const auto cut = SafetensorsFile::Open(scratch.Write("cut", LengthOnly(1000) + "{}"));
  EXPECT_EQ(cut.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(cut.status().message()), AllOf(HasSubstr("cut"), HasSubstr("1000")));
}

}  // namespace
}  // namespace sluice
