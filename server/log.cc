#include "server/log.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "server/log_sink.h"
#include "spdlog/async.h"
#include "spdlog/async_logger.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/spdlog.h"

namespace sluice {
namespace {

constexpr size_t kQueuedLines = 8192;
// How long the last lines may take when the process ends.
constexpr absl::Duration kLastLines = absl::Seconds(1);
constexpr char kTextPattern[] = "%Y-%m-%dT%H:%M:%S.%eZ %l %v";
constexpr char kJsonPattern[] = R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})";

struct Writer {
  LogFormat format;
  std::shared_ptr<LogSink> sink;
  std::shared_ptr<spdlog::logger> logger;
  // Last, so that it ends before the logger it writes to.
  std::shared_ptr<spdlog::details::thread_pool> thread;
};

struct WriterSlot {
  std::mutex mutex;
  std::shared_ptr<const Writer> writer;
};

// Never destroyed: gRPC's threads may log while the process ends.
WriterSlot& Slot() {
  static auto& slot = *new WriterSlot;
  return slot;
}

std::shared_ptr<const Writer> CurrentWriter() {
  WriterSlot& slot = Slot();
  const std::lock_guard<std::mutex> lock(slot.mutex);
  return slot.writer;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

// The inside of a JSON string. Bytes outside printable ASCII are escaped one by one: a terminal or
// a log collector gets nothing that it could interpret.
std::string Escape(std::string_view value) {
  std::string out;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte > 0x7E) {
      absl::StrAppendFormat(&out, "\\u%04x", byte);
    } else {
      out += c;
    }
  }
  return out;
}

bool NeedsQuotes(std::string_view value) {
  for (const char c : value) {
    if (c <= ' ' || c > '~' || c == '"' || c == '\\' || c == '=') return true;
  }
  return value.empty();
}

}  // namespace

LogFields& LogFields::Add(std::string_view key, std::string_view value) {
  fields_.push_back({std::string(key), std::string(value), true});
  return *this;
}

LogFields& LogFields::Add(std::string_view key, int64_t value) {
  fields_.push_back({std::string(key), absl::StrCat(value), false});
  return *this;
}

LogFields& LogFields::AddSeconds(std::string_view key, double value) {
  fields_.push_back({std::string(key), absl::StrFormat("%.6f", value), false});
  return *this;
}

std::string LogFields::Render(LogFormat format, std::string_view event) const {
  const bool json = format == LogFormat::kJson;
  std::string line =
      json ? absl::StrCat("\"event\":\"", std::string(event), "\"") : std::string(event);
  for (const Field& field : fields_) {
    const bool quotes = field.quoted && (json || NeedsQuotes(field.value));
    const std::string value = quotes ? absl::StrCat("\"", Escape(field.value), "\"") : field.value;
    if (json) {
      absl::StrAppend(&line, ",\"", field.key, "\":", value);
    } else {
      absl::StrAppend(&line, " ", field.key, "=", value);
    }
  }
  return line;
}

void StartLogging(LogFormat format, LogLevel level) {
  auto thread = std::make_shared<spdlog::details::thread_pool>(kQueuedLines, 1);
  const char* const pattern = format == LogFormat::kJson ? kJsonPattern : kTextPattern;
  // The pool joins its thread, which asks this of it, before it ends, and whoever else asks holds
  // the writer. It must not be owned here: its own thread, as the last owner, would have to join
  // itself.
  const auto overrun = [pool = thread.get()] {
    return static_cast<int64_t>(pool->overrun_counter());
  };
  auto sink = std::make_shared<LogSink>(STDERR_FILENO, overrun, [format, pattern](int64_t lost) {
    const std::string text = LogFields().Add("lost", lost).Render(format, "log_lines_lost");
    const spdlog::details::log_msg message("sluice", spdlog::level::warn, text);
    spdlog::memory_buf_t line;
    spdlog::pattern_formatter(pattern, spdlog::pattern_time_type::utc).format(message, line);
    return std::string(line.data(), line.size());
  });
  auto logger = std::make_shared<spdlog::async_logger>(
      "sluice", sink, thread, spdlog::async_overflow_policy::overrun_oldest);
  logger->set_pattern(pattern, spdlog::pattern_time_type::utc);
  logger->set_level(ToSpdlog(level));
  WriterSlot& slot = Slot();
  const std::lock_guard<std::mutex> lock(slot.mutex);
  slot.writer = std::make_shared<const Writer>(
      Writer{format, std::move(sink), std::move(logger), std::move(thread)});
}

void SetLogLevel(LogLevel level) {
  const std::shared_ptr<const Writer> writer = CurrentWriter();
  if (writer != nullptr) writer->logger->set_level(ToSpdlog(level));
}

void StopLogging() {
  std::shared_ptr<const Writer> writer;
  {
    WriterSlot& slot = Slot();
    const std::lock_guard<std::mutex> lock(slot.mutex);
    writer = std::move(slot.writer);
    slot.writer = nullptr;
  }
  if (writer == nullptr) return;
  writer->sink->WaitUntil(absl::Now() + kLastLines);
  // The thread pool's destructor writes what is queued; a Log() under way keeps it until it
  // returns.
}

int64_t LostLogLines() {
  const std::shared_ptr<const Writer> writer = CurrentWriter();
  return writer == nullptr ? 0 : writer->sink->lost();
}

void Log(LogLevel level, std::string_view event, const LogFields& fields) {
  const std::shared_ptr<const Writer> writer = CurrentWriter();
  if (writer == nullptr) {
    if (level < LogLevel::kWarning) return;
    std::fprintf(stderr, "%s\n", fields.Render(LogFormat::kText, event).c_str());
    return;
  }
  if (!writer->logger->should_log(ToSpdlog(level))) return;
  const std::string line = fields.Render(writer->format, event);
  writer->logger->log(ToSpdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace sluice
