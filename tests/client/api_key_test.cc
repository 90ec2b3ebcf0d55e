#include "client/api_key.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tests/engine/safetensors_writer.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

TEST(ApiKey, IsRandomAndFitForMetadata) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const std::string key = NewApiKey();
    EXPECT_THAT(key, MatchesRegex("sl_[a-zA-Z0-9_-]+"));
    EXPECT_EQ(key.size(), 46U);
    EXPECT_TRUE(seen.insert(key).second);
  }
}

TEST(ApiKey, IsHashedAsSha256sumDoes) {
  EXPECT_EQ(Sha256Digits("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(ApiKey, IsReadFromTheLineOfAFile) {
  const ScratchDirectory directory;
  EXPECT_EQ(*ReadApiKey(directory.Write("key", "sl_abc\n")), "sl_abc");
  EXPECT_EQ(*ReadApiKey(directory.Write("key", "sl_abc\r\n\n")), "sl_abc");
  EXPECT_EQ(ReadApiKey(directory.path() / "none").status().code(), absl::StatusCode::kNotFound);
  for (const std::string& text :
       {std::string(), std::string("\n"), std::string("sl_a\nsl_b\n"), std::string("sl_a sl_b"),
        std::string("sl_\xC3\xA9"), std::string(1025, 'x'), std::string(5000, 'x')}) {
    const absl::Status status = ReadApiKey(directory.Write("key", text)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("/key "));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("sl_"))) << "no key in a terminal";
  }
}

}  // namespace
}  // namespace sluice
