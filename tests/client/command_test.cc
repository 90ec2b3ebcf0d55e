// The subcommands, with a backend that answers from a script: what they ask, what they print, and
// how they end.
#include "client/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_split.h"
#include "client/api_key.h"
#include "tests/client/fake_backend.h"
#include "tests/engine/safetensors_writer.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::StartsWith;

std::shared_ptr<FakeBackend> Story() {
  auto backend = std::make_shared<FakeBackend>();
  backend->outputs = {
      {"It was", {{11, -0.5F, {{11, -0.5F}, {12, -1.25F}}}, {13, -0.25F, {{13, -0.25F}}}}},
      {"", {{14, -0.75F, {}}}},
      {" night \xE2\x98\xBE", {{15, std::nullopt, {}}}}};
  Outcome& outcome = backend->outcome;
  outcome.reason = FinishReason::kStop;
  outcome.stop_string = "END";
  outcome.seed = 18446744073709551615ULL;
  outcome.request_id = "r1";
  outcome.prompt_tokens = 3;
  outcome.output_tokens = 4;
  outcome.first_token_seconds = 0.0125;
  outcome.decode_seconds = 0.03;
  return backend;
}

class TempFile {
 public:
  TempFile(const std::string& name, const std::string& content)
      : path_(::testing::TempDir() + "/" + name) {
    std::ofstream(path_) << content;
  }
  ~TempFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(Sluice, WithoutACommandIsAUsageError) {
  const CommandRun run({});
  EXPECT_EQ(run.code, kExitUsage);
  EXPECT_THAT(run.err, HasSubstr("Usage: sluice COMMAND"));
  EXPECT_THAT(run.out, IsEmpty());
}

TEST(Sluice, NamesTheCommandThatItDoesNotKnow) {
  const CommandRun run({"sing"});
  EXPECT_EQ(run.code, kExitUsage);
  EXPECT_THAT(run.err, HasSubstr("no command sing"));
}

TEST(Sluice, EveryCommandExplainsItselfWithItsExitCodes) {
  for (const char* name : {"generate", "score", "tokenize", "model", "health"}) {
    const CommandRun run({name, "--nonsense", "--help"});
    EXPECT_EQ(run.code, kExitOk);
    EXPECT_THAT(run.out, StartsWith(std::string("Usage: sluice ") + name));
    EXPECT_THAT(run.out, HasSubstr("--server HOST:PORT"));
    EXPECT_THAT(run.out, HasSubstr("Exit codes: 0"));
    EXPECT_THAT(run.connections, IsEmpty());
    for (const absl::string_view line : absl::StrSplit(run.out, '\n')) {
      EXPECT_LE(line.size(), 80U) << name << ": " << line;
    }
    EXPECT_THAT(CommandRun({"--help"}).out, HasSubstr(name));
  }
}

TEST(Sluice, PrintsItsVersion) {
  const CommandRun run({"--version"});
  EXPECT_EQ(run.code, kExitOk);
  EXPECT_THAT(run.out, StartsWith("sluice 0."));
}

TEST(Key, PrintsAKeyAndItsEntry) {
  const CommandRun run({"key", "--tenant", "acme", "--name", "ci"});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  const std::vector<std::string> lines = absl::StrSplit(run.out, '\n');
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_THAT(lines[0], StartsWith("sl_"));
  const nlohmann::json entry = nlohmann::json::parse(lines[1]);
  EXPECT_EQ(entry["tenant"], "acme");
  EXPECT_EQ(entry["name"], "ci");
  EXPECT_EQ(entry["sha256"], Sha256Digits(lines[0]));
  EXPECT_EQ(entry.size(), 3U);
  EXPECT_THAT(run.connections, IsEmpty());
  EXPECT_NE(CommandRun({"key", "--tenant", "acme"}).out, run.out);
}

TEST(Key, RefusesNamesThatTheServerWouldRefuse) {
  const std::vector<std::vector<std::string>> bad_lines = {
      {"key"},
      {"key", "--tenant", "two words"},
      {"key", "--tenant", std::string(65, 'a')},
      {"key", "--tenant", "a", "--name", "\n"},
      {"key", "--tenant", "a", "operand"},
  };
  for (const std::vector<std::string>& args : bad_lines) {
    const CommandRun run(args);
    EXPECT_EQ(run.code, kExitUsage);
    EXPECT_THAT(run.out, IsEmpty());
  }
}

TEST(Key, RefusesTheTenantThatTheServerReserves) {
  const CommandRun run({"key", "--tenant", "other"});
  EXPECT_EQ(run.code, kExitUsage);
  EXPECT_THAT(run.out, IsEmpty());
  EXPECT_THAT(run.err, HasSubstr("--tenant must not be \"other\": metrics call by this name"));
  EXPECT_EQ(CommandRun({"key", "--tenant", "others"}).code, kExitOk);
}

TEST(Key, ExplainsItself) {
  const CommandRun run({"key", "--help"});
  EXPECT_EQ(run.code, kExitOk);
  EXPECT_THAT(run.out, StartsWith("Usage: sluice key --tenant NAME"));
  for (const absl::string_view line : absl::StrSplit(run.out, '\n')) EXPECT_LE(line.size(), 80U);
}

TEST(Generate, PrintsTextAndEndsTheLine) {
  const CommandRun run({"generate", "Once"}, Story());
  EXPECT_EQ(run.code, kExitOk);
  EXPECT_EQ(run.out, "It was night \xE2\x98\xBE\n");
  EXPECT_THAT(run.err, IsEmpty());
  ASSERT_THAT(run.backend->requests, SizeIs(1));
  EXPECT_EQ(run.backend->requests[0].text, "Once");
  EXPECT_EQ(run.backend->requests[0].kind, RequestKind::kGenerate);
  EXPECT_EQ(run.backend->requests[0].stopping.max_tokens, 128);
}

TEST(Generate, PassesEveryOptionOn) {
  const CommandRun run({"generate",
                        "--token-ids",
                        "5,6",
                        "--temperature",
                        "0.5",
                        "--top-k",
                        "7",
                        "--top-p",
                        "0.9",
                        "--min-p",
                        "0.1",
                        "--repetition-penalty",
                        "1.5",
                        "--presence-penalty",
                        "-1",
                        "--frequency-penalty",
                        "-0.5",
                        "--logit-bias",
                        "3:-2.5",
                        "--logit-bias",
                        "4:100",
                        "--seed",
                        "18446744073709551615",
                        "--max-tokens",
                        "9",
                        "--stop",
                        "a,b",
                        "--stop",
                        "",
                        "--stop-token-ids",
                        "1,2",
                        "--ignore-eos",
                        "--json",
                        "--logprobs",
                        "--top-logprobs",
                        "2",
                        "--echo",
                        "--request-id",
                        "me",
                        "--timeout",
                        "5",
                        "--server",
                        "host:1"},
                       Story());
  ASSERT_EQ(run.code, kExitOk) << run.err;
  ASSERT_THAT(run.connections, SizeIs(1));
  EXPECT_EQ(run.connections[0].server, "host:1");
  const Request& request = run.backend->requests.at(0);
  EXPECT_FALSE(request.text.has_value());
  EXPECT_THAT(*request.token_ids, ElementsAre(5, 6));
  EXPECT_EQ(request.sampling.temperature, 0.5F);
  EXPECT_EQ(request.sampling.top_k, 7);
  EXPECT_EQ(request.sampling.top_p, 0.9F);
  EXPECT_EQ(request.sampling.min_p, 0.1F);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(request.sampling.presence_penalty, -1.0F);
  EXPECT_EQ(request.sampling.frequency_penalty, -0.5F);
  EXPECT_THAT(request.sampling.logit_bias, ElementsAre(Pair(3, -2.5F), Pair(4, 100.0F)));
  EXPECT_EQ(request.sampling.seed, 18446744073709551615ULL);
  EXPECT_EQ(request.stopping.max_tokens, 9);
  EXPECT_THAT(request.stopping.stop, ElementsAre("a,b", ""));
  EXPECT_THAT(request.stopping.stop_token_ids, ElementsAre(1, 2));
  EXPECT_TRUE(request.stopping.ignore_eos);
  EXPECT_TRUE(request.logprobs);
  EXPECT_EQ(request.top_logprobs, 2);
  EXPECT_TRUE(request.echo);
  EXPECT_EQ(request.id, "me");
  EXPECT_LT(request.deadline, absl::Now() + absl::Seconds(6));
}

TEST(Generate, PrintsJsonLines) {
  const CommandRun run({"generate", "--json", "--logprobs", "--top-logprobs=2", "Once"}, Story());
  ASSERT_EQ(run.code, kExitOk) << run.err;
  const std::vector<std::string> lines = absl::StrSplit(run.out, '\n');
  ASSERT_THAT(lines, SizeIs(5));
  EXPECT_EQ(nlohmann::json::parse(lines[0]), nlohmann::json::parse(R"({
      "text": "It was", "token_ids": [11, 13],
      "logprobs": [{"logprob": -0.5, "top": [[11, -0.5], [12, -1.25]]},
                   {"logprob": -0.25, "top": [[13, -0.25]]}]})"));
  EXPECT_EQ(nlohmann::json::parse(lines[2])["logprobs"][0]["logprob"], nullptr);
  const nlohmann::json last = nlohmann::json::parse(lines[3]);
  EXPECT_EQ(last["finish_reason"], "stop");
  EXPECT_EQ(last["stop"], "END");
  EXPECT_EQ(last["seed"], 18446744073709551615ULL);
  EXPECT_EQ(last["usage"]["output_tokens"], 4);
  EXPECT_EQ(last["timings"]["time_to_first_token_seconds"], 0.0125);
  EXPECT_EQ(lines[4], "");
}

TEST(Generate, LeavesLogprobsOutOfJsonUnlessAskedFor) {
  const CommandRun run({"generate", "--json", "Once"}, Story());
  EXPECT_THAT(run.out, ::testing::Not(HasSubstr("logprob")));
}

TEST(Generate, PrintsStatsOnStderr) {
  const CommandRun run({"generate", "--stats", "Once"}, Story());
  EXPECT_EQ(run.out, "It was night \xE2\x98\xBE\n");
  EXPECT_EQ(run.err,
            "time to first token 12.5 ms, 100.0 tokens/s, 3 prompt tokens, 4 output tokens, "
            "finish stop, seed 18446744073709551615\n");
}

TEST(Generate, ReadsStandardInputAndFiles) {
  EXPECT_EQ(CommandRun({"generate", "-"}, "a\nb\n").backend->requests.at(0).text, "a\nb\n");
  const TempFile file("prompt.txt", "from a file\n");
  EXPECT_EQ(CommandRun({"generate", "--file", file.path()}).backend->requests.at(0).text,
            "from a file\n");
}

TEST(Generate, ReadsTokenIdsFromAFile) {
  const TempFile list("list.json", "[1, 2, 3]");
  const TempFile object("object.json", R"({"token_ids": [4, 5]})");
  EXPECT_THAT(
      *CommandRun({"generate", "--token-ids", list.path()}).backend->requests.at(0).token_ids,
      ElementsAre(1, 2, 3));
  EXPECT_THAT(
      *CommandRun({"generate", "--token-ids", object.path()}).backend->requests.at(0).token_ids,
      ElementsAre(4, 5));
}

TEST(Generate, SaysWhatIsWrongWithAFileOfTokenIds) {
  const TempFile words("words.json", R"(["one"])");
  const TempFile broken("broken.json", "[1, 2");
  for (const auto& [path, message] : std::vector<std::pair<std::string, std::string>>{
           {words.path(), "INVALID_ARGUMENT: " + words.path() + ": token_ids[0] is \"one\""},
           {broken.path(), "INVALID_ARGUMENT: "},
           {"/nonexistent/ids.json", "NOT_FOUND: "},
           {"1,,2", "INVALID_ARGUMENT: "}}) {
    const CommandRun run({"generate", "--token-ids", path});
    EXPECT_EQ(run.code, kExitError);
    EXPECT_THAT(run.err, HasSubstr(message));
    EXPECT_THAT(run.backend->requests, IsEmpty());
  }
}

TEST(Generate, RefusesCommandLinesThatContradictThemselves) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> bad_lines = {
      {{}, "there is no text"},
      {{"a", "b"}, "give one text"},
      {{"a", "--file", "f"}, "give one text"},
      {{"a", "--logprobs"}, "--logprobs needs --json"},
      {{"a", "--json", "--top-logprobs", "2"}, "--top-logprobs needs --logprobs"},
      {{"a", "--timeout", "nan"}, "--timeout must be greater than 0"},
      {{"a", "--seed", "-1"}, "--seed: \"-1\" is not a whole number in [0, 2^64)"},
      {{"a", "--logit-bias", "3"}, "--logit-bias: \"3\" is not ID:BIAS"},
      {{"a", "--stop-token-ids", "1,x"}, "--stop-token-ids: \"x\" is not a token id"},
      {{"a", "--server", "h:1", "--local", "d"}, "--server and --local exclude each other"},
      {{"a", "--api-key-file", "k", "--local", "d"},
       "--api-key-file and --local exclude each other"},
      {{"a", "--device", "cpu"}, "need --local"},
  };
  for (const auto& [args, message] : bad_lines) {
    std::vector<std::string> line = {"generate"};
    line.insert(line.end(), args.begin(), args.end());
    const CommandRun run(line);
    EXPECT_EQ(run.code, kExitUsage) << message;
    EXPECT_THAT(run.err, HasSubstr(message));
    EXPECT_THAT(run.connections, IsEmpty());
  }
}

