// The engine in this process, on a model directory.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/backend.h"
#include "engine/engine.h"
#include "engine/engine_config.h"
#include "engine/tokenizer.h"

namespace sluice {

class CollectingSink;

// Loads what a call needs when it needs it: the tokenizer alone for Tokenize and Detokenize, the
// engine alone for scoring token ids, otherwise both. Errors of loading are Engine::Create's.
class LocalBackend : public Backend {
 public:
  explicit LocalBackend(EngineConfig config);

  absl::StatusOr<Outcome> Run(const Request& request,
                              const std::function<void(const Output&)>& on_output) override;
  absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text,
                                                bool special_tokens) override;
  absl::StatusOr<std::string> Detokenize(absl::Span<const int64_t> ids,
                                         bool keep_special_tokens) override;
  absl::StatusOr<ModelDescription> Describe() override;
  bool Cancel() override;

 private:
  absl::Status LoadEngine(bool needs_tokenizer);
  absl::Status LoadTokenizer();

  EngineConfig config_;  // as the engine was loaded, if it is
  std::unique_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<Engine> engine_;
  std::mutex mutex_;
  std::shared_ptr<CollectingSink> running_;  // guarded by mutex_
};

}  // namespace sluice
