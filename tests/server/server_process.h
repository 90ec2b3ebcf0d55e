// The real sluice-server, run as a child process on ports of its own.
#pragma once

#include <grpcpp/channel.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/engine/tiny_model.h"
#include "tests/server/child_process.h"
#include "tests/server/connected_channel.h"

namespace sluice {

// The value of `key`, which needs no quotes, in a line of the server's log: text or JSON.
inline std::string LogValue(const std::string& line, const std::string& key) {
  for (const std::string& before : {" " + key + "=", "\"" + key + "\":\""}) {
    const size_t at = line.find(before);
    if (at == std::string::npos) continue;
    const size_t begin = at + before.size();
    return line.substr(begin, line.find_first_of(" \"", begin) - begin);
  }
  return "";
}

inline std::vector<std::string> ServerCommand(const std::string& model,
                                              const std::vector<std::string>& flags) {
  std::vector<std::string> command = {SLUICE_SERVER_BINARY,   "--model=" + model,
                                      "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0",
                                      "--device=cpu",         "--dtype=float32",
                                      "--threads=2"};
  command.insert(command.end(), flags.begin(), flags.end());
  return command;
}

// A server of a tiny model.
class ServerProcess {
 public:
  explicit ServerProcess(const std::vector<std::string>& flags = {})
      : process_(ServerCommand(model_.path().string(), flags)) {
    address_ = LogValue(process_.WaitForLine("listening"), "address");
    metrics_url_ = LogValue(process_.WaitForLine("/metrics"), "url");
    EXPECT_NE(process_.WaitForLine("serving"), "") << process_.output();
  }

  std::shared_ptr<grpc::Channel> NewChannel(const grpc::ChannelArguments& arguments = {}) const {
    return ConnectedChannel(address_, arguments);
  }

  ChildProcess& process() { return process_; }
  const std::string& address() const { return address_; }
  const std::string& metrics_url() const { return metrics_url_; }

 private:
  TinyModel model_;
  ChildProcess process_;
  std::string address_;
  std::string metrics_url_;
};

}  // namespace sluice
