#include <algorithm>
#include <array>

#include "client/loadgen/load_report.h"
#include "client/loadgen/monotonic_clock.h"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kSchema[] = "sluice-loadgen/1";

Json LatencyJson(const LatencyHistogram& histogram) {
  Json json;
  json["count"] = histogram.count();
  if (histogram.count() == 0) return json;
  json["mean"] = histogram.mean_ns() * 1e-9;
  json["p50"] = ToSeconds(histogram.Percentile(50));
  json["p90"] = ToSeconds(histogram.Percentile(90));
  json["p99"] = ToSeconds(histogram.Percentile(99));
  json["max"] = ToSeconds(histogram.max_ns());
  return json;
}

Json CdfJson(const LatencyHistogram& histogram) {
  Json json = Json::array();
  for (const auto& [ns, share] : histogram.Cumulative()) {
    json.push_back(Json::array({ToSeconds(ns), share}));
  }
  return json;
}

struct NamedHistogram {
  const char* name;
  LatencyHistogram LoadTotals::*histogram;
};

constexpr std::array<NamedHistogram, 4> kLatencies = {{
    {"time_to_first_token", &LoadTotals::first_token},
    {"inter_token", &LoadTotals::inter_token},
    {"message_gap", &LoadTotals::message_gap},
    {"end_to_end", &LoadTotals::end_to_end},
}};

Json LoadJson(const LoadOptions& options) {
  Json json;
  if (options.rate > 0) {
    json["loop"] = "open";
    json["rate"] = options.rate;
    json["arrivals"] = options.arrivals == ArrivalProcess::kPoisson ? "poisson" : "constant";
    json["max_in_flight"] = options.max_in_flight;
  } else {
    json["loop"] = "closed";
    json["users"] = options.users;
    json["think_time_seconds"] = absl::ToDoubleSeconds(options.think_time);
    json["think_time"] = options.exponential_think ? "exponential" : "fixed";
  }
  json["seed"] = options.seed;
  json["threads"] = options.threads;
  return json;
}

Json RequestsJson(const LoadTotals& totals) {
  Json json;
  json["measured"] = totals.due;
  json["answered"] = totals.answered;
  json["cancelled"] = totals.cancelled;
  json["refused"] = totals.refused;
  json["interrupted"] = totals.interrupted;
  json["errors"] = totals.errors;
  return json;
}

Json ErrorsJson(const LoadTotals& totals) {
  Json json = Json::object();
  for (const auto& [name, error] : totals.errors_by_name) {
    json[name] = {{"count", error.count}, {"message", error.message}};
  }
  return json;
}

Json ThroughputJson(const LoadResult& result) {
  const LoadTotals& totals = result.totals;
  Json json;
  json["due_per_second"] = PerSecond(result, totals.window_due);
  json["answered_per_second"] = PerSecond(result, totals.window_answered);
  json["served_per_second"] = PerSecond(result, totals.window_served);
  json["output_tokens_per_second"] = PerSecond(result, totals.window_output_tokens);
  json["prompt_tokens_per_second"] = PerSecond(result, totals.window_prompt_tokens);
  json["messages_per_second"] = PerSecond(result, totals.window_messages);
  return json;
}

Json WindowJson(const LoadResult& result) {
  Json json;
  json["warmup_seconds"] = ToSeconds(result.window.begin_ns - result.window.start_ns);
  json["seconds"] = WindowSeconds(result);
  json["drain_seconds"] = std::max(ToSeconds(result.over_ns - result.window.end_ns), 0.0);
  json["interrupted"] = result.interrupted;
  return json;
}

Json SeriesJson(const LoadTotals& totals) {
  Json json = {{"due", Json::array()},
               {"answered", Json::array()},
               {"errors", Json::array()},
               {"output_tokens", Json::array()}};
  for (const SecondCounts& second : totals.seconds) {
    json["due"].push_back(second.due);
    json["answered"].push_back(second.answered);
    json["errors"].push_back(second.errors);
    json["output_tokens"].push_back(second.output_tokens);
  }
  return json;
}

Json GoodputJson(const LoadSetting& setting, const LoadResult& result) {
  const std::string objective = ToText(setting.load.objective);
  if (objective.empty()) return nullptr;
  return {{"objective", objective},
          {"plain", result.totals.plain},
          {"good", result.totals.good},
          {"share", GoodShare(result.totals)},
          {"requests_per_second", PerSecond(result, result.totals.good)}};
}

}  // namespace

Json ReportJson(const LoadSetting& setting, const LoadResult& result) {
  const LoadTotals& totals = result.totals;
  Json json;
  json["schema"] = kSchema;
  json["version"] = SLUICE_VERSION;
  json["started"] = absl::FormatTime(absl::RFC3339_sec, setting.started, absl::UTCTimeZone());
  json["command"] = setting.command;
  json["server"] = {{"address", setting.address},
                    {"model", setting.model.name()},
                    {"device", setting.model.device()},
                    {"version", setting.model.server_version()}};
  json["load"] = LoadJson(setting.load);
  json["window"] = WindowJson(result);
  json["requests"] = RequestsJson(totals);
  json["errors"] = ErrorsJson(totals);
  json["throughput"] = ThroughputJson(result);
  json["goodput"] = GoodputJson(setting, result);
  for (const NamedHistogram& named : kLatencies) {
    json["latency_seconds"][named.name] = LatencyJson(totals.*named.histogram);
    json["cdf"][named.name] = CdfJson(totals.*named.histogram);
  }
  const double seconds = WindowSeconds(result);
  json["loadgen"] = {{"cpu_seconds", result.cpu_seconds},
                     {"cpu_share", seconds > 0 ? result.cpu_seconds / seconds : 0.0},
                     {"sent_late_seconds", LatencyJson(totals.send_delay)}};
  json["series"] = SeriesJson(totals);
  return json;
}

}  // namespace sluice
