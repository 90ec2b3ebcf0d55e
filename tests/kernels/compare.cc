#include "tests/kernels/compare.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace sluice {
namespace {

uint32_t Bits(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

testing::AssertionResult SizesDiffer(size_t got, size_t want) {
  return testing::AssertionFailure() << got << " numbers instead of " << want;
}

}  // namespace

testing::AssertionResult Near(const std::vector<float>& got, const std::vector<double>& want,
                              Tolerance tolerance) {
  if (got.size() != want.size()) return SizesDiffer(got.size(), want.size());
  if (got.empty()) return testing::AssertionSuccess();
  double square = 0;
  double error_square = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) {
      return testing::AssertionFailure()
             << "element " << i << " is " << got[i] << " instead of " << want[i];
    }
    square += want[i] * want[i];
    error_square += (got[i] - want[i]) * (got[i] - want[i]);
  }
  const double rms = std::sqrt(square / static_cast<double>(got.size()));
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - want[i]);
    if (error <= tolerance.max_error * (std::abs(want[i]) + rms)) continue;
    return testing::AssertionFailure()
           << "element " << i << " is " << got[i] << " instead of " << want[i] << ", off by "
           << error / (std::abs(want[i]) + rms) << ", more than " << tolerance.max_error;
  }
  if (error_square <= tolerance.relative_l2 * tolerance.relative_l2 * square) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "relative L2 error " << std::sqrt(error_square / square)
                                     << ", more than " << tolerance.relative_l2;
}

testing::AssertionResult EachNear(const std::vector<float>& got, const std::vector<double>& want,
                                  double relative, double absolute) {
  if (got.size() != want.size()) return SizesDiffer(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::abs(got[i] - want[i]) <= relative * std::abs(want[i]) + absolute) continue;
    return testing::AssertionFailure()
           << "element " << i << " is " << got[i] << " instead of " << want[i];
  }
  return testing::AssertionSuccess();
}

testing::AssertionResult SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return SizesDiffer(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    if (Bits(a[i]) == Bits(b[i]) && !std::isnan(a[i])) continue;
    return testing::AssertionFailure() << "element " << i << ": " << a[i] << " and " << b[i];
  }
  return testing::AssertionSuccess();
}

bool AllPoison(const std::vector<float>& values) {
  // Unpacked from bfloat16, the low half is zero.
  return std::all_of(values.begin(), values.end(),
                     [](float value) { return Bits(value) >> 16 == 0xFFFF; });
}

}  // namespace sluice
