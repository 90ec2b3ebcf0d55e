// Channels for tests, connected before they are used.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>

namespace sluice {

// With a connection of its own. gRPC 1.51 takes a connection that is on its way for a failed
// one when a call in between changes errno (grpc/grpc pull request 35064), which a hundred threads
// make likely; a second try is then made after 100 ms.
inline std::shared_ptr<grpc::Channel> ConnectedChannel(const std::string& address,
                                                       grpc::ChannelArguments arguments = {}) {
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  const std::shared_ptr<grpc::Channel> channel =
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  EXPECT_TRUE(
      channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(20)))
      << address;
  return channel;
}

}  // namespace sluice
