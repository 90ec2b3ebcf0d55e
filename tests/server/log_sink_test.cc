#include "server/log_sink.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "kernels/check.h"
#include "spdlog/details/log_msg.h"

namespace sluice {
namespace {

class LogSinkTest : public testing::Test {
 protected:
  LogSinkTest() {
    SLUICE_CHECK(pipe2(pipe_.data(), O_NONBLOCK) == 0);
    SLUICE_CHECK(fcntl(pipe_[1], F_SETPIPE_SZ, 8192) == 8192);
  }
  ~LogSinkTest() override {
    close(pipe_[0]);
    close(pipe_[1]);
  }

  static void Line(LogSink* sink, const std::string& text) {
    sink->log(spdlog::details::log_msg("test", spdlog::level::info, text));
  }

  std::string ReadAll() const {
    std::string text;
    std::array<char, 4096> buffer;
    ssize_t count = 0;
    while ((count = read(pipe_[0], buffer.data(), buffer.size())) > 0) {
      text.append(buffer.data(), static_cast<size_t>(count));
    }
    return text;
  }

  // A sink of short lines: the text alone, and "lost N".
  std::unique_ptr<LogSink> NewSink(int descriptor) {
    auto sink = std::make_unique<LogSink>(
        descriptor, [this] { return lost_elsewhere_; },
        [](int64_t lost) { return "lost " + std::to_string(lost) + "\n"; });
    sink->set_pattern("%v");
    return sink;
  }

  int64_t lost_elsewhere_ = 0;
  std::array<int, 2> pipe_{};
};

TEST_F(LogSinkTest, WritesLines) {
  const auto sink = NewSink(pipe_[1]);
  Line(sink.get(), "one");
  Line(sink.get(), "two");
  EXPECT_EQ(ReadAll(), "one\ntwo\n");
  EXPECT_EQ(sink->lost(), 0);
}

TEST_F(LogSinkTest, CountsWhatAFullDiskRefuses) {
  const int full = open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  const auto sink = NewSink(full);
  Line(sink.get(), "one");
  Line(sink.get(), "two");
  EXPECT_EQ(sink->lost(), 2);
  close(full);
}

TEST_F(LogSinkTest, SaysOnceHowManyWereLost) {
  const auto sink = NewSink(pipe_[1]);
  lost_elsewhere_ = 3;
  Line(sink.get(), "one");
  Line(sink.get(), "two");
  EXPECT_EQ(ReadAll(), "lost 3\none\ntwo\n");
  lost_elsewhere_ = 4;
  Line(sink.get(), "three");
  EXPECT_EQ(ReadAll(), "lost 4\nthree\n");
}

TEST_F(LogSinkTest, WaitsForAReader) {
  const auto sink = NewSink(pipe_[1]);
  const std::string line(3000, 'x');
  std::thread writer([&] {
    for (int i = 0; i < 10; ++i) Line(sink.get(), line);
  });
  std::string text;
  while (text.size() < 10 * (line.size() + 1)) text += ReadAll();
  writer.join();
  EXPECT_EQ(sink->lost(), 0);
}

TEST_F(LogSinkTest, WaitsNoLongerThanItIsTold) {
  const auto sink = NewSink(pipe_[1]);
  sink->WaitUntil(absl::Now() + absl::Milliseconds(200));
  const std::string line(10'000, 'x');  // more than the pipe takes
  const absl::Time begin = absl::Now();
  for (int i = 0; i < 10; ++i) Line(sink.get(), line);
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(190));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20));
  EXPECT_EQ(sink->lost(), 10);
  // The line that was cut ends before the next begins.
  ReadAll();
  Line(sink.get(), "next");
  EXPECT_EQ(ReadAll(), "\nlost 10\nnext\n");
}

}  // namespace
}  // namespace sluice
