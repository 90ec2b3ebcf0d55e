#include "server/api_key_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/engine/safetensors_writer.h"
#include "tests/server/change_counter.h"
#include "tests/server/key_entry.h"

namespace sluice {
namespace {

using testing::HasSubstr;

class ApiKeyFileTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<ApiKeyFile>> Open() {
    return ApiKeyFile::Open(path(), absl::Milliseconds(1), [this](const auto& read) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        // Words, not the status: the last thread that holds one frees it, and what orders that is
        // out of ThreadSanitizer's sight.
        last_ = read.ok() ? std::to_string(*read) : std::string(read.status().message());
      }
      (read.ok() ? taken_ : refused_).Add();
    });
  }

  std::string path() const { return directory_.path() / "keys.json"; }

  // Replaces the file in one step, as whoever cares for running servers does.
  void Replace(const std::string& text) {
    std::filesystem::rename(directory_.Write("next", text), path());
  }

  // How many keys the last change brought, or why it was refused.
  std::string last() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_;
  }

  ScratchDirectory directory_;
  ChangeCounter taken_;
  ChangeCounter refused_;

 private:
  std::mutex mutex_;
  std::string last_;  // guarded by mutex_
};

TEST_F(ApiKeyFileTest, ReadsAChangedFileAnew) {
  Replace(KeyFile({KeyEntry("a", "old")}));
  const auto file = Open();
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_NE((*file)->Current()->Find("old"), nullptr);
  Replace(KeyFile({KeyEntry("a", "new"), KeyEntry("b", "newer")}));
  ASSERT_TRUE(taken_.WaitFor(1));
  EXPECT_EQ(last(), "2");
  EXPECT_EQ((*file)->Current()->Find("old"), nullptr);
  EXPECT_EQ((*file)->Current()->Find("newer")->tenant, "b");
}

TEST_F(ApiKeyFileTest, KeepsTheKeysWhenTheFileIsBroken) {
  Replace(KeyFile({KeyEntry("a", "old")}));
  const auto file = Open();
  ASSERT_TRUE(file.ok()) << file.status();
  Replace("{\"keys\":");
  ASSERT_TRUE(refused_.WaitFor(1));
  EXPECT_THAT(last(), HasSubstr("keys.json is not valid JSON at byte "));
  EXPECT_NE((*file)->Current()->Find("old"), nullptr);
  std::filesystem::remove(path());
  ASSERT_TRUE(refused_.WaitFor(2));
  EXPECT_NE((*file)->Current()->Find("old"), nullptr);
  Replace(KeyFile({}));
  ASSERT_TRUE(taken_.WaitFor(1));
  EXPECT_EQ((*file)->Current()->Find("old"), nullptr) << "an empty list is a list";
}

TEST_F(ApiKeyFileTest, NeedsAGoodFileToBeginWith) {
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr(path()));
  Replace("{}");
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kInvalidArgument);
  Replace(std::string(static_cast<size_t>(ApiKeys::kMaxFileBytes) + 1, ' '));
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr("the limit is 4194304"));
  std::filesystem::remove(path());
  std::filesystem::create_directory(path());
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr("not a regular file"));
}

TEST_F(ApiKeyFileTest, KeysCanBeLookedUpWhileTheyAreExchanged) {
  const std::string always = KeyEntry("a", "always");
  Replace(KeyFile({always}));
  const auto file = Open();
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<std::thread> readers;
  readers.reserve(3);
  for (int t = 0; t < 3; ++t) {
    readers.emplace_back([&] {
      while (taken_.count() < 20) ASSERT_NE((*file)->Current()->Find("always"), nullptr);
    });
  }
  for (int i = 1; i <= 20; ++i) {
    Replace(KeyFile({always, KeyEntry("b", std::to_string(i))}));
    EXPECT_TRUE(taken_.WaitFor(i));
  }
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
}  // namespace sluice
