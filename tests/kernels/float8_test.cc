#include "kernels/float8.h"

#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/float8_cpu.h"
#include "tests/kernels/float8_ref.h"
#include "tests/kernels/random_data.h"

namespace sluice {
namespace {

constexpr int kCodes = 256;
constexpr int kNan = 0x7F;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool IsNan(int code) { return (code & 0x7F) == kNan; }

// By the specification's formula.
double NumberOf(int code) {
  const int exponent = code >> 3 & 15;
  const int fraction = code & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return code < 0x80 ? magnitude : -magnitude;
}

// Of all codes that are numbers the nearest one, and of two the one whose last bit is zero.
int Nearest(double value) {
  const int sign = std::signbit(value) ? 0x80 : 0;
  int best = 0;
  for (int code = 1; code < kNan; ++code) {
    const double nearer =
        std::abs(NumberOf(code) - std::abs(value)) - std::abs(NumberOf(best) - std::abs(value));
    if (nearer < 0 || (nearer == 0 && code % 2 == 0)) best = code;
  }
  return sign | best;
}

float Widened(uint16_t bfloat16) { return std::bit_cast<float>(uint32_t{bfloat16} << 16); }

TEST(Float8, HasTheNumbersOfTheSpecification) {
  for (int code = 0; code < kCodes; ++code) {
    const float number = FromFloat8(static_cast<uint8_t>(code));
    if (IsNan(code)) {
      EXPECT_TRUE(std::isnan(number)) << code;
      continue;
    }
    EXPECT_EQ(number, NumberOf(code)) << code;
    EXPECT_EQ(std::signbit(number), code >= 0x80) << code;
    EXPECT_EQ(ToFloat8(number), code);
  }
  EXPECT_EQ(FromFloat8(0x7E), kFloat8Max);
}

TEST(Float8, RoundsToTheNearestAndTiesToEven) {
  for (int code = 0; code + 1 < kNan; ++code) {
    const auto middle = static_cast<float>((NumberOf(code) + NumberOf(code + 1)) / 2);
    for (const float sign : {1.0F, -1.0F}) {
      const int signed_code = sign > 0 ? code : code | 0x80;
      EXPECT_EQ(ToFloat8(sign * middle), signed_code + code % 2) << middle;
      EXPECT_EQ(ToFloat8(sign * std::nextafter(middle, 0.0F)), signed_code) << middle;
      EXPECT_EQ(ToFloat8(sign * std::nextafter(middle, kInfinity)), signed_code + 1) << middle;
    }
  }
}

TEST(Float8, RoundsAsTheOracle) {
  Random random(31);
  for (int i = 0; i < 20000; ++i) {
    const double size = std::ldexp(1.0, random.Below(24) - 14);
    const auto value = static_cast<float>(size * random.Normal());
    ASSERT_EQ(ToFloat8(value), Nearest(value)) << value;
  }
}

TEST(Float8, EndsAtItsLargestNumberAndKeepsNan) {
  for (const float large : {449.0F, 464.0F, 480.0F, 1e30F, FLT_MAX, kInfinity}) {
    EXPECT_EQ(ToFloat8(large), 0x7E) << large;
    EXPECT_EQ(ToFloat8(-large), 0xFE) << large;
  }
  EXPECT_EQ(ToFloat8(std::nanf("")) & 0x7F, kNan);
  EXPECT_EQ(ToFloat8(FLT_MIN), 0);
  EXPECT_EQ(ToFloat8(-0.0F), 0x80);
}

TEST(Float8, FitsTheSmallestPowerOfTwo) {
  EXPECT_EQ(FitFloat8Scale(0), 1);
  EXPECT_EQ(FitFloat8Scale(448), 1);
  EXPECT_EQ(FitFloat8Scale(std::nextafter(448.0F, kInfinity)), 2);
  EXPECT_EQ(FitFloat8Scale(224), 0.5);
  EXPECT_EQ(FitFloat8Scale(225), 1);
  EXPECT_EQ(FitFloat8Scale(0.02F), std::ldexp(1.0F, -14));
  EXPECT_EQ(FitFloat8Scale(1e-40F), std::ldexp(1.0F, kLeastFloat8Exponent));
  EXPECT_EQ(FitFloat8Scale(FLT_MAX), std::ldexp(1.0F, kMostFloat8Exponent));
}

// What makes the widened weight exact: every number of every row is a normal bfloat16 number.
TEST(Float8, TimesAnyScaleIsABFloat16Number) {
  for (int exponent = kLeastFloat8Exponent; exponent <= kMostFloat8Exponent; ++exponent) {
    for (int code = 0; code < kCodes; ++code) {
      if (IsNan(code)) continue;
      const float value = FromFloat8(static_cast<uint8_t>(code)) * std::ldexp(1.0F, exponent);
      ASSERT_EQ(value, std::ldexp(NumberOf(code), exponent));
      ASSERT_EQ(std::bit_cast<uint32_t>(value) & 0xFFFFU, 0) << code << " " << exponent;
      ASSERT_TRUE(value == 0 || std::isnormal(value)) << code << " " << exponent;
    }
  }
}

TEST(Float8, FindsTheLargestMagnitude) {
  EXPECT_EQ(LargestMagnitude(nullptr, 0), 0);
  const std::vector<float> values = {0.5F, -3, 2, -0.0F, 1e-30F};
  EXPECT_EQ(LargestMagnitude(values.data(), 5), 3);
  std::vector<float> more(37, -1);
  more[36] = -kInfinity;
  EXPECT_EQ(LargestMagnitude(more.data(), 37), kInfinity);
  more[3] = std::nanf("");
  EXPECT_TRUE(std::isnan(LargestMagnitude(more.data(), 37)));
}

TEST(Float8, KeepsARowToFourBits) {
  Random random(32);
  for (const double size : {1e-38, 1e-6, 0.02, 1.0, 1e20}) {
    const std::vector<float> row = random.Normals(301, size);
    const float scale = FitFloat8Scale(LargestMagnitude(row.data(), 301));
    std::vector<uint8_t> codes(301);
    RoundToFloat8(row.data(), 301, scale, codes.data());
    for (size_t i = 0; i < row.size(); ++i) {
      const float error = std::abs(FromFloat8(codes[i]) * scale - row[i]);
      ASSERT_LE(error, std::max(std::abs(row[i]) / 16, scale * 0x1p-10F)) << row[i];
    }
    // What is rounded stays what it is, whatever scale it gets then.
    std::vector<float> rounded = row;
    RoundRowsThroughFloat8(rounded.data(), 1, 301);
    for (size_t i = 0; i < row.size(); ++i) ASSERT_EQ(FromFloat8(codes[i]) * scale, rounded[i]);
    const float again = FitFloat8Scale(LargestMagnitude(rounded.data(), 301));
    RoundToFloat8(rounded.data(), 301, again, codes.data());
    for (size_t i = 0; i < row.size(); ++i) ASSERT_EQ(FromFloat8(codes[i]) * again, rounded[i]);
  }
}

TEST(Float8, IsWidenedAsTheFormulaSays) {
  std::vector<uint8_t> codes;
  for (int code = 0; code < kCodes; ++code) codes.push_back(IsNan(code) ? 0 : code);
  for (const int exponent : {kLeastFloat8Exponent, -14, 0, 5, kMostFloat8Exponent}) {
    const float scale = std::ldexp(1.0F, exponent);
    for (const int64_t count : {8, 24, 256}) {
      std::vector<uint16_t> halves(count + 1, 0xABCD);
      std::vector<float> floats(count + 1, -7);
      const uint8_t* from = codes.data() + kCodes - count;
      WidenFloat8(from, count, scale, halves.data());
      WidenFloat8(from, count, scale, floats.data());
      for (int64_t i = 0; i < count; ++i) {
        const float want = FromFloat8(from[i]) * scale;
        ASSERT_EQ(std::bit_cast<uint32_t>(floats[i]), std::bit_cast<uint32_t>(want)) << i;
        ASSERT_EQ(std::bit_cast<uint32_t>(Widened(halves[i])), std::bit_cast<uint32_t>(want)) << i;
      }
      EXPECT_EQ(halves[count], 0xABCD);
      EXPECT_EQ(floats[count], -7);
    }
  }
}

}  // namespace
}  // namespace sluice
