// A kept set is never written down: each of top_k, min_p and top_p keeps what reaches a floor.
#include "kernels/sample.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/philox.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/sample_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

#ifndef SLUICE_KERNELS_SAMPLE_CPU_ONCE_
#define SLUICE_KERNELS_SAMPLE_CPU_ONCE_
namespace sluice {

constexpr int64_t kDrawBlock = 64;  // tokens

// Token v is kept if z[v] >= z_floor and exp(z[v] - max) >= e_floor.
struct KeptFloors {
  float max;
  float z_floor;
  float e_floor;
};

}  // namespace sluice
#endif  // SLUICE_KERNELS_SAMPLE_CPU_ONCE_

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// The greatest number so far in each lane, and where it was.
struct LaneBest {
  FloatVec value;
  hn::Vec<hn::RebindToSigned<Floats>> index;

  HWY_INLINE void Offer(FloatVec candidate, int32_t first_index) {
    const hn::RebindToSigned<Floats> di;
    const auto greater = hn::Gt(candidate, value);
    const auto at = hn::Iota(di, first_index);
    value = hn::IfThenElse(greater, candidate, value);
    index = hn::IfThenElse(hn::RebindMask(di, greater), at, index);
  }

  HWY_INLINE int32_t Index() const {
    const Floats d;
    const hn::RebindToSigned<Floats> di;
    HWY_ALIGN float values[16];
    HWY_ALIGN int32_t indices[16];
    hn::Store(value, d, values);
    hn::Store(index, di, indices);
    int64_t best = 0;
    for (int64_t i = 1; i < FloatLanes(); ++i) {
      const bool wins =
          values[i] > values[best] || (values[i] == values[best] && indices[i] < indices[best]);
      if (wins) best = i;
    }
    return indices[best];
  }
};

// Token 0, which any number beats; what is no number beats nothing.
HWY_INLINE LaneBest NoneYet() {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  return {hn::Set(d, -std::numeric_limits<float>::infinity()), hn::Zero(di)};
}

int32_t ArgMax(const float* x, int64_t count) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  LaneBest best = NoneYet();
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    best.Offer(hn::LoadU(d, x + i), static_cast<int32_t>(i));
  }
  if (i < count) {
    HWY_ALIGN float tail[16];
    std::fill_n(tail, 16, -std::numeric_limits<float>::infinity());
    std::copy(x + i, x + count, tail);
    best.Offer(hn::Load(d, tail), static_cast<int32_t>(i));
  }
  return best.Index();
}

// Writes the numbers within [low, high] to `to`, which holds `count` and a vector, and returns how
// many they are. The numbers are z or, with a floor for it, exp(z - max).
int64_t SelectWithin(const float* z, int64_t count, const KeptFloors* exp_of, float low, float high,
                     float* to) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  int64_t selected = 0;
  HWY_ALIGN float tail[16];
  for (int64_t i = 0; i < count; i += lanes) {
    const float* from = z + i;
    if (count - i < lanes) {
      std::fill(std::copy(z + i, z + count, tail), tail + 16, std::nanf(""));
      from = tail;
    }
    auto value = hn::LoadU(d, from);
    auto within = hn::Eq(value, value);
    if (exp_of != nullptr) {
      within = hn::Ge(value, hn::Set(d, exp_of->z_floor));
      value = hn::Exp(d, hn::Sub(value, hn::Set(d, exp_of->max)));
      within = hn::And(within, hn::Ge(value, hn::Set(d, exp_of->e_floor)));
    }
    within = hn::And(within, hn::Ge(value, hn::Set(d, low)));
    within = hn::And(within, hn::Le(value, hn::Set(d, high)));
    selected += static_cast<int64_t>(hn::CompressStore(value, within, d, to + selected));
  }
  return selected;
}

