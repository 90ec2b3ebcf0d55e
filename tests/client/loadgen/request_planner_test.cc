#include "client/loadgen/request_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/client/loadgen/stub_server.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

constexpr int kRequests = 4000;

v1::GetModelResponse Model() {
  v1::GetModelResponse model;
  model.set_vocab_size(50);
  model.add_eos_token_ids(3);
  model.mutable_limits()->set_max_prompt_tokens(200);
  model.mutable_limits()->set_max_output_tokens(100);
  model.mutable_limits()->set_max_text_bytes(1000);
  return model;
}

LengthDistribution Lengths(const std::string& spec) { return *LengthDistribution::Parse(spec); }

RequestPlanner Planner(const WorkloadOptions& options) {
  auto planner = RequestPlanner::Make(options, Model());
  EXPECT_TRUE(planner.ok()) << planner.status();
  return *std::move(planner);
}

std::string Problem(const WorkloadOptions& options) {
  return std::string(RequestPlanner::Make(options, Model()).status().message());
}

std::string WritePrompts(const std::string& name, const std::string& content) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/", getpid(), ".", name);
  std::ofstream(path) << content;
  return path;
}

TEST(RequestPlanner, MakesTheSameRequestOfASeedAndAnIndex) {
  WorkloadOptions options;
  options.cancel_share = 0.5;
  options.prompt_tokens = Lengths("uniform:1,100");
  const RequestPlanner planner = Planner(options);
  const RequestPlan plan = planner.Plan(17);
  EXPECT_EQ(plan.index, 17U);
  EXPECT_EQ(plan.message.request_id(), "load-17");
  EXPECT_EQ(Planner(options).Plan(17).message.SerializeAsString(),
            plan.message.SerializeAsString());
  EXPECT_NE(planner.Plan(18).message.sampling().seed(), plan.message.sampling().seed());
  options.seed = 1;
  EXPECT_NE(Planner(options).Plan(17).message.SerializeAsString(),
            plan.message.SerializeAsString());
}

TEST(RequestPlanner, DrawsTokensOfTheVocabularyThatEndNothing) {
  WorkloadOptions options;
  options.prompt_tokens = Lengths("uniform:5,15");
  options.output_tokens = Lengths("uniform:7,9");
  options.temperature = 0.5F;
  options.top_k = 4;
  options.top_p = 0.75F;
  options.ignore_eos = true;
  const RequestPlanner planner = Planner(options);
  std::set<uint32_t> tokens;
  std::set<int64_t> lengths;
  for (int i = 0; i < 500; ++i) {
    const RequestPlan plan = planner.Plan(static_cast<uint64_t>(i));
    EXPECT_EQ(plan.kind, LoadKind::kPlain);
    EXPECT_EQ(plan.prompt_tokens, plan.message.token_ids().ids_size());
    lengths.insert(plan.prompt_tokens);
    tokens.insert(plan.message.token_ids().ids().begin(), plan.message.token_ids().ids().end());
    EXPECT_GE(plan.message.stopping().max_tokens(), 7U);
    EXPECT_LE(plan.message.stopping().max_tokens(), 9U);
    EXPECT_TRUE(plan.message.stopping().ignore_eos());
    EXPECT_EQ(plan.message.sampling().temperature(), 0.5F);
    EXPECT_EQ(plan.message.sampling().top_k(), 4U);
    EXPECT_EQ(plan.message.sampling().top_p(), 0.75F);
    EXPECT_EQ(FindFault(plan.message, 50), "");
  }
  EXPECT_EQ(tokens.size(), 49U);  // all but the one that ends
  EXPECT_EQ(tokens.count(3), 0U);
  EXPECT_EQ(lengths.size(), 11U);
}

TEST(RequestPlanner, LeavesSamplingToTheModelIfNothingIsSaid) {
  const RequestPlan plan = Planner({}).Plan(0);
  EXPECT_TRUE(plan.message.sampling().has_seed());
  EXPECT_FALSE(plan.message.sampling().has_temperature());
  EXPECT_FALSE(plan.message.sampling().has_top_k());
  EXPECT_FALSE(plan.message.sampling().has_top_p());
}

