// What low-precision states and weights cost in accuracy: KL divergence of the next token's
// distribution from that with float32 states, over tokens that decode one at a time.
//
//   state_accuracy --model DIR [--device cpu|cuda] [--dtype bfloat16|float32] [--threads N]
//                  [--sequences 16] [--tokens 1000] [--seed 1]
//                  [--formats float16:0,float16:16,int8:16]
//
// Float32 states draw the tokens of every sequence at temperature 1; tests/engine/state_accuracy.h
// says how. A format is a type and the tokens of its ring, and maybe the type of the weights:
// float32:0:fp8. Prints a Markdown table.

#include "tests/engine/state_accuracy.h"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

ABSL_FLAG(std::string, model, "", "Hugging Face model directory; needs no tokenizer");
ABSL_FLAG(std::string, device, "auto", "auto, cpu, cuda or cuda:N");
ABSL_FLAG(std::string, dtype, "auto", "auto, bfloat16 or float32");
ABSL_FLAG(int32_t, threads, 0, "CPU threads; 0: all");
ABSL_FLAG(int32_t, sequences, 16, "that decode at once, 1 to 256");
ABSL_FLAG(int32_t, tokens, 1000, "that each sequence draws");
ABSL_FLAG(uint64_t, seed, 1, "of the drawn tokens");
ABSL_FLAG(std::string, formats,
          "float32:16,float32:32,float16:0,float16:16,float16:32,int8:0,int8:16,int8:32",
          "state_type:state_ring or state_type:state_ring:weight_type, comma separated");

namespace sluice {
namespace {

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "state_accuracy: %s\n", message.c_str());
  std::exit(2);
}

std::vector<StateOption> Options(const std::string& list) {
  std::vector<StateOption> options;
  for (const absl::string_view item : absl::StrSplit(list, ',', absl::SkipEmpty())) {
    const std::vector<std::string> parts = absl::StrSplit(item, ':');
    StateOption option = {parts[0], 0};
    if (parts.size() < 2 || parts.size() > 3 || !absl::SimpleAtoi(parts[1], &option.ring)) {
      Fail(absl::StrCat("\"", item, "\" is no type:ring or type:ring:weights"));
    }
    if (parts.size() == 3) option.weights = parts[2];
    options.push_back(option);
  }
  return options;
}

void PrintRow(const std::string& state, const std::string& ring, const StateAccuracy& a) {
  std::printf("| %s | %s | %.1e | %.1e | %.1e | %.1e | %.1e | %.2f %% | %+.3f %% |\n",
              state.c_str(), ring.c_str(), a.mean, a.p99, a.max, a.first_tenth, a.last_tenth,
              100 * a.same_argmax, 100 * a.perplexity_change);
}

void Print(const AccuracyRun& run, const AccuracyReport& report) {
  std::printf("%s, weights %s, %d x %d tokens of perplexity %.2f\n\n", report.device.c_str(),
              report.weight_dtype.c_str(), run.sequences, run.tokens, report.perplexity);
  std::printf(
      "| state | ring | KL, mean | p99 | max | first tenth | last tenth | same argmax | "
      "perplexity |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n");
  for (size_t i = 0; i < run.options.size(); ++i) {
    const StateOption& option = run.options[i];
    const bool plain = option.weights == "checkpoint";
    PrintRow(absl::StrCat("`", option.type, "`",
                          plain ? "" : absl::StrCat(", weights `", option.weights, "`")),
             absl::StrCat(option.ring), report.options[i]);
  }
  PrintRow("none at all", "", report.without);
}

int Main() {
  AccuracyRun run;
  run.config.model_dir = absl::GetFlag(FLAGS_model);
  run.config.needs_tokenizer = false;
  run.config.device = absl::GetFlag(FLAGS_device);
  run.config.dtype = absl::GetFlag(FLAGS_dtype);
  run.config.threads = absl::GetFlag(FLAGS_threads);
  run.sequences = absl::GetFlag(FLAGS_sequences);
  run.tokens = absl::GetFlag(FLAGS_tokens);
  run.seed = absl::GetFlag(FLAGS_seed);
  run.options = Options(absl::GetFlag(FLAGS_formats));
  if (run.sequences < 1 || run.sequences > 256) Fail("--sequences must lie in [1, 256]");
  if (run.tokens < 1) Fail("--tokens must be positive");
  const absl::StatusOr<AccuracyReport> report = MeasureStateAccuracy(run);
  if (!report.ok()) Fail(report.status().ToString());
  Print(run, *report);
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return sluice::Main();
}
