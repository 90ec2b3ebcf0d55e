// The `sluice` program itself, as a shell sees it: exit codes, what goes to which stream, and
// log-probabilities against those that flash-linear-attention gave.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr char kDemo[] = SLUICE_SOURCE_DIR "/models/demo";
constexpr double kTolerance = 1e-3;  // in float32

struct Result {
  int code = -1;
  std::string out;
  std::string err;
};

class BinaryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(::testing::TempDir()) /
              ("sluice_binary_test." + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Runs "sluice <arguments>" in a shell; `before` stands in front of it.
  Result Run(const std::string& arguments, const std::string& before = "") {
    const std::string out = folder_ / "out";
    const std::string err = folder_ / "err";
    const std::string command =
        before + " '" SLUICE_BINARY "' " + arguments + " >" + out + " 2>" + err;
    const int status = std::system(command.c_str());
    Result result;
    result.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result.out = Read(out);
    result.err = Read(err);
    return result;
  }

  static std::string Read(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

  std::string Write(const std::string& name, const std::string& content) {
    std::string path = folder_ / name;
    std::ofstream(path) << content;
    return path;
  }

  std::filesystem::path folder_;
};

const std::string kLocalDemo = std::string(" --local ") + kDemo + " --device cpu ";

TEST_F(BinaryTest, EndsWithTheDocumentedExitCodes) {
  EXPECT_EQ(Run("--help").code, 0);
  EXPECT_EQ(Run("generate --help").code, 0);
  EXPECT_EQ(Run("").code, 2);
  EXPECT_EQ(Run("generate --nonsense x").code, 2);
  const Result refused = Run("generate --server 127.0.0.1:1 x");
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, StartsWith("sluice: UNAVAILABLE: "));
  EXPECT_THAT(refused.out, IsEmpty());
  EXPECT_EQ(Run("health --server 127.0.0.1:1").code, 1);
}

TEST_F(BinaryTest, SaysWhatIsWrongWithAModelDirectory) {
  const Result missing = Run("generate --local /nonexistent/model x");
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err, StartsWith("sluice: NOT_FOUND: "));
  EXPECT_THAT(missing.err, HasSubstr("/nonexistent/model"));
  EXPECT_EQ(Run("tokenize --local /nonexistent/model x").code, 1);
}

TEST_F(BinaryTest, SaysThatADeviceIsNotThere) {
  const Result result = Run("model --local " + std::string(kDemo) + " --device cuda:99");
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, StartsWith("sluice: FAILED_PRECONDITION: "));
}

TEST_F(BinaryTest, GeneratesInItsOwnProcess) {
  const std::string line = "generate" + kLocalDemo + "--max-tokens 8 --seed 5 'It was'";
  const Result first = Run(line);
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_GT(first.out.size(), 8U);
  EXPECT_THAT(first.err, IsEmpty());
  EXPECT_EQ(Run(line).out, first.out);
  EXPECT_EQ(Run("generate" + kLocalDemo + "--max-tokens 8 --seed 5 -", "printf 'It was' |").out,
            first.out);
}

TEST_F(BinaryTest, PrintsAJsonLineForTheEnd) {
  const Result result =
      Run("generate" + kLocalDemo + "--json --max-tokens 3 --ignore-eos --request-id me 'It was'");
  ASSERT_EQ(result.code, 0) << result.err;
  const size_t last = result.out.rfind('\n', result.out.size() - 2);
  const nlohmann::json end = nlohmann::json::parse(result.out.substr(last + 1));
  EXPECT_EQ(end["finish_reason"], "length");
  EXPECT_EQ(end["usage"]["output_tokens"], 3);
  EXPECT_EQ(end["request_id"], "me");
  EXPECT_GT(end["timings"]["time_to_first_token_seconds"], 0);
}

TEST_F(BinaryTest, NamesTheFieldThatIsOutOfRange) {
  const Result result = Run("generate" + kLocalDemo + "--temperature nan 'It was'");
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, StartsWith("sluice: INVALID_ARGUMENT: "));
  EXPECT_THAT(result.err, HasSubstr("temperature"));
}

TEST_F(BinaryTest, TokenizesThereAndBack) {
  const Result ids = Run("tokenize" + kLocalDemo + "'It was a fine evening.'");
  ASSERT_EQ(ids.code, 0) << ids.err;
  const std::string list = ids.out.substr(0, ids.out.size() - 1);
  EXPECT_EQ(Run("tokenize" + kLocalDemo + "--decode " + list).out, "It was a fine evening.\n");
  EXPECT_EQ(Run("tokenize" + kLocalDemo + "--decode 99999999").code, 1);
}

TEST_F(BinaryTest, EndsWith130OnCtrlC) {
  const Result result = Run("generate" + kLocalDemo + "--max-tokens 65536 --ignore-eos 'It was'",
                            "timeout --foreground --preserve-status --signal INT 2");
  EXPECT_EQ(result.code, 130);
  EXPECT_THAT(result.err, StartsWith("sluice: CANCELLED"));
  EXPECT_THAT(result.out, Not(IsEmpty()));
}

std::vector<std::filesystem::path> Goldens() {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(SLUICE_SOURCE_DIR "/tests/golden")) {
    if (std::filesystem::exists(entry.path() / "golden.json")) found.push_back(entry.path());
  }
  return found;
}

// Compares what `sluice score` printed with one case of a golden; the golden's top tokens are a
// prefix of ours.
void ExpectScores(const nlohmann::json& ours, const nlohmann::json& golden) {
  const size_t tokens = golden["token_ids"].size();
  ASSERT_EQ(ours["token_logprobs"].size(), tokens);
  ASSERT_EQ(ours["top_logprobs"].size(), tokens);
  EXPECT_TRUE(ours["token_logprobs"][0].is_null());
  EXPECT_EQ(ours["top_logprobs"][0], nlohmann::json::array());
  for (size_t i = 1; i < tokens; ++i) {
    EXPECT_NEAR(ours["token_logprobs"][i].get<double>(), golden["token_logprobs"][i].get<double>(),
                kTolerance);
    const nlohmann::json& top = golden["top_logprobs"][i];
    ASSERT_GE(ours["top_logprobs"][i].size(), top.size());
    for (size_t k = 0; k < top.size(); ++k) {
      EXPECT_NEAR(ours["top_logprobs"][i][k][1].get<double>(), top[k][1].get<double>(), kTolerance);
    }
  }
}

TEST_F(BinaryTest, ScoresAsFlashLinearAttentionDoes) {
  const std::vector<std::filesystem::path> goldens = Goldens();
  ASSERT_GE(goldens.size(), 4U);
  for (const std::filesystem::path& directory : goldens) {
    SCOPED_TRACE(directory.filename());
    const nlohmann::json golden = nlohmann::json::parse(Read(directory / "golden.json"));
    for (const nlohmann::json& example : golden["cases"]) {
      const std::string ids = Write("ids.json", example["token_ids"].dump());
      const Result result = Run("score --model " + directory.string() + " --token-ids " + ids +
                                " --top 8 --json --device cpu");
      ASSERT_EQ(result.code, 0) << result.err;
      ExpectScores(nlohmann::json::parse(result.out), example);
    }
  }
}

}  // namespace
}  // namespace sluice
