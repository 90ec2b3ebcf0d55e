#include "kernels/token_counts.h"

#include "kernels/check.h"
#include "kernels/cpu_ops.h"

namespace sluice {

void MarkPromptCpu(const MarkPromptArgs& args) {
  SLUICE_CHECK(args.rows >= 0);
  SLUICE_CHECK(args.vocab > 0);
  for (int64_t row = 0; row < args.rows; ++row) {
    if (args.slots[row] < 0) continue;
    SLUICE_CHECK(args.tokens[row] >= 0 && args.tokens[row] < args.vocab);
    args.counts[int64_t{args.slots[row]} * args.vocab + args.tokens[row]] |= kInPrompt;
  }
}

}  // namespace sluice
