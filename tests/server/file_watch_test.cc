#include "server/file_watch.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/engine/safetensors_writer.h"
#include "tests/server/change_counter.h"

namespace sluice {
namespace {

constexpr absl::Duration kInterval = absl::Milliseconds(1);

class FileWatchTest : public testing::Test {
 protected:
  ScratchDirectory directory_;
  ChangeCounter changes_;

  // Until it has looked at least once more: two changes to a file of the test's own.
  void AwaitLooks() {
    const std::string path = directory_.Write("own", "");
    ChangeCounter own;
    const FileWatch watch({path}, kInterval, [&] { own.Add(); });
    for (int i = 1; i <= 3; ++i) {
      directory_.Write("own", std::string(static_cast<size_t>(i), 'x'));
      ASSERT_TRUE(own.WaitFor(i));
    }
  }
};

TEST_F(FileWatchTest, TellsOfAFileThatIsWrittenAnew) {
  const std::string path = directory_.Write("f", "one");
  const FileWatch watch({path}, kInterval, [&] { changes_.Add(); });
  AwaitLooks();
  EXPECT_EQ(changes_.count(), 0) << "nothing has changed yet";
  directory_.Write("f", "three");
  EXPECT_TRUE(changes_.WaitFor(1));
}

TEST_F(FileWatchTest, TellsOfAFileThatIsReplacedByOneOfTheSameSizeAndTime) {
  const std::string path = directory_.Write("f", "one");
  const std::string next = directory_.Write("next", "two");
  std::filesystem::last_write_time(next, std::filesystem::last_write_time(path));
  const FileWatch watch({path}, kInterval, [&] { changes_.Add(); });
  std::filesystem::rename(next, path);
  EXPECT_TRUE(changes_.WaitFor(1));
}

TEST_F(FileWatchTest, TellsOfAFileThatGoesAndComes) {
  const std::string path = directory_.Write("f", "one");
  const FileWatch watch({path}, kInterval, [&] { changes_.Add(); });
  std::filesystem::remove(path);
  ASSERT_TRUE(changes_.WaitFor(1));
  directory_.Write("f", "one");
  EXPECT_TRUE(changes_.WaitFor(2));
}

// A Secret's mount: f -> ..data/f, ..data -> a directory of the day.
TEST_F(FileWatchTest, TellsOfALinkOnTheWayThatIsExchanged) {
  namespace fs = std::filesystem;
  const fs::path& root = directory_.path();
  fs::create_directory(root / "..1");
  fs::create_directory(root / "..2");
  directory_.Write("..1/f", "same");
  directory_.Write("..2/f", "same");
  fs::create_directory_symlink("..1", root / "..data");
  fs::create_symlink("..data/f", root / "f");
  const FileWatch watch({root / "f"}, kInterval, [&] { changes_.Add(); });
  fs::create_directory_symlink("..2", root / "..data_tmp");
  fs::rename(root / "..data_tmp", root / "..data");
  EXPECT_TRUE(changes_.WaitFor(1));
}

TEST_F(FileWatchTest, WatchesSeveralFiles) {
  const std::string first = directory_.Write("first", "1");
  const std::string second = directory_.Write("second", "1");
  const FileWatch watch({first, second}, kInterval, [&] { changes_.Add(); });
  directory_.Write("second", "22");
  ASSERT_TRUE(changes_.WaitFor(1));
  directory_.Write("first", "333");
  EXPECT_TRUE(changes_.WaitFor(2));
}

TEST_F(FileWatchTest, EndsAtOnceHoweverLongTheInterval) {
  const std::string path = directory_.Write("f", "one");
  {
    const FileWatch watch({path}, absl::Hours(24), [&] { changes_.Add(); });
  }
  EXPECT_EQ(changes_.count(), 0);
}

}  // namespace
}  // namespace sluice