TEST(Generate, NamesTheCodeOfAnErrorAndKeepsWhatWasPrinted) {
  const auto backend = Story();
  backend->status = absl::DeadlineExceededError("too late");
  const CommandRun run({"generate", "Once"}, backend);
  EXPECT_EQ(run.code, kExitError);
  EXPECT_EQ(run.out, "It was night \xE2\x98\xBE\n");
  EXPECT_EQ(run.err, "sluice: DEADLINE_EXCEEDED: too late\n");
}

TEST(Generate, EndsAsInterruptedWhenCancelled) {
  const auto backend = Story();
  backend->status = absl::CancelledError("");
  EXPECT_EQ(CommandRun({"generate", "Once"}, backend).code, kExitInterrupted);
}

std::shared_ptr<FakeBackend> Scored() {
  auto backend = std::make_shared<FakeBackend>();
  backend->outputs = {{"", {{7, std::nullopt, {}}, {8, -0.5F, {{9, -0.25F}, {8, -0.5F}}}}},
                      {"", {{9, -1.5F, {{9, -1.5F}}}}}};
  return backend;
}

TEST(Score, PrintsTheJsonThatGoldensAreWrittenIn) {
  const TempFile ids("ids.json", "[7, 8, 9]");
  const CommandRun run(
      {"score", "--model", "dir", "--token-ids", ids.path(), "--top", "2", "--json"}, Scored());
  ASSERT_EQ(run.code, kExitOk) << run.err;
  EXPECT_EQ(run.out,
            "{\"token_logprobs\":[null,-0.5,-1.5],"
            "\"top_logprobs\":[[],[[9,-0.25],[8,-0.5]],[[9,-1.5]]]}\n");
  const Request& request = run.backend->requests.at(0);
  EXPECT_EQ(request.kind, RequestKind::kScore);
  EXPECT_EQ(request.top_logprobs, 2);
  EXPECT_THAT(*request.token_ids, ElementsAre(7, 8, 9));
}

