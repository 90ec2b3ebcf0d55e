#include "tests/soak/soak_run.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "client/loadgen/monotonic_clock.h"

namespace sluice {
namespace {

constexpr int64_t kSendAgainNs = 100'000'000;

int64_t Until(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return std::numeric_limits<int64_t>::max();
  return MonotonicNs() + absl::ToInt64Nanoseconds(duration);
}

// The server did not take it. gRPC itself says CANCELLED to a call that comes while it shuts down.
bool WasTurnedAway(const GenerateCall& call) {
  const RequestRecord& record = call.record();
  return record.end == RequestEnd::kError &&
         (record.error == "UNAVAILABLE" || record.error == "CANCELLED") &&
         call.token_ids().empty() && call.text().empty() && !call.finished().has_value();
}

const char* EndName(RequestEnd end) {
  switch (end) {
    case RequestEnd::kAnswered:
      return "answered";
    case RequestEnd::kCancelled:
      return "cancelled";
    case RequestEnd::kRefused:
      return "refused";
    case RequestEnd::kError:
      return "error";
    case RequestEnd::kInterrupted:
      return "interrupted";
  }
  return "";
}

// Stopped by a string: that; by a token: its id.
std::string StoppedBy(const v1::Finished& finished) {
  if (finished.has_stop()) return finished.stop();
  return finished.has_token_id() ? std::to_string(finished.token_id()) : "";
}

std::string Line(const GenerateCall& call, const SoakRequest& request) {
  const RequestRecord& record = call.record();
  nlohmann::json line = {{"index", request.index},
                         {"plan", request.plan},
                         {"kind", std::string(LoadKindName(request.kind))},
                         {"id", call.plan().message.request_id()},
                         {"field", call.plan().fault},
                         {"end", EndName(record.end)},
                         {"error", record.error},
                         {"message", record.message},
                         {"sent_ns", record.sent_ns},
                         {"first_ns", record.first_token_ns},
                         {"end_ns", record.end_ns},
                         {"text", call.text()},
                         {"token_ids", call.token_ids()},
                         {"finished", nullptr}};
  if (call.finished().has_value()) {
    const v1::Finished& finished = *call.finished();
    line["finished"] = {{"reason", v1::FinishReason_Name(finished.reason())},
                        {"stopped_by", StoppedBy(finished)},
                        {"prompt_tokens", finished.usage().prompt_tokens()},
                        {"output_tokens", finished.usage().output_tokens()},
                        {"seed", finished.seed()}};
  }
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

SoakRun::SoakRun(const SoakOptions& options, const SoakSchedule* schedule,
                 const LoadChannels& channels, std::FILE* out)
    : options_(options),
      schedule_(schedule),
      out_(out),
      until_ns_(Until(options.duration)),
      stats_(LoadWindow(), Objective()),
      users_at_work_(options.users),
      places_(static_cast<size_t>(options.users)),
      timers_(std::make_unique<TimerThread>()) {
  CallListener* listener = this;
  worker_ =
      std::make_unique<CallWorker>(&options_.call, timers_.get(), listener, channels, &stats_);
}

void SoakRun::Run() {
  for (int64_t user = 0; user < options_.users; ++user) NextOfUser(user);
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return users_at_work_ == 0; });
}

void SoakRun::NextOfUser(int64_t user) {
  Place place;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (next_ == schedule_->requests.size() || MonotonicNs() >= until_ns_) {
      --users_at_work_;
      changed_.notify_all();
      return;
    }
    place.request = next_++;
  }
  Send(user, place);
}

void SoakRun::Send(int64_t user, Place place) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    places_[static_cast<size_t>(user)] = place;
  }
  CallStart start;
  start.plan = schedule_->Plan(schedule_->requests[place.request], place.attempt);
  start.due_ns = MonotonicNs();
  start.user = user;
  worker_->Start(std::move(start));
}

void SoakRun::OnCallEnd(const GenerateCall& call) {
  const int64_t user = call.user();
  Place place;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    place = places_[static_cast<size_t>(user)];
  }
  std::fputs(Line(call, schedule_->requests[place.request]).c_str(), out_);
  std::fflush(out_);
  if (!WasTurnedAway(call)) {
    NextOfUser(user);
    return;
  }
  ++place.attempt;
  timers_->At(MonotonicNs() + kSendAgainNs, [this, user, place] { Send(user, place); });
}

}  // namespace sluice
