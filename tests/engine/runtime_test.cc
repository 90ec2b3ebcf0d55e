// What is refused, and what is decided, while an engine loads.
#include "engine/runtime.h"

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/recording_sink.h"
#include "tests/engine/sentencepiece_writer.h"
#include "tests/engine/tiny_model.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class LoadTest : public testing::Test {
 protected:
  absl::Status Load(const EngineConfig& config) {
    return Engine::Create(config, nullptr, nullptr).status();
  }
  absl::Status Load() { return Load(TinyConfig(model_.path())); }

  TinyModel model_;
};

TEST_F(LoadTest, RefusesAnUnknownDirectory) {
  const absl::Status status = Load(TinyConfig("/nowhere/at/all"));
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nowhere/at/all"));
}

TEST_F(LoadTest, RefusesAMissingTokenizer) {
  std::filesystem::remove(model_.path() / "tokenizer.json");
  const absl::Status status = Load();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("tokenizer.json"), HasSubstr("tokenizer.model"),
                    HasSubstr("rwkv_vocab_v20230424.txt")));
}

TEST_F(LoadTest, TakesTheFirstTokenizerThatIsThere) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) {
    absl::StrAppend(&bytes, byte + 1, absl::StrFormat(" b'\\x%02x' 1\n", byte));
  }
  model_.directory().Write("tokenizer.model", SentencePieceBytes(WithBytes({"A"})));
  model_.directory().Write("rwkv_vocab_v20230424.txt", bytes);
  const auto tokens_of_a = [&] {
    auto engine = Engine::Create(TinyConfig(model_.path()), nullptr, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *(*engine)->tokenizer().Encode("A", /*add_special_tokens=*/true);
  };
  EXPECT_THAT(tokens_of_a(), ElementsAre('A'));
  std::filesystem::remove(model_.path() / "tokenizer.json");
  EXPECT_THAT(tokens_of_a(), ElementsAre(1, 3 + 0xE2, 3 + 0x96, 3 + 0x81, 259));
  std::filesystem::remove(model_.path() / "tokenizer.model");
  EXPECT_THAT(tokens_of_a(), ElementsAre('A' + 1));
}

TEST_F(LoadTest, RefusesATokenizerWithMoreIdsThanTheModel) {
  std::filesystem::remove(model_.path() / "tokenizer.json");
  model_.directory().Write("tokenizer.model",
                           SentencePieceBytes(WithBytes({"a", "b", "c", "d", "e", "f"})));
  EXPECT_THAT(std::string(Load().message()), HasSubstr("the tokenizer has ids up to 264"));
}

TEST_F(LoadTest, ServesTokenIdsWithoutATokenizerIfToldTo) {
  std::filesystem::remove(model_.path() / "tokenizer.json");
  EngineConfig config = TinyConfig(model_.path());
  config.needs_tokenizer = false;
  auto engine = Engine::Create(config, nullptr, nullptr);
  ASSERT_TRUE(engine.ok()) << engine.status();
  Request text;
  text.text = "Hello";
  const absl::Status status = (*engine)->Submit(text, std::make_shared<RecordingSink>());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no tokenizer; give token_ids"));
  Request ids;
  ids.token_ids = {1, 2, 3};
  ids.stopping = {.max_tokens = 5, .ignore_eos = true};
  auto sink = std::make_shared<RecordingSink>();
  ASSERT_TRUE((*engine)->Submit(ids, sink).ok());
  sink->Wait();
  EXPECT_EQ(sink->ids().size(), 5);
}

TEST_F(LoadTest, RefusesAMissingTensorAndAWrongShape) {
  model_.directory().Write(
      "model.safetensors",
      SafetensorsBytes({Float32Tensor("model.norm.weight", {64}, std::vector<float>(64, 1.0F))}));
  absl::Status status = Load();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.embeddings.weight"));

  model_.directory().Write("model.safetensors",
                           SafetensorsBytes({Float32Tensor("model.embeddings.weight", {2, 3},
                                                           std::vector<float>(6, 1.0F))}));
  status = Load();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("[2, 3]"));
}

TEST_F(LoadTest, RefusesTensorsThatItHasNoPlaceFor) {
  // Without convolution the weights of one would be silently left out.
  TinyModelOptions options;
  options.use_short_conv = true;
  const TinyModel with_conv(options);
  std::filesystem::copy_file(with_conv.path() / "model.safetensors",
                             model_.path() / "model.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  const absl::Status status = Load();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("conv1d"));
}

TEST_F(LoadTest, SaysHowMuchMemoryOneSlotNeeds) {
  EngineConfig config = TinyConfig(model_.path());
  config.state_slots = 0;
  config.memory_fraction = 1e-7;
  const absl::Status status = Load(config);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("not enough memory for 1 state slot: "));
  EXPECT_THAT(std::string(status.message()), HasSubstr("bytes free"));
}

