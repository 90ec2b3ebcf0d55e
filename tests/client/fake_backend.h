// A backend that answers from a script, and remembers what it was asked.
#pragma once

#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "client/backend.h"
#include "client/command.h"

namespace sluice {

class FakeBackend : public Backend {
 public:
  absl::StatusOr<Outcome> Run(const Request& request,
                              const std::function<void(const Output&)>& on_output) override {
    requests.push_back(request);
    for (const Output& output : outputs) on_output(output);
    if (!status.ok()) return status;
    return outcome;
  }

  absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& encoded,
                                                bool special_tokens) override {
    texts.push_back(encoded);
    flags.push_back(special_tokens);
    if (!status.ok()) return status;
    return ids;
  }

  absl::StatusOr<std::string> Detokenize(absl::Span<const int64_t> decoded,
                                         bool keep_special_tokens) override {
    decodes.emplace_back(decoded.begin(), decoded.end());
    flags.push_back(keep_special_tokens);
    if (!status.ok()) return status;
    return text;
  }

  absl::StatusOr<ModelDescription> Describe() override {
    if (!status.ok()) return status;
    return model;
  }

  bool Cancel() override { return false; }

  // Answers.
  absl::Status status;
  std::vector<Output> outputs;
  Outcome outcome;
  std::vector<int32_t> ids;
  std::string text;
  ModelDescription model;

  // What was asked.
  std::vector<Request> requests;
  std::vector<std::string> texts;
  std::vector<std::vector<int64_t>> decodes;
  std::vector<bool> flags;
};

// Runs `sluice` in the test's process.
struct CommandRun {
  explicit CommandRun(const std::vector<std::string>& args, const std::string& input = "")
      : CommandRun(args, std::make_shared<FakeBackend>(), input) {}

  CommandRun(const std::vector<std::string>& args, std::shared_ptr<FakeBackend> fake,
             const std::string& input = "")
      : backend(std::move(fake)) {
    std::istringstream in(input);
    std::ostringstream out_stream;
    std::ostringstream err_stream;
    const auto connect =
        [this](const ConnectionOptions& options) -> absl::StatusOr<std::shared_ptr<Backend>> {
      connections.push_back(options);
      return backend;
    };
    code = RunSluice(args, {in, out_stream, err_stream, connect});
    out = out_stream.str();
    err = err_stream.str();
  }

  std::shared_ptr<FakeBackend> backend;
  std::vector<ConnectionOptions> connections;
  int code = -1;
  std::string out;
  std::string err;
};

}  // namespace sluice
