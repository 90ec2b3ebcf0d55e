// The `sluice-loadgen` command.
#include <unistd.h>

#include <functional>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "client/interrupt.h"
#include "client/loadgen/loadgen_command.h"

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  const std::vector<std::string> args(argv + 1, argv + argc);
  sluice::Interrupt interrupt;
  sluice::LoadgenEnvironment environment{std::cout, std::cerr, isatty(STDERR_FILENO) != 0, nullptr};
  environment.on_interrupt = [&interrupt](std::function<void()> stop) {
    interrupt.Watch([stop = std::move(stop)] {
      stop();
      return true;
    });
  };
  return sluice::RunLoadgen(args, environment);
}
