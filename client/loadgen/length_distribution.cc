#include "client/loadgen/length_distribution.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/loadgen/parse_value.h"
#include "engine/json.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{256} << 20;
constexpr double kMaxSigma = 10;
constexpr double kMaxExponent = 10;

absl::Status NoDistribution(absl::string_view spec) {
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", spec,
      "\" is none of N, fixed:N, uniform:LOW,HIGH, normal:MEAN,STDDEV, lognormal:MEDIAN,SIGMA, "
      "zipf:EXPONENT,MAX, file:PATH"));
}

}  // namespace

absl::StatusOr<LengthDistribution> LengthDistribution::Parse(absl::string_view spec) {
  const std::vector<absl::string_view> parts = absl::StrSplit(spec, absl::MaxSplits(':', 1));
  absl::StatusOr<LengthDistribution> made =
      parts.size() == 1 ? FromName("fixed", spec) : FromName(parts[0], parts[1]);
  if (!made.ok() && made.status().message().empty()) return NoDistribution(spec);
  if (made.ok()) made->spec_ = std::string(spec);
  return made;
}

// An error without a message: there is no such distribution, or it has other parameters.
absl::StatusOr<LengthDistribution> LengthDistribution::FromName(absl::string_view name,
                                                                absl::string_view values) {
  if (name == "file") return FromFile(std::string(values));
  const std::vector<absl::string_view> parts = absl::StrSplit(values, ',');
  if (name == "fixed" && parts.size() == 1) {
    SLUICE_ASSIGN_OR_RETURN(const int64_t length, ParseWholeIn(parts[0], 0, kMaxLength));
    return Uniform(length, length);
  }
  if (parts.size() != 2) return absl::InvalidArgumentError("");
  if (name == "uniform") {
    SLUICE_ASSIGN_OR_RETURN(const int64_t low, ParseWholeIn(parts[0], 0, kMaxLength));
    SLUICE_ASSIGN_OR_RETURN(const int64_t high, ParseWholeIn(parts[1], low, kMaxLength));
    return Uniform(low, high);
  }
  LengthDistribution made;
  if (name == "normal" || name == "lognormal") {
    const bool normal = name == "normal";
    made.kind_ = normal ? Kind::kNormal : Kind::kLognormal;
    SLUICE_ASSIGN_OR_RETURN(made.first_, ParseNumberIn(parts[0], 0, kMaxLength));
    SLUICE_ASSIGN_OR_RETURN(made.second_,
                            ParseNumberIn(parts[1], 0, normal ? double{kMaxLength} : kMaxSigma));
    return made;
  }
  if (name == "zipf") {
    SLUICE_ASSIGN_OR_RETURN(const double exponent, ParseNumberIn(parts[0], 0, kMaxExponent));
    SLUICE_ASSIGN_OR_RETURN(const int64_t max, ParseWholeIn(parts[1], 1, kMaxZipf));
    return Zipf(exponent, max);
  }
  return absl::InvalidArgumentError("");
}

LengthDistribution LengthDistribution::Uniform(int64_t low, int64_t high) {
  LengthDistribution made;
  made.first_ = static_cast<double>(low);
  made.second_ = static_cast<double>(high);
  return made;
}

LengthDistribution LengthDistribution::Zipf(double exponent, int64_t max) {
  std::vector<double> cumulative;
  cumulative.reserve(static_cast<size_t>(max));
  double sum = 0;
  for (int64_t k = 1; k <= max; ++k) {
    sum += std::pow(static_cast<double>(k), -exponent);
    cumulative.push_back(sum);
  }
  for (double& share : cumulative) share /= sum;
  LengthDistribution made = Uniform(1, max);
  made.kind_ = Kind::kZipf;
  made.cumulative_ = std::make_shared<const std::vector<double>>(std::move(cumulative));
  return made;
}

absl::StatusOr<LengthDistribution> LengthDistribution::FromFile(const std::string& path) {
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path, kMaxFileBytes));
  std::vector<int64_t> values;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    const absl::StatusOr<int64_t> value = ParseWholeIn(line, 0, kMaxLength);
    if (!value.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ", line ", number, ": ", value.status().message()));
    }
    values.push_back(*value);
  }
  if (values.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " holds no lengths"));
  std::sort(values.begin(), values.end());
  LengthDistribution made = Uniform(values.front(), values.back());
  made.kind_ = Kind::kFile;
  made.values_ = std::make_shared<const std::vector<int64_t>>(std::move(values));
  return made;
}

int64_t LengthDistribution::Draw(RandomStream* random, int64_t low, int64_t high) const {
  double drawn = 0;
  switch (kind_) {
    case Kind::kUniform:
      drawn = static_cast<double>(
          random->Whole(static_cast<int64_t>(first_), static_cast<int64_t>(second_)));
      break;
    case Kind::kNormal:
      drawn = first_ + second_ * random->Normal();
      break;
    case Kind::kLognormal:
      drawn = first_ * std::exp(second_ * random->Normal());
      break;
    case Kind::kZipf: {
      const auto at =
          std::upper_bound(cumulative_->begin(), cumulative_->end() - 1, random->Uniform());
      drawn = static_cast<double>(at - cumulative_->begin() + 1);
      break;
    }
    case Kind::kFile: {
      const int64_t last = static_cast<int64_t>(values_->size()) - 1;
      drawn = static_cast<double>((*values_)[static_cast<size_t>(random->Whole(0, last))]);
      break;
    }
  }
  const double rounded = std::round(drawn);
  if (rounded <= static_cast<double>(low)) return low;
  if (rounded >= static_cast<double>(high)) return high;
  return static_cast<int64_t>(rounded);
}

std::optional<int64_t> LengthDistribution::smallest() const {
  if (kind_ == Kind::kNormal || kind_ == Kind::kLognormal) return std::nullopt;
  return static_cast<int64_t>(first_);
}

std::optional<int64_t> LengthDistribution::largest() const {
  if (kind_ == Kind::kNormal || kind_ == Kind::kLognormal) return std::nullopt;
  return static_cast<int64_t>(second_);
}

}  // namespace sluice