TEST_F(LoadTest, ReadsNoWeightsThatItHasNoMemoryFor) {
  EngineConfig config = TinyConfig(model_.path());
  config.memory_fraction = 1e-7;
  std::string progress;
  const auto engine = Engine::Create(
      config, nullptr, [&progress](const std::string& text) { progress += text + "\n"; });
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(progress, HasSubstr("device: "));
  EXPECT_EQ(progress.find("loaded"), std::string::npos) << progress;
}

TEST_F(LoadTest, RefusesACheckpointThatIsCutWhileItIsRead) {
  const auto weights = model_.path() / "model.safetensors";
  const auto engine = Engine::Create(TinyConfig(model_.path()), nullptr, [&](const std::string&) {
    std::filesystem::resize_file(weights, 4096);  // once it is open
  });
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(engine.status().message()),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("ends at byte 4096")));
}

TEST_F(LoadTest, RefusesWeightsThatMakeNoFiniteLogits) {
  std::fstream file(model_.path() / "model.safetensors",
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-64, std::ios::end);  // the end of the last tensor's data
  file.write(std::string(64, '\xFF').data(), 64);
  file.close();
  const absl::Status status = Load();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("not finite"));
}

TEST_F(LoadTest, MakesStepsLargeEnoughForTheSlotsThatWereAskedFor) {
  EngineConfig config = TinyConfig(model_.path());
  config.state_slots = 600;
  config.max_step_tokens = 0;
  auto engine = Engine::Create(config, nullptr, nullptr);
  ASSERT_TRUE(engine.ok()) << engine.status();
  EXPECT_EQ((*engine)->info().state_slots, 600);
  EXPECT_EQ((*engine)->info().max_step_tokens, 664);
}

TEST_F(LoadTest, SaysWhatTakesMemory) {
  EngineConfig config = TinyConfig(model_.path());
  const EngineInfo plain = (*Engine::Create(config, nullptr, nullptr))->info();
  EXPECT_EQ(plain.weight_bytes, plain.parameters * 4);
  EXPECT_EQ(plain.pool_bytes, 9 * plain.state_bytes);  // 8 slots and the sink
  EXPECT_GT(plain.buffer_bytes, 256 * plain.hidden_size * 4);
  config.state_type = "float16";
  const EngineInfo half = (*Engine::Create(config, nullptr, nullptr))->info();
  EXPECT_EQ(half.state_bytes, plain.state_bytes / 2);  // a tiny model's is nothing but matrices
  EXPECT_EQ(half.weight_bytes, plain.weight_bytes);
}

TEST_F(LoadTest, RefusesBadConfiguration) {
  EngineConfig config = TinyConfig(model_.path());
  config.device = "tpu";
  EXPECT_THAT(std::string(Load(config).message()), HasSubstr("device is \"tpu\""));
  config = TinyConfig(model_.path());
  config.dtype = "int3";
  EXPECT_THAT(std::string(Load(config).message()), HasSubstr("dtype is \"int3\""));
  config = TinyConfig(model_.path());
  config.deterministic = "maybe";
  EXPECT_THAT(std::string(Load(config).message()), HasSubstr("deterministic is \"maybe\""));
  config = TinyConfig(model_.path());
  config.weight_type = "float8";
  EXPECT_THAT(std::string(Load(config).message()),
              HasSubstr("weight_type is \"float8\"; it must be checkpoint or fp8"));
  config = TinyConfig(model_.path());
  config.weight_type = "fp8";
  EXPECT_THAT(std::string(Load(config).message()), HasSubstr("dtype is float32"));
  config = TinyConfig(model_.path());
  config.state_type = "float8";
  EXPECT_THAT(std::string(Load(config).message()), HasSubstr("state_type is \"float8\""));
  config = TinyConfig(model_.path());
  config.state_type = "int8";
  config.deterministic = "true";
  EXPECT_THAT(std::string(Load(config).message()), HasSubstr("needs states of float32"));
  config = TinyConfig(model_.path());
  config.state_ring = 33;
  EXPECT_THAT(std::string(Load(config).message()), HasSubstr("state_ring is 33"));
  config = TinyConfig(model_.path());
  config.state_slots = 5000;
  EXPECT_THAT(std::string(Load(config).message()), HasSubstr("slots is 5000"));
  config = TinyConfig(model_.path());
  config.state_slots = 200;
  EXPECT_THAT(std::string(Load(config).message()), HasSubstr("200 state slots need at least 264"));
  config = TinyConfig(model_.path());
  config.memory_fraction = 0;
  EXPECT_THAT(std::string(Load(config).message()), HasSubstr("memory_fraction is 0"));
  config = TinyConfig(model_.path());
  config.device = "cuda:99";
  EXPECT_EQ(Load(config).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace sluice