TEST(RequestPlanner, DrawsWords) {
  WorkloadOptions options;
  options.synthetic.words = true;
  options.prompt_tokens = Lengths("12");
  const RequestPlan plan = Planner(options).Plan(0);
  const std::vector<std::string> words = absl::StrSplit(plan.message.text(), ' ');
  EXPECT_EQ(words.size(), 12U);
  EXPECT_EQ(plan.prompt_tokens, 0);  // the server will say
}

TEST(RequestPlanner, SharesPrefixes) {
  WorkloadOptions options;
  options.prompt_tokens = Lengths("4");
  options.synthetic.shared_share = 0.25;
  options.synthetic.prefixes = 3;
  options.synthetic.prefix_tokens = 20;
  const RequestPlanner planner = Planner(options);
  std::map<std::string, int> prefixes;
  for (int i = 0; i < kRequests; ++i) {
    const RequestPlan plan = planner.Plan(static_cast<uint64_t>(i));
    const auto& ids = plan.message.token_ids().ids();
    if (ids.size() == 4) continue;
    ASSERT_EQ(ids.size(), 24);
    std::string prefix;
    for (int k = 0; k < 20; ++k) absl::StrAppend(&prefix, ids[k], ",");
    ++prefixes[prefix];
  }
  ASSERT_EQ(prefixes.size(), 3U);
  for (const auto& [prefix, count] : prefixes) EXPECT_NEAR(count, kRequests / 12.0, 70);
}

TEST(RequestPlanner, SharesPrefixesOfWords) {
  WorkloadOptions options;
  options.synthetic = {.words = true, .shared_share = 1, .prefixes = 1, .prefix_tokens = 3};
  options.prompt_tokens = Lengths("2");
  const RequestPlanner planner = Planner(options);
  std::set<std::string> prefixes;
  for (uint64_t i = 0; i < 50; ++i) {
    const RequestPlan plan = planner.Plan(i);
    const std::vector<std::string> words = absl::StrSplit(plan.message.text(), ' ');
    ASSERT_EQ(words.size(), 5U);
    prefixes.insert(absl::StrCat(words[0], words[1], words[2]));
  }
  EXPECT_EQ(prefixes.size(), 1U);
}

TEST(RequestPlanner, KeepsToItsShares) {
  WorkloadOptions options;
  options.cancel_share = 0.3;
  options.slow_share = 0.05;
  options.invalid_share = 0.1;
  options.cancel_after = Lengths("uniform:2,6");
  const RequestPlanner planner = Planner(options);
  std::map<LoadKind, int> counts;
  for (int i = 0; i < kRequests; ++i) {
    const RequestPlan plan = planner.Plan(static_cast<uint64_t>(i));
    ++counts[plan.kind];
    EXPECT_GE(plan.cancel_after_tokens, 2);
    EXPECT_LE(plan.cancel_after_tokens, 6);
  }
  EXPECT_NEAR(counts[LoadKind::kCancel], 0.3 * kRequests, 120);
  EXPECT_NEAR(counts[LoadKind::kSlow], 0.05 * kRequests, 60);
  EXPECT_NEAR(counts[LoadKind::kInvalid], 0.1 * kRequests, 80);
}

TEST(RequestPlanner, MakesEveryFaultThatItNames) {
  WorkloadOptions options;
  options.invalid_share = 1;
  const RequestPlanner planner = Planner(options);
  std::set<std::string> faults;
  for (uint64_t i = 0; i < 300; ++i) {
    const RequestPlan plan = planner.Plan(i);
    faults.insert(plan.fault);
    EXPECT_EQ(FindFault(plan.message, 50), plan.fault);
  }
  EXPECT_THAT(faults, ::testing::UnorderedElementsAre("prompt", "text", "token_ids",
                                                      "sampling.temperature", "sampling.top_p",
                                                      "stopping.max_tokens", "stopping.stop",
                                                      "output.top_logprobs", "request_id"));
}

TEST(RequestPlanner, TakesPromptsFromALineEach) {
  WorkloadOptions options;
  options.prompt_file = WritePrompts("prompts.txt", "Once upon a time\r\n\nIt was {\"odd\"\n");
  const RequestPlanner planner = Planner(options);
  EXPECT_EQ(planner.Plan(0).message.text(), "Once upon a time");
  EXPECT_EQ(planner.Plan(1).message.text(), "It was {\"odd\"");
  EXPECT_EQ(planner.Plan(2).message.text(), "Once upon a time");
}

