#include "server/flood_watch.h"

#include <utility>

namespace sluice {

std::vector<FloodWatch::Verdict> FloodWatch::Look(
    const std::unordered_map<int, ConnectionTraffic>& connections) {
  std::vector<Verdict> verdicts;
  std::unordered_map<int, Seen> seen;
  for (const auto& [descriptor, traffic] : connections) {
    const auto before = seen_.find(descriptor);
    const bool is_new = before == seen_.end() || traffic.cookie != before->second.begin.cookie;
    Seen entry = is_new ? Seen{traffic, traffic, traffic.received} : before->second;
    if (traffic.unread == 0) entry.begin = traffic;
    if (traffic.sent != entry.answered.sent) {
      entry.answered = traffic;
      entry.looks = 0;
    }
    const int64_t unanswered = traffic.received - entry.answered.received;
    if (unanswered > kLongUnanswered && traffic.received > entry.received) ++entry.looks;
    entry.received = traffic.received;
    if (traffic.received - entry.begin.received > kMostAtOnce) {
      verdicts.push_back({descriptor, traffic, "endless"});
    } else if (unanswered > kMostUnanswered || entry.looks > kLooksUnanswered) {
      verdicts.push_back({descriptor, traffic, "unanswered"});
    } else {
      seen.emplace(descriptor, entry);
    }
  }
  seen_ = std::move(seen);
  return verdicts;
}

}  // namespace sluice