// The random words of kDrawBlock tokens from 4 * quad on, as Philox::OfTokens gives them. A word
// lies in the lower half of a 64-bit lane; what the upper half holds is of no account.
HWY_INLINE void RandomWords(uint64_t seed, uint32_t position, uint32_t quad, uint32_t* words) {
  const hn::CappedTag<uint64_t, 8> d;
  const hn::Repartition<uint32_t, decltype(d)> d32;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto multiply0 = hn::Set(d32, Philox::kMultiply0);
  const auto multiply1 = hn::Set(d32, Philox::kMultiply1);
  for (int64_t i = 0; i < kDrawBlock / 4; i += lanes) {
    auto c0 = hn::Iota(d, quad + static_cast<uint64_t>(i));
    auto c1 = hn::Set(d, position);
    auto c2 = hn::Zero(d);
    auto c3 = hn::Zero(d);
    auto key0 = static_cast<uint32_t>(seed);
    auto key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < Philox::kRounds; ++round) {
      const auto product0 = hn::MulEven(hn::BitCast(d32, c0), multiply0);
      const auto product1 = hn::MulEven(hn::BitCast(d32, c2), multiply1);
      c0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(product1), c1), hn::Set(d, key0));
      c1 = product1;
      c2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(product0), c3), hn::Set(d, key1));
      c3 = product0;
      key0 += Philox::kWeyl0;
      key1 += Philox::kWeyl1;
    }
    const auto lower = hn::Set(d, 0xFFFFFFFF);
    const auto even = hn::Or(hn::And(c0, lower), hn::ShiftLeft<32>(c1));
    const auto odd = hn::Or(hn::And(c2, lower), hn::ShiftLeft<32>(c3));
    HWY_ALIGN uint64_t pairs[2][8];
    hn::Store(even, d, pairs[0]);
    hn::Store(odd, d, pairs[1]);
    for (int64_t q = 0; q < lanes; ++q) {
      std::memcpy(words + (i + q) * 4, &pairs[0][q], 8);
      std::memcpy(words + (i + q) * 4 + 2, &pairs[1][q], 8);
    }
  }
}

// -log(-log(u)), u made as UniformOpen makes it.
HWY_INLINE FloatVec GumbelOf(const uint32_t* words) {
  const Floats d;
  const hn::RebindToUnsigned<Floats> du;
  const hn::RebindToSigned<Floats> di;
  const auto bits =
      hn::Add(hn::ShiftLeft<1>(hn::ShiftRight<9>(hn::Load(du, words))), hn::Set(du, 1));
  const auto u = hn::Mul(hn::ConvertTo(d, hn::BitCast(di, bits)), hn::Set(d, 0x1p-24F));
  return hn::Neg(hn::Log(d, hn::Neg(hn::Log(d, u))));
}

// z of the block if kept, else minus infinity. False if nothing is kept.
HWY_INLINE bool KeepBlock(const float* z, int64_t count, const KeptFloors& floors, float* kept) {
  const Floats d;
  const auto lost = hn::Set(d, -std::numeric_limits<float>::infinity());
  std::fill(std::copy_n(z, count, kept), kept + kDrawBlock,
            -std::numeric_limits<float>::infinity());
  auto any = lost;
  for (int64_t i = 0; i < kDrawBlock; i += FloatLanes()) {
    auto value = hn::Load(d, kept + i);
    if (floors.e_floor > 0) {
      const auto e = hn::Exp(d, hn::Sub(value, hn::Set(d, floors.max)));
      value = hn::IfThenElse(hn::Ge(e, hn::Set(d, floors.e_floor)), value, lost);
    }
    value = hn::IfThenElse(hn::Ge(value, hn::Set(d, floors.z_floor)), value, lost);
    any = hn::Max(any, value);
    hn::Store(value, d, kept + i);
  }
  return hn::GetLane(hn::MaxOfLanes(d, any)) > -std::numeric_limits<float>::infinity();
}

