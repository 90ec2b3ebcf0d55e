// Oracle of kernels/short_conv.h.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/activation.h"
#include "tests/kernels/activation_ref.h"

namespace sluice::ref {

struct ShortConvResult {
  std::vector<double> y;      // [tokens, channels]
  std::vector<float> window;  // [width - 1, channels], oldest first
};

// One sequence. x: [tokens, channels]; window: the inputs before it; weight: [channels, width];
// bias: [channels] or empty.
inline ShortConvResult ShortConv(const std::vector<float>& x, const std::vector<float>& window,
                                 const std::vector<float>& weight, const std::vector<float>& bias,
                                 int64_t channels, Activation act = Activation::kSilu) {
  const int64_t width = static_cast<int64_t>(weight.size()) / channels;
  const int64_t tokens = static_cast<int64_t>(x.size()) / channels;
  std::vector<float> past = window;  // every input from the oldest of the window on
  past.insert(past.end(), x.begin(), x.end());
  ShortConvResult result;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t c = 0; c < channels; ++c) {
      double sum = bias.empty() ? 0.0 : double{bias[c]};
      for (int64_t j = 0; j < width; ++j) {
        sum += double{weight[c * width + j]} * past[(t + j) * channels + c];
      }
      result.y.push_back(Activate(act, sum));
    }
  }
  result.window.assign(past.end() - (width - 1) * channels, past.end());
  return result;
}

}  // namespace sluice::ref