TEST(RequestPlanner, TakesPromptsFromJsonLines) {
  WorkloadOptions options;
  options.prompt_file = WritePrompts(
      "prompts.jsonl", "{\"text\": \"Once\", \"max_tokens\": 9}\n{\"token_ids\": [1, 2, 49]}\n");
  options.output_tokens = Lengths("5");
  const RequestPlanner planner = Planner(options);
  EXPECT_EQ(planner.Plan(0).message.text(), "Once");
  EXPECT_EQ(planner.Plan(0).message.stopping().max_tokens(), 9U);
  EXPECT_EQ(planner.Plan(1).message.token_ids().ids_size(), 3);
  EXPECT_EQ(planner.Plan(1).prompt_tokens, 3);
  EXPECT_EQ(planner.Plan(1).message.stopping().max_tokens(), 5U);
}

struct BadPrompts {
  const char* name;
  std::string content;
  const char* message;
};

TEST(RequestPlanner, SaysWhatIsWrongWithAPromptFile) {
  const BadPrompts bad_files[] = {
      {"a.txt", "\n\n", "holds no prompts"},
      {"b.txt", "fine\n\xff\n", "line 2 is not valid UTF-8"},
      {"c.txt", std::string(1001, 'x'), "prompt 1: asks for 1001; the server's max_text_bytes"},
      {"a.jsonl", "[1]", "line 1: no JSON object"},
      {"b.jsonl", "{\"text\": \"x\"}\n{}\n", "line 2: give exactly one of text and token_ids"},
      {"c.jsonl", "{\"text\": \"x\", \"token_ids\": [1]}", "exactly one"},
      {"d.jsonl", "{\"txt\": \"x\"}", "\"txt\" is none of text, token_ids, max_tokens"},
      {"e.jsonl", "{\"text\": 5}", "text is not a string"},
      {"f.jsonl", "{\"text\": \"\"}", "text is empty"},
      {"g.jsonl", "{\"token_ids\": [1, -2]}", "what is no token id"},
      {"h.jsonl", "{\"token_ids\": 4}", "token_ids is not a list"},
      {"i.jsonl", "{\"text\": \"x\", \"max_tokens\": 0}", "max_tokens is not a whole number"},
      {"j.jsonl", "{\"token_ids\": [50]}", "token id 50 is not in the vocabulary of 50"},
      {"k.jsonl", "{\"text\": \"x\", \"max_tokens\": 101}", "max_output_tokens is 100"},
      {"l.jsonl", "{\"text\": ", "line 1"},
  };
  for (const BadPrompts& bad : bad_files) {
    WorkloadOptions options;
    options.prompt_file = WritePrompts(bad.name, bad.content);
    EXPECT_THAT(Problem(options), HasSubstr(bad.message)) << bad.name;
  }
  WorkloadOptions options;
  options.prompt_file = "/nonexistent/prompts";
  EXPECT_EQ(RequestPlanner::Make(options, Model()).status().code(), absl::StatusCode::kNotFound);
}

TEST(RequestPlanner, RefusesToAskForMoreThanTheServerAllows) {
  WorkloadOptions options;
  options.output_tokens = Lengths("uniform:1,101");
  EXPECT_EQ(Problem(options),
            "--output-tokens: asks for 101; the server's max_output_tokens is 100");
  options = {};
  options.prompt_tokens = Lengths("201");
  EXPECT_EQ(Problem(options),
            "--prompt-tokens: asks for 201; the server's max_prompt_tokens is 200");
  options.prompt_tokens = Lengths("101");
  options.synthetic.shared_share = 0.1;
  options.synthetic.prefix_tokens = 100;
  EXPECT_THAT(Problem(options), HasSubstr("--shared-prefix-tokens: asks for 201"));
}

TEST(RequestPlanner, RefusesAModelThatHasNothingButEnds) {
  v1::GetModelResponse model = Model();
  model.set_vocab_size(1);
  EXPECT_THAT(std::string(RequestPlanner::Make({}, model).status().message()),
              HasSubstr("vocab_size 1"));
}

}  // namespace
}  // namespace sluice
