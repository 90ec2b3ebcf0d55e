// An engine that serves a tiny model, and what tests ask of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "engine/engine.h"
#include "gtest/gtest.h"
#include "tests/engine/recording_sink.h"
#include "tests/engine/tiny_model.h"
#include "tests/kernels/devices.h"

namespace sluice {

inline std::string DeviceFlag(DeviceKind kind) {
  return kind == DeviceKind::kCuda ? "cuda" : "cpu";
}

// More tokens than any machine generates while a test looks on.
inline constexpr int32_t kEndless = 16'000'000;

inline Request Prompt(const std::string& text, int64_t max_tokens, float temperature = 0) {
  Request request;
  request.text = text;
  request.stopping.max_tokens = max_tokens;
  request.sampling.temperature = temperature;
  request.sampling.seed = 7;
  request.stopping.ignore_eos = true;  // random weights draw it now and then
  return request;
}

inline std::string LongText(size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += "It is a truth universally acknowledged, that a single man ";
  return text.substr(0, bytes);
}

inline std::shared_ptr<RecordingSink> Start(Engine* engine, Request request) {
  auto sink = std::make_shared<RecordingSink>();
  const absl::Status status = engine->Submit(std::move(request), sink);
  EXPECT_TRUE(status.ok()) << status;
  return sink;
}

// What a request gives that runs alone.
inline std::shared_ptr<RecordingSink> Finish(Engine* engine, Request request) {
  auto sink = Start(engine, std::move(request));
  sink->Wait();
  return sink;
}

class EngineTest : public testing::TestWithParam<DeviceKind> {
 protected:
  std::unique_ptr<Engine> Open(EngineConfig config) {
    config.device = DeviceFlag(GetParam());
    auto engine = Engine::Create(config, nullptr, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }
  std::unique_ptr<Engine> Open() { return Open(TinyConfig(model_.path())); }

  TinyModel model_;
};

}  // namespace sluice
