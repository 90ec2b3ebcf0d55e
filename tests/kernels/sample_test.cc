#include "kernels/sample.h"

#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/philox.h"
#include "kernels/token_counts.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/sample_ref.h"

namespace sluice {
namespace {

struct Row {
  std::vector<float> logits;
  SampleParams params;
  std::vector<TokenBias> bias = {};
};

struct Result {
  std::vector<int32_t> tokens;
  std::vector<uint32_t> counts;
};

// `counts`: of all slots, or empty if no row keeps any.
Result Drawn(Device& device, const std::vector<Row>& rows, const std::vector<uint32_t>& counts,
             int32_t vocab) {
  std::vector<float> logits;
  std::vector<SampleParams> params;
  std::vector<TokenBias> bias;
  for (const Row& row : rows) {
    logits.insert(logits.end(), row.logits.begin(), row.logits.end());
    params.push_back(row.params);
    params.back().bias_begin = static_cast<int32_t>(bias.size());
    params.back().bias_count = static_cast<int32_t>(row.bias.size());
    bias.insert(bias.end(), row.bias.begin(), row.bias.end());
  }
  const Input logit(device, logits);
  const Input param(device, params);
  const Input biases(device, bias);
  const Output table(device, counts);
  const Output scratch(device, static_cast<int64_t>(logits.size()) * 4);
  const Output tokens(device, static_cast<int64_t>(rows.size()) * 4);
  device.Sample({.rows = static_cast<int32_t>(rows.size()),
                 .vocab = vocab,
                 .logits = logit.as<float>(),
                 .params = param.as<SampleParams>(),
                 .bias = biases.as<TokenBias>(),
                 .counts = counts.empty() ? nullptr : table.as<uint32_t>(),
                 .scratch = scratch.as<float>(),
                 .tokens = tokens.as<int32_t>()});
  scratch.ReadBytes();  // Looks at the guards.
  return {tokens.Read<int32_t>(), table.Read<uint32_t>()};
}

std::vector<int32_t> Tokens(Device& device, const std::vector<Row>& rows) {
  return Drawn(device, rows, {}, static_cast<int32_t>(rows[0].logits.size())).tokens;
}

// `count` rows that differ in their position alone.
std::vector<Row> Positions(const std::vector<float>& logits, const SampleParams& params,
                           int32_t count) {
  std::vector<Row> rows(count, {logits, params});
  for (int32_t r = 0; r < count; ++r) rows[r].params.position = static_cast<uint32_t>(r);
  return rows;
}

class SampleTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, SampleTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST(Philox, GivesTheKnownAnswers) {
  // Random123's kat_vectors, philox4x32 with 10 rounds.
  const auto words = [](const PhiloxWords& w) { return std::vector<uint32_t>(w.word, w.word + 4); };
  EXPECT_EQ(words(Philox::Block({{0, 0, 0, 0}}, 0)),
            std::vector<uint32_t>({0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(words(Philox::Block({{~0U, ~0U, ~0U, ~0U}}, ~uint64_t{0})),
            std::vector<uint32_t>({0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(
      words(Philox::Block({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822)),
      std::vector<uint32_t>({0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformNumbersAreNeverZeroOrOne) {
  EXPECT_EQ(UniformOpen(0), 0x1p-24F);
  EXPECT_EQ(UniformOpen(~0U), 1 - 0x1p-24F);
}

TEST(SampleRef, PenalizesByHand) {
  SampleParams params;
  params.repetition_penalty = 2;
  params.frequency_penalty = 0.5F;
  params.presence_penalty = 0.25F;
  // In the prompt; in the prompt and generated twice; generated once; not seen.
  EXPECT_EQ(
      ref::PenalizedLogits({4, 4, -1, 4}, params, {{3, 1.5F}}, {kInPrompt, kInPrompt | 2, 1, 0}),
      std::vector<double>({2, 0.75, -2.75, 5.5}));
}

TEST_P(SampleTest, GreedyTakesTheLargestAndTheLowestIdOfATie) {
  SampleParams greedy;
  greedy.temperature = 0;
  greedy.top_k = 1;  // What follows the temperature plays no part.
  greedy.top_p = 0.1F;
  EXPECT_EQ(Tokens(device(), {{{0, 1, 5, 2, 5, 5, -1, 4}, greedy},
                              {{-3, -3, -3, -3, -3, -3, -3, -3}, greedy},
                              {{0, 0, 0, 0, 0, 0, 0, 1e-6F}, greedy}}),
            std::vector<int32_t>({2, 0, 7}));
  std::vector<float> wide(32003, -1.0F);
  wide[32002] = wide[17001] = 3;
  EXPECT_EQ(Tokens(device(), {{wide, greedy}}), std::vector<int32_t>({17001}));
}

// Tokens 0..7 have these weights, 40.5 in all: shares 0.395, 0.790 (two), 0.889, 0.938, 0.988
// (two), 1.
const std::vector<float>& HandLogits() {
  static const std::vector<float>& logits = *[] {
    auto* values = new std::vector<float>;
    for (const float weight : {16.0F, 8.0F, 8.0F, 4.0F, 2.0F, 1.0F, 1.0F, 0.5F}) {
      values->push_back(std::log(weight));
    }
    return values;
  }();
  return logits;
}

SampleParams Truncation(int32_t top_k, float min_p, float top_p, float temperature = 1) {
  SampleParams params;
  params.seed = 5;
  params.top_k = top_k;
  params.min_p = min_p;
  params.top_p = top_p;
  params.temperature = temperature;
  return params;
}

TEST_P(SampleTest, DrawsFromExactlyTheSetThatIsKept) {
  const struct {
    SampleParams params;
    int32_t kept;  // the first so many
  } kCases[] = {
      {Truncation(0, 0, 1), 8},
      {Truncation(1, 0, 1), 1},
      {Truncation(2, 0, 1), 3},
      {Truncation(3, 0, 1), 3},
      {Truncation(4, 0, 1), 4},
      {Truncation(6, 0, 1), 7},
      {Truncation(8, 0, 1), 8},
      {Truncation(100, 0, 1), 8},
      {Truncation(0, 1, 1), 1},
      {Truncation(0, 0.3F, 1), 3},
      {Truncation(0, 0.2F, 1), 4},
      {Truncation(0, 0.06F, 1), 7},
      {Truncation(0, 0, 1e-6F), 1},
      {Truncation(0, 0, 0.3F), 1},
      {Truncation(0, 0, 0.4F), 3},
      {Truncation(0, 0, 0.5F), 3},
      {Truncation(0, 0, 0.85F), 4},
      {Truncation(0, 0, 0.9F), 5},
      {Truncation(0, 0, 0.95F), 7},
      {Truncation(0, 0, 0.99F), 8},
      // Shares are those of what is kept so far: of 36, tokens 0 to 2 have 0.889.
      {Truncation(4, 0, 0.85F), 3},
      {Truncation(0, 0.2F, 0.85F), 3},
      {Truncation(4, 0.3F, 0.99F), 3},
      // Of roots of the weights, 2^0.5 is 0.354 of the largest.
      {Truncation(0, 0.3F, 1, 2), 5},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(testing::Message() << "top_k " << c.params.top_k << " min_p " << c.params.min_p
                                    << " top_p " << c.params.top_p);
    const std::vector<int32_t> drawn = Tokens(device(), Positions(HandLogits(), c.params, 3000));
    std::set<int32_t> want;
    for (int32_t token = 0; token < c.kept; ++token) want.insert(token);
    EXPECT_EQ(std::set<int32_t>(drawn.begin(), drawn.end()), want);
  }
}

// Pearson's statistic of draws against shares that are all large enough to expect five.
double ChiSquare(const std::vector<int32_t>& drawn, const std::vector<double>& shares) {
  std::vector<double> observed(shares.size());
  for (const int32_t token : drawn) observed[token] += 1;
  double chi_square = 0;
  for (size_t v = 0; v < shares.size(); ++v) {
    const double expected = shares[v] * static_cast<double>(drawn.size());
    if (expected == 0) {
      EXPECT_EQ(observed[v], 0) << v;
      continue;
    }
    EXPECT_GE(expected, 5) << v;
    chi_square += (observed[v] - expected) * (observed[v] - expected) / expected;
  }
  return chi_square;
}

std::vector<double> Shares(const std::vector<float>& logits, double temperature, size_t kept) {
  std::vector<double> shares(logits.size());
  double sum = 0;
  for (size_t v = 0; v < kept; ++v) sum += shares[v] = std::exp(logits[v] / temperature);
  for (double& share : shares) share /= sum;
  return shares;
}

TEST_P(SampleTest, DrawsFromTheSoftmax) {
  std::vector<float> logits(16);
  for (int v = 0; v < 16; ++v) logits[v] = 3 - 0.25F * static_cast<float>(v);
  // 99.9 % of honest draws stay below 37.7 with 16 tokens and below 24.3 with 8 and 0 left out.
  for (const float temperature : {0.7F, 1.0F, 2.0F}) {
    SCOPED_TRACE(temperature);
    const SampleParams params = Truncation(0, 0, 1, temperature);
    std::vector<Row> rows = Positions(logits, params, 20000);
    EXPECT_LT(ChiSquare(Tokens(device(), rows), Shares(logits, temperature, 16)), 37.7);
    // The same position of many seeds.
    for (size_t r = 0; r < rows.size(); ++r) {
      rows[r].params.position = 3;
      rows[r].params.seed = (uint64_t{r} << 40) + r;
    }
    EXPECT_LT(ChiSquare(Tokens(device(), rows), Shares(logits, temperature, 16)), 37.7);
  }
  const std::vector<Row> truncated = Positions(logits, Truncation(8, 0, 1), 10000);
  EXPECT_LT(ChiSquare(Tokens(device(), truncated), Shares(logits, 1, 8)), 24.3);
}

Row RandomRow(int32_t vocab, int32_t slot, Random& random) {
  SampleParams params;
  params.seed = random.Next();
  params.position = static_cast<uint32_t>(random.Next());
  params.temperature = random.Below(8) == 0 ? 0 : static_cast<float>(0.2 + 1.5 * random.Uniform());
  if (random.Below(2) == 0) params.top_k = 1 + random.Below(60);
  if (random.Below(2) == 0) params.top_p = static_cast<float>(random.Uniform());
  if (random.Below(3) == 0) params.min_p = static_cast<float>(0.3 * random.Uniform());
  if (random.Below(2) == 0) {
    params.repetition_penalty = static_cast<float>(0.8 + random.Uniform());
    params.presence_penalty = static_cast<float>(random.Normal());
    params.frequency_penalty = static_cast<float>(random.Normal());
  }
  params.slot = slot;
  Row row = {random.Normals(vocab, 3), params};
  for (int32_t i = random.Below(4); i > 0; --i) {
    row.bias.push_back(
        {vocab / 5 * i + random.Below(vocab / 5), static_cast<float>(random.Normal())});
  }
  return row;
}

std::vector<uint32_t> RandomCounts(int64_t count, Random& random) {
  std::vector<uint32_t> counts(count);
  for (uint32_t& entry : counts) {
    if (random.Below(8) == 0) entry = kInPrompt;
    if (random.Below(8) == 0) entry += static_cast<uint32_t>(1 + random.Below(3));
  }
  return counts;
}

// Tokens are those of the oracle but for numbers that are as good as equal, and every count table
// is raised by its row's token alone.
void ExpectAgreesWithOracle(const std::vector<Row>& rows, const std::vector<uint32_t>& counts,
                            const Result& got, int32_t vocab) {
  size_t other = 0;
  size_t undecided = 0;
  std::vector<uint32_t> raised = counts;
  for (size_t r = 0; r < rows.size(); ++r) {
    const SampleParams& params = rows[r].params;
    const int32_t token = got.tokens[r];
    ASSERT_TRUE(token >= 0 && token < vocab) << "row " << r << " has token " << token;
    const size_t table = params.slot < 0 ? 0 : size_t{1} * params.slot * vocab;
    if (params.slot >= 0) ++raised[table + token];
    const ref::SampleResult want =
        ref::Sample(rows[r].logits, params, rows[r].bias,
                    params.slot < 0 ? std::vector<uint32_t>() : Part(counts, table, vocab));
    if (want.margin < 1e-5) {
      ++undecided;
      continue;
    }
    EXPECT_GE(want.keys[token], want.keys[want.token] - 1e-4)
        << "row " << r << " has token " << token << " instead of " << want.token;
    if (token != want.token) ++other;
  }
  EXPECT_LE(other, rows.size() / 1000);
  // Where the vocabulary is large, many edges of top_p lie within one token's share.
  EXPECT_LE(undecided, rows.size() / (vocab > 100000 ? 2 : 50));
  EXPECT_EQ(got.counts, raised);
}

TEST_P(SampleTest, AgreesWithTheOracle) {
  constexpr struct {
    int32_t rows;
    int32_t vocab;
  } kShapes[] = {{3000, 33}, {64, 8},     {300, 1000}, {40, 32000},
                 {1, 50277}, {6, 128256}, {4, 256000}, {2, 500009}};
  Random random(1300);
  for (const auto& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.rows << "x" << shape.vocab);
    std::vector<Row> rows;
    const int32_t slots = shape.rows / 2 + 1;
    rows.reserve(shape.rows);
    for (int32_t r = 0; r < shape.rows; ++r) {
      rows.push_back(RandomRow(shape.vocab, r % 2 == 0 ? slots - 1 - r / 2 : -1, random));
    }
    const std::vector<uint32_t> counts = RandomCounts(int64_t{slots} * shape.vocab, random);
    ExpectAgreesWithOracle(rows, counts, Drawn(device(), rows, counts, shape.vocab), shape.vocab);
  }
}

TEST_P(SampleTest, KeepsTiesAsTheOracleDoes) {
  // Logits of few values, so that most edges lie within ties. Halves and powers of two of the
  // temperature keep float32 exact.
  Random random(1310);
  std::vector<Row> rows;
  for (int i = 0; i < 2000; ++i) {
    Row row = RandomRow(64, -1, random);
    for (float& logit : row.logits) logit = 0.5F * static_cast<float>(random.Below(8));
    row.bias.clear();
    row.params.temperature = random.Below(2) == 0 ? 0.5F : 2.0F;
    rows.push_back(row);
  }
  ExpectAgreesWithOracle(rows, {}, Drawn(device(), rows, {}, 64), 64);
}

TEST_P(SampleTest, PenalizesByHand) {
  constexpr int32_t kVocab = 8;
  const std::vector<float> logits = {5, 4, 3, -1, -2, -3, -4, -5};
  SampleParams greedy;
  greedy.temperature = 0;
  greedy.slot = 0;
  const auto token = [&](const SampleParams& params, const std::vector<uint32_t>& counts,
                         const std::vector<TokenBias>& bias = {}) {
    const Result got = Drawn(device(), {{logits, params, bias}}, counts, kVocab);
    std::vector<uint32_t> raised = counts;
    ++raised[got.tokens[0]];
    EXPECT_EQ(got.counts, raised);
    return got.tokens[0];
  };
  // Token 0 generated twice.
  SampleParams frequency = greedy;
  frequency.frequency_penalty = 0.4F;  // 5 - 0.8
  EXPECT_EQ(token(frequency, {2, 0, 0, 0, 0, 0, 0, 0}), 0);
  frequency.frequency_penalty = 0.6F;  // 5 - 1.2
  EXPECT_EQ(token(frequency, {2, 0, 0, 0, 0, 0, 0, 0}), 1);
  EXPECT_EQ(token(frequency, {kInPrompt, 0, 0, 0, 0, 0, 0, 0}), 0);
  SampleParams presence = greedy;
  presence.presence_penalty = 1.5F;
  EXPECT_EQ(token(presence, {2, 0, 0, 0, 0, 0, 0, 0}), 1);
  EXPECT_EQ(token(presence, {kInPrompt, 0, 0, 0, 0, 0, 0, 0}), 0);
  EXPECT_EQ(token(presence, {1, 1, 0, 0, 0, 0, 0, 0}), 0);
  SampleParams repetition = greedy;
  repetition.repetition_penalty = 2;
  EXPECT_EQ(token(repetition, {kInPrompt, 0, 0, 0, 0, 0, 0, 0}), 1);
  EXPECT_EQ(token(repetition, {1, kInPrompt | 7, 0, 0, 0, 0, 0, 0}), 2);
  // 2.5, 2, 1.5 and -1; below zero the penalty multiplies.
  repetition.repetition_penalty = 0.125F;
  EXPECT_EQ(token(repetition, {0, 0, 0, 0, 0, 0, 0, kInPrompt}), 0);
  EXPECT_EQ(token(repetition, {0, 1, 0, 0, 0, 0, 0, 0}), 1);
  EXPECT_EQ(token(greedy, {9, 9, 9, 9, 9, 9, 9, kInPrompt | 9}), 0);
  // Bias comes before the penalty: (-5 + 11) / 2 = 3 is not above 4.
  repetition.repetition_penalty = 2;
  EXPECT_EQ(token(repetition, {1, 0, 0, 0, 0, 0, 0, kInPrompt}, {{7, 11}}), 1);
  EXPECT_EQ(token(greedy, {0, 0, 0, 0, 0, 0, 0, 0}, {{7, 11}, {0, -100}}), 7);
}

TEST_P(SampleTest, KeepsNoCountsForARowWithoutASlot) {
  SampleParams params;
  params.temperature = 0;
  params.frequency_penalty = 100;
  params.presence_penalty = 100;
  params.repetition_penalty = 100;
  const std::vector<uint32_t> counts = {9, 0, 0, 0, 0, 0, 0, 0};
  const Result got = Drawn(device(), {{{5, 4, 3, 2, 1, 0, 0, 0}, params}}, counts, 8);
  EXPECT_EQ(got.tokens[0], 0);
  EXPECT_EQ(got.counts, counts);
}

TEST_P(SampleTest, ASeedDrawsTheSameInAnyBatch) {
  Random random(1320);
  for (const int32_t vocab : {777, 32003}) {
    SCOPED_TRACE(vocab);
    std::vector<Row> rows(64);
    for (Row& row : rows) row = RandomRow(vocab, -1, random);
    const std::vector<int32_t> all = Tokens(device(), rows);
    const std::vector<Row> reversed(rows.rbegin(), rows.rend());
    EXPECT_EQ(Tokens(device(), reversed), std::vector<int32_t>(all.rbegin(), all.rend()));
    for (size_t r = 0; r < rows.size(); ++r) {
      EXPECT_EQ(Tokens(device(), {rows[r]})[0], all[r]) << r;
    }
  }
}

TEST_P(SampleTest, ASmallTemperatureIsGreedy) {
  const std::vector<float> logits = {1, 2, 7, 3, 6.9F, -4, 0, 5};
  for (const float temperature : {1e-3F, 1e-6F, 1e-20F}) {
    for (const int32_t token :
         Tokens(device(), Positions(logits, Truncation(0, 0, 1, temperature), 100))) {
      ASSERT_EQ(token, 2) << temperature;
    }
    const SampleParams truncated = Truncation(4, 0.1F, 0.9F, temperature);
    EXPECT_EQ(Tokens(device(), {{logits, truncated}})[0], 2) << temperature;
  }
}

// What broken weights make must not become an id that is none.
TEST_P(SampleTest, DrawsSomeTokenOfTheVocabularyFromWhatIsNoNumber) {
  constexpr int32_t kVocab = 1003;
  std::vector<float> mixed(kVocab, std::nanf(""));
  mixed[500] = 1;
  std::vector<Row> rows;
  for (const auto& logits : {std::vector<float>(kVocab, std::nanf("")), mixed}) {
    for (const float temperature : {0.0F, 1.0F}) {
      for (const float top_p : {1.0F, 0.9F}) {
        SampleParams params;
        params.temperature = temperature;
        params.top_p = top_p;
        params.top_k = top_p < 1 ? 40 : 0;
        rows.push_back({logits, params});
      }
    }
  }
  for (const int32_t token : Tokens(device(), rows)) {
    EXPECT_GE(token, 0);
    EXPECT_LT(token, kVocab);
  }
}

TEST_P(SampleTest, TakesNoRows) { EXPECT_TRUE(Drawn(device(), {}, {}, 100).tokens.empty()); }

TEST(SampleThreads, DrawTheSame) {
  Random random(1330);
  std::vector<Row> rows(37);
  for (Row& row : rows) row = RandomRow(2000, -1, random);
  EXPECT_EQ(Tokens(*CreateCpuDevice(1), rows), Tokens(*CreateCpuDevice(2), rows));
}

using SampleDeathTest = SampleTest;
INSTANTIATE_TEST_SUITE_P(Devices, SampleDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(SampleDeathTest, RefusesWhatBreaksALimit) {
  EXPECT_DEATH(Tokens(device(), {{{1, 2, 3, 4, 5, 6, 7}, SampleParams()}}), kCheckFailed);
}

}  // namespace
}  // namespace sluice
