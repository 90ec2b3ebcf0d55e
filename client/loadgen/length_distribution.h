// How long prompts and outputs are.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/loadgen/random_stream.h"

namespace sluice {

// A distribution over whole numbers. Immutable, so it can be drawn from by several threads at once.
class LengthDistribution {
 public:
  static constexpr int64_t kMaxLength = int64_t{1} << 24;
  static constexpr int64_t kMaxZipf = int64_t{1} << 20;

  // Reads one of
  //   128, fixed:128           always this
  //   uniform:LOW,HIGH         each of LOW to HIGH as likely
  //   normal:MEAN,STDDEV       rounded
  //   lognormal:MEDIAN,SIGMA   MEDIAN * exp(SIGMA * z), z standard normal, rounded
  //   zipf:EXPONENT,MAX        k of 1 to MAX with probability proportional to k^-EXPONENT
  //   file:PATH                a line of the file, each as likely; a whole number a line
  // with lengths from 0 to kMaxLength. InvalidArgument says what is wrong and names the range;
  // NotFound if the file is not there.
  static absl::StatusOr<LengthDistribution> Parse(absl::string_view spec);

  // Rounded, then brought into [low, high].
  int64_t Draw(RandomStream* random, int64_t low, int64_t high) const;

  // The least and greatest that it gives; unset for normal and lognormal.
  std::optional<int64_t> smallest() const;
  std::optional<int64_t> largest() const;

  const std::string& spec() const { return spec_; }

 private:
  enum class Kind : uint8_t { kUniform, kNormal, kLognormal, kZipf, kFile };

  LengthDistribution() = default;
  static absl::StatusOr<LengthDistribution> FromFile(const std::string& path);
  static LengthDistribution Uniform(int64_t low, int64_t high);
  static LengthDistribution Zipf(double exponent, int64_t max);
  static absl::StatusOr<LengthDistribution> FromName(absl::string_view name,
                                                     absl::string_view values);

  Kind kind_ = Kind::kUniform;
  std::string spec_;
  double first_ = 0;                                       // low, mean or median
  double second_ = 0;                                      // high, standard deviation or sigma
  std::shared_ptr<const std::vector<double>> cumulative_;  // kZipf: of k at k - 1
  std::shared_ptr<const std::vector<int64_t>> values_;     // kFile, in order of size
};

}  // namespace sluice