TEST(Score, WorksInFloat32InProcessUnlessToldOtherwise) {
  EXPECT_EQ(CommandRun({"score", "--local", "d", "x"}).connections.at(0).dtype, "float32");
  EXPECT_EQ(CommandRun({"score", "--model", "d", "x"}).connections.at(0).local, "d");
  EXPECT_EQ(
      CommandRun({"score", "--local", "d", "--dtype", "bfloat16", "x"}).connections.at(0).dtype,
      "bfloat16");
  EXPECT_EQ(CommandRun({"score", "x"}).connections.at(0).dtype, "");
}

TEST(Score, PrintsATableAndThePerplexity) {
  const CommandRun run({"score", "text"}, Scored());
  EXPECT_EQ(run.out,
            "     0        7            -\n"
            "     1        8    -0.500000  9:-0.250000  8:-0.500000\n"
            "     2        9    -1.500000  9:-1.500000\n"
            "2 tokens predicted, log-probability -2.000000, perplexity 2.7183\n");
}

TEST(Tokenize, PrintsIdsAsTokenIdsReadsThem) {
  auto backend = std::make_shared<FakeBackend>();
  backend->ids = {3, 1, 2};
  const CommandRun run({"tokenize", "text"}, backend);
  EXPECT_EQ(run.code, kExitOk);
  EXPECT_EQ(run.out, "3,1,2\n");
  EXPECT_THAT(backend->texts, ElementsAre("text"));
  EXPECT_THAT(backend->flags, ElementsAre(true));
  EXPECT_EQ(CommandRun({"tokenize", "--json", "--no-special-tokens", "text"}, backend).out,
            "{\"token_ids\":[3,1,2]}\n");
  EXPECT_THAT(backend->flags, ElementsAre(true, false));
}

