#include "client/loadgen/load_totals.h"

#include <algorithm>

namespace sluice {

void LoadTotals::Merge(const LoadTotals& other) {
  due += other.due;
  answered += other.answered;
  cancelled += other.cancelled;
  refused += other.refused;
  interrupted += other.interrupted;
  errors += other.errors;
  for (const auto& [name, error] : other.errors_by_name) {
    ErrorCount& mine = errors_by_name[name];
    if (mine.count == 0) mine.message = error.message;
    mine.count += error.count;
  }
  plain += other.plain;
  good += other.good;
  window_due += other.window_due;
  window_answered += other.window_answered;
  window_served += other.window_served;
  window_output_tokens += other.window_output_tokens;
  window_prompt_tokens += other.window_prompt_tokens;
  window_messages += other.window_messages;
  last_end_ns = std::max(last_end_ns, other.last_end_ns);
  first_token.Merge(other.first_token);
  inter_token.Merge(other.inter_token);
  message_gap.Merge(other.message_gap);
  end_to_end.Merge(other.end_to_end);
  send_delay.Merge(other.send_delay);
  if (other.seconds.size() > seconds.size()) seconds.resize(other.seconds.size());
  for (size_t i = 0; i < other.seconds.size(); ++i) {
    seconds[i].due += other.seconds[i].due;
    seconds[i].answered += other.seconds[i].answered;
    seconds[i].errors += other.seconds[i].errors;
    seconds[i].output_tokens += other.seconds[i].output_tokens;
  }
}

}  // namespace sluice
