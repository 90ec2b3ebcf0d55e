#include "server/process_metrics.h"

#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace sluice {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

// Fields of /proc/self/stat, counted from the one after the command's name (proc(5): 3 is state).
constexpr size_t kUserTicks = 14 - 3;
constexpr size_t kSystemTicks = 15 - 3;
constexpr size_t kStartTicks = 22 - 3;
constexpr size_t kResidentPages = 24 - 3;

std::string ReadFile(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<double> ReadStat() {
  const std::string stat = ReadFile("/proc/self/stat");
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos || name_end + 2 > stat.size()) return {};
  std::vector<double> values;
  for (const absl::string_view word : absl::StrSplit(stat.substr(name_end + 2), ' ')) {
    double value = 0;
    values.push_back(absl::SimpleAtod(word, &value) ? value : 0);
  }
  return values;
}

std::optional<double> BootTime() {
  for (const absl::string_view line : absl::StrSplit(ReadFile("/proc/stat"), '\n')) {
    const std::pair<absl::string_view, absl::string_view> words = absl::StrSplit(line, ' ');
    double value = 0;
    if (words.first == "btime" && absl::SimpleAtod(words.second, &value)) return value;
  }
  return std::nullopt;
}

std::optional<double> OpenFiles() {
  std::error_code error;
  std::filesystem::directory_iterator entry("/proc/self/fd", error);
  double count = 0;
  while (!error && entry != std::filesystem::directory_iterator()) {
    ++count;
    entry.increment(error);
  }
  if (error) return std::nullopt;
  return count - 1;  // the one that reads the directory
}

MetricFamily Family(const char* name, const char* help, MetricType type, double value) {
  prometheus::ClientMetric metric;
  metric.gauge.value = value;
  metric.counter.value = value;
  return {name, help, type, {metric}};
}

}  // namespace

std::vector<MetricFamily> ProcessMetrics::Collect() const {
  std::vector<MetricFamily> families;
  const std::vector<double> stat = ReadStat();
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  const std::optional<double> boot_time = BootTime();
  if (stat.size() > kResidentPages) {
    families.push_back(Family("process_cpu_seconds_total", "CPU time of user and system.",
                              MetricType::Counter,
                              (stat[kUserTicks] + stat[kSystemTicks]) / ticks));
    families.push_back(Family("process_resident_memory_bytes", "Resident memory.",
                              MetricType::Gauge,
                              stat[kResidentPages] * static_cast<double>(sysconf(_SC_PAGESIZE))));
  }
  if (stat.size() > kStartTicks && boot_time.has_value()) {
    families.push_back(Family("process_start_time_seconds", "Start of the process, Unix time.",
                              MetricType::Gauge, *boot_time + stat[kStartTicks] / ticks));
  }
  if (const std::optional<double> files = OpenFiles(); files.has_value()) {
    families.push_back(
        Family("process_open_fds", "Open file descriptors.", MetricType::Gauge, *files));
  }
  return families;
}

}  // namespace sluice