TEST(Tokenize, Decodes) {
  auto backend = std::make_shared<FakeBackend>();
  backend->text = "It \"was\"";
  EXPECT_EQ(CommandRun({"tokenize", "--decode", "1,2,3"}, backend).out, "It \"was\"\n");
  EXPECT_EQ(
      CommandRun({"tokenize", "--json", "--keep-special-tokens", "--decode", "4"}, backend).out,
      "{\"text\":\"It \\\"was\\\"\"}\n");
  EXPECT_THAT(backend->decodes, ElementsAre(ElementsAre(1, 2, 3), ElementsAre(4)));
  EXPECT_THAT(backend->flags, ElementsAre(false, true));
}

TEST(Tokenize, RefusesATextBesideDecode) {
  EXPECT_EQ(CommandRun({"tokenize", "--decode", "1", "text"}).code, kExitUsage);
  EXPECT_EQ(CommandRun({"tokenize", "--keep-special-tokens", "text"}).code, kExitUsage);
}

TEST(Model, PrintsSizesAndLimits) {
  auto backend = std::make_shared<FakeBackend>();
  EngineInfo& info = backend->model.info;
  info.model_name = "demo";
  info.model_type = "gla";
  info.device = "CPU";
  info.parameters = 15000000;
  info.state_bytes = 4096;
  info.max_prompt_tokens = 100;
  info.eos_token_ids = {0, 2};
  const CommandRun text({"model"}, backend);
  EXPECT_EQ(text.code, kExitOk);
  EXPECT_THAT(text.out, HasSubstr("device             CPU\n"));
  EXPECT_THAT(text.out, HasSubstr("state              4096 bytes a sequence"));
  const nlohmann::json json = nlohmann::json::parse(CommandRun({"model", "--json"}, backend).out);
  EXPECT_EQ(json["parameters"], 15000000);
  EXPECT_EQ(json["limits"]["max_prompt_tokens"], 100);
  EXPECT_EQ(json["eos_token_ids"], nlohmann::json({0, 2}));
  EXPECT_EQ(CommandRun({"model", "one", "two"}).code, kExitUsage);
  EXPECT_EQ(CommandRun({"model", "--server", "host:1", "one"}).code, kExitUsage);
}

