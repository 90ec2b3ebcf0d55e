// The `sluice` command.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "client/command.h"
#include "client/interrupt.h"

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  const std::vector<std::string> args(argv + 1, argv + argc);
  sluice::Interrupt interrupt;
  const auto connect = [&interrupt](const sluice::ConnectionOptions& options) {
    auto backend = sluice::MakeBackend(options);
    if (!backend.ok()) return backend;
    interrupt.Watch([weak = std::weak_ptr<sluice::Backend>(*backend)] {
      const std::shared_ptr<sluice::Backend> watched = weak.lock();
      return watched != nullptr && watched->Cancel();
    });
    return backend;
  };
  return sluice::RunSluice(args, {std::cin, std::cout, std::cerr, connect});
}
