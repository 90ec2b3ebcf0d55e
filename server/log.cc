#include "server/log.h"

#include <cstdio>
#include <memory>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "spdlog/async.h"
#include "spdlog/async_logger.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace sluice {
namespace {

constexpr size_t kQueuedLines = 8192;

struct Writer {
  LogFormat format;
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
  auto logger = std::make_shared<spdlog::async_logger>(
      "sluice", std::make_shared<spdlog::sinks::stderr_sink_mt>(), thread,
      spdlog::async_overflow_policy::overrun_oldest);
  logger->set_pattern(format == LogFormat::kJson
                          ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})"
                          : "%Y-%m-%dT%H:%M:%S.%eZ %l %v",
                      spdlog::pattern_time_type::utc);
  logger->set_level(ToSpdlog(level));
  logger->flush_on(spdlog::level::debug);
  WriterSlot& slot = Slot();
  const std::lock_guard<std::mutex> lock(slot.mutex);
  slot.writer =
      std::make_shared<const Writer>(Writer{format, std::move(logger), std::move(thread)});
}

void StopLogging() {
  std::shared_ptr<const Writer> writer;
  {
    WriterSlot& slot = Slot();
    const std::lock_guard<std::mutex> lock(slot.mutex);
    writer = std::move(slot.writer);
    slot.writer = nullptr;
  }
  // The thread pool's destructor writes what is queued; a Log() under way keeps it until it
  // returns.
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