TEST(Model, DescribesADirectoryWithoutLoadingIt) {
  const std::string demo = SLUICE_SOURCE_DIR "/models/demo";
  const CommandRun text({"model", demo});
  EXPECT_EQ(text.code, kExitOk);
  EXPECT_TRUE(text.connections.empty());
  EXPECT_THAT(text.out, HasSubstr("gate               vector, on the key side\n"));
  EXPECT_THAT(text.out, HasSubstr("parameters         12251904\n"));
  EXPECT_THAT(text.out, HasSubstr("state              589824 bytes a slot"));
  EXPECT_THAT(text.out, HasSubstr("checkpoint         complete\n"));
  const nlohmann::json json =
      nlohmann::json::parse(CommandRun({"model", "--local", demo, "--device=cpu", "--json"}).out);
  EXPECT_EQ(json["checkpoint_complete"], true);
  EXPECT_GT(json["slots_that_fit"], 0);
  EXPECT_EQ(json["tensors"]["model.norm.weight"], nlohmann::json::array({json["hidden_size"]}));
}

TEST(Model, SaysWhatIsWrongWithADirectory) {
  const CommandRun missing({"model", "no-such-directory"});
  EXPECT_EQ(missing.code, kExitError);
  EXPECT_THAT(missing.err, HasSubstr("NOT_FOUND"));
  EXPECT_THAT(missing.err, HasSubstr("no-such-directory"));
}

TEST(Model, DescribesAConfigWithoutItsCheckpoint) {
  const ScratchDirectory scratch;
  scratch.Write("config.json", R"({"model_type":"gla","num_hidden_layers":2})");
  const CommandRun run({"model", scratch.path()});
  EXPECT_EQ(run.code, kExitOk);
  EXPECT_THAT(run.out, HasSubstr("checkpoint         "));
  EXPECT_THAT(run.out, Not(HasSubstr("complete")));
}

TEST(Model, NamesTheCodeOfAnError) {
  auto backend = std::make_shared<FakeBackend>();
  backend->status = absl::UnavailableError("draining");
  const CommandRun run({"model"}, backend);
  EXPECT_EQ(run.code, kExitError);
  EXPECT_EQ(run.err, "sluice: UNAVAILABLE: draining\n");
}

TEST(Sluice, SaysWhenItsOutputCannotBeWritten) {
  std::istringstream in;
  std::ostream nowhere(nullptr);
  std::ostringstream err;
  auto backend = std::make_shared<FakeBackend>();
  const auto connect = [&](const ConnectionOptions&) -> absl::StatusOr<std::shared_ptr<Backend>> {
    return backend;
  };
  const std::vector<std::string> args = {"model"};
  EXPECT_EQ(RunSluice(args, {in, nowhere, err, connect}), kExitError);
  EXPECT_THAT(err.str(), HasSubstr("could not be written"));
}

}  // namespace
}  // namespace sluice