int32_t DrawKept(const float* z, int64_t vocab, const KeptFloors& floors,
                 const SampleParams& params) {
  const Floats d;
  LaneBest best = NoneYet();
  HWY_ALIGN float kept[kDrawBlock];
  HWY_ALIGN uint32_t words[kDrawBlock];
  for (int64_t begin = 0; begin < vocab; begin += kDrawBlock) {
    const int64_t count = std::min(kDrawBlock, vocab - begin);
    if (!KeepBlock(z + begin, count, floors, kept)) continue;
    RandomWords(params.seed, params.position, static_cast<uint32_t>(begin / 4), words);
    for (int64_t i = 0; i < kDrawBlock; i += FloatLanes()) {
      best.Offer(hn::Add(hn::Load(d, kept + i), GumbelOf(words + i)),
                 static_cast<int32_t>(begin + i));
    }
  }
  return best.Index();
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(ArgMax);
HWY_EXPORT(SelectWithin);
HWY_EXPORT(DrawKept);

namespace {

// Bits that order as the numbers do, and back.
uint32_t OrderedBits(float x) {
  const auto bits = std::bit_cast<uint32_t>(x + 0.0F);  // no negative zero
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}

float FromOrderedBits(uint32_t bits) {
  return std::bit_cast<float>((bits >> 31) != 0 ? bits & 0x7FFFFFFFU : ~bits);
}

// A row's z, or with `exp_of` its exp(z - max) of the tokens kept so far.
struct RowNumbers {
  const float* z;
  int32_t vocab;
  const KeptFloors* exp_of;

  template <typename Visit>
  void VisitWithin(float low, float high, const Visit& visit) const {
    constexpr int32_t kBlock = 256;
    float selected[kBlock + 16];
    for (int32_t begin = 0; begin < vocab; begin += kBlock) {
      const int64_t count = HWY_DYNAMIC_DISPATCH(SelectWithin)(
          z + begin, std::min(kBlock, vocab - begin), exp_of, low, high, selected);
      for (int64_t i = 0; i < count; ++i) visit(selected[i]);
    }
  }
};

// The largest number such that its own weight and that of all larger ones reach the target, which
// is a function of the total weight. Found digit by digit of the ordered bits, from the top.
template <typename Weight, typename Target>
float WeightedFloor(const RowNumbers& numbers, const Weight& weight_of, const Target& target_of) {
  struct Digit {
    int shift;
    uint32_t mask;
  };
  uint64_t target = 0;
  uint32_t found = OrderedBits(std::numeric_limits<float>::lowest());
  uint32_t last = OrderedBits(std::numeric_limits<float>::max());
  for (const Digit digit : {Digit{21, 0x7FF}, Digit{10, 0x7FF}, Digit{0, 0x3FF}}) {
    std::array<uint64_t, 0x800> weights = {};
    uint64_t total = 0;
    numbers.VisitWithin(FromOrderedBits(found), FromOrderedBits(last), [&](float x) {
      const uint64_t weight = weight_of(x);
      weights[(OrderedBits(x) >> digit.shift) & digit.mask] += weight;
      total += weight;
    });
    if (target == 0) target = std::clamp<uint64_t>(target_of(total), 1, total);
    uint32_t value = digit.mask;
    for (; value > 0 && weights[value] < target; --value) target -= weights[value];
    if (digit.shift == 21) found = 0;
    found |= value << digit.shift;
    last = found | ((uint32_t{1} << digit.shift) - 1);
  }
  return FromOrderedBits(found);
}

float TopKFloor(const float* z, int32_t vocab, int32_t top_k) {
  return WeightedFloor(
      {z, vocab, nullptr}, [](float) { return uint64_t{1}; },
      [&](uint64_t) { return static_cast<uint64_t>(top_k); });
}

// Relative to the largest probability, in units of 2^-40: sums of integers have no order.
uint64_t FixedPoint(float e) { return static_cast<uint64_t>(static_cast<double>(e) * 0x1p40); }

float TopPFloor(const float* z, int32_t vocab, const KeptFloors& floors, float top_p) {
  return WeightedFloor({z, vocab, &floors}, FixedPoint, [&](uint64_t total) {
    return static_cast<uint64_t>(
        std::ceil(static_cast<double>(top_p) * static_cast<double>(total)));
  });
}

bool ReadsCounts(const SampleParams& params) {
  return params.slot >= 0 && (params.repetition_penalty != 1.0F ||
                              params.presence_penalty != 0.0F || params.frequency_penalty != 0.0F);
}

float Penalized(float logit, uint32_t count, const SampleParams& params) {
  const uint32_t generated = count & ~kInPrompt;
  logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
  logit -= params.frequency_penalty * static_cast<float>(generated);
  return generated > 0 ? logit - params.presence_penalty : logit;
}

// The row's logits after bias and penalties: the given ones, or a changed copy in scratch.
const float* AdjustLogits(const SampleArgs& args, const SampleParams& params, const float* logits,
                          float* scratch) {
  const bool reads_counts = ReadsCounts(params);
  if (params.bias_count == 0 && !reads_counts) return logits;
  std::copy_n(logits, args.vocab, scratch);
  for (int32_t i = 0; i < params.bias_count; ++i) {
    const TokenBias& entry = args.bias[params.bias_begin + i];
    SLUICE_CHECK(entry.token >= 0 && entry.token < args.vocab);
    scratch[entry.token] += entry.bias;
  }
  if (!reads_counts) return scratch;
  const uint32_t* counts = args.counts + int64_t{params.slot} * args.vocab;
  for (int32_t v = 0; v < args.vocab; ++v) {
    if (counts[v] != 0) scratch[v] = Penalized(scratch[v], counts[v], params);
  }
  return scratch;
}

// A temperature next to nothing must not make an infinity.
const float* DivideByTemperature(const float* logits, int32_t vocab, float temperature, float* to) {
  constexpr float kLargest = 1e38F;
  if (temperature == 1.0F) return logits;
  for (int32_t v = 0; v < vocab; ++v) {
    to[v] = std::clamp(logits[v] / temperature, -kLargest, kLargest);
  }
  return to;
}

int32_t SampleToken(const SampleArgs& args, const SampleParams& params, const float* logits,
                    float* scratch) {
  const int32_t vocab = args.vocab;
  const float* adjusted = AdjustLogits(args, params, logits, scratch);
  if (params.temperature == 0) return HWY_DYNAMIC_DISPATCH(ArgMax)(adjusted, vocab);
  const float* z = DivideByTemperature(adjusted, vocab, params.temperature, scratch);
  KeptFloors floors = {.max = z[HWY_DYNAMIC_DISPATCH(ArgMax)(z, vocab)],
                       .z_floor = std::numeric_limits<float>::lowest(),
                       .e_floor = params.min_p};
  if (params.top_k > 0 && params.top_k < vocab) floors.z_floor = TopKFloor(z, vocab, params.top_k);
  if (params.top_p < 1) floors.e_floor = TopPFloor(z, vocab, floors, params.top_p);
  return HWY_DYNAMIC_DISPATCH(DrawKept)(z, vocab, floors, params);
}

void SampleRow(const SampleArgs& args, int64_t row) {
  const SampleParams& params = args.params[row];
  SLUICE_CHECK(params.temperature >= 0);
  SLUICE_CHECK(params.top_k >= 0);
  SLUICE_CHECK(params.top_p > 0 && params.top_p <= 1);
  SLUICE_CHECK(params.min_p >= 0 && params.min_p <= 1);
  SLUICE_CHECK(params.repetition_penalty > 0);
  SLUICE_CHECK(params.slot < 0 || args.counts != nullptr);
  const int64_t at = row * args.vocab;
  const int32_t token = SampleToken(args, params, args.logits + at, args.scratch + at);
  args.tokens[row] = token;
  if (params.slot >= 0) ++args.counts[int64_t{params.slot} * args.vocab + token];
}

}  // namespace

void SampleCpu(const SampleArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.rows >= 0);
  SLUICE_CHECK(args.vocab >= 8);
  // Sampling costs several passes; a greedy row alone is not worth a thread.
  const int64_t grain = kElementGrain / 4 / args.vocab;
  pool.Ranges(args.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) SampleRow(args, row);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
