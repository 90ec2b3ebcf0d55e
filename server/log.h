// Structured logs on stderr: one line an event, as text (event key=value ...) or as JSON.
//
// Whatever a client chose is escaped, so that no value can end a line or forge a field. A line is
// handed to a writer thread over a bounded queue: when stderr is held up the oldest lines are lost,
// and no caller waits. What stderr refuses is lost too; once it takes lines again, one says how
// many.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };
enum class LogFormat : uint8_t { kText, kJson };

// The fields of one line, in the order they were added.
class LogFields {
 public:
  LogFields& Add(std::string_view key, std::string_view value);
  LogFields& Add(std::string_view key, int64_t value);
  LogFields& Add(std::string_view key, int32_t value) { return Add(key, int64_t{value}); }
  LogFields& AddSeconds(std::string_view key, double value);  // rounded to microseconds

  // "event key=value ..." or "\"event\":\"...\",\"key\":value,..."; ASCII, without a line break.
  std::string Render(LogFormat format, std::string_view event) const;

 private:
  struct Field {
    std::string key;
    std::string value;
    bool quoted;  // a string, which JSON quotes
  };
  std::vector<Field> fields_;
};

// Starts the writer thread. Until then, and after StopLogging, lines below kWarning are dropped and
// the rest is written to stderr at once.
void StartLogging(LogFormat format, LogLevel level);

// Which lines are written from now on. Thread-safe; without effect before StartLogging.
void SetLogLevel(LogLevel level);

// Writes out what is queued, waiting for a reader of stderr for at most a second, and ends the
// writer thread.
void StopLogging();

// Lines that were lost since StartLogging. Thread-safe.
int64_t LostLogLines();

// Thread-safe; does not wait. `event` is a lower-case word of ours.
void Log(LogLevel level, std::string_view event, const LogFields& fields);

}  // namespace sluice
