// The methods that a client calls, by the names that key files, logs and refusals use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice {

enum class CallMethod : uint8_t { kGenerate, kScore, kTokenize, kDetokenize, kGetModel };

inline constexpr std::array<std::string_view, 5> kCallMethodNames = {
    "Generate", "Score", "Tokenize", "Detokenize", "GetModel"};

constexpr std::string_view CallMethodName(CallMethod method) {
  return kCallMethodNames.at(static_cast<size_t>(method));
}

}  // namespace sluice
