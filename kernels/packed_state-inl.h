// Rows of a state's matrix in each format (state_format.h), and how a ring is folded into one.
// Included once per instruction set, as Highway's own -inl.h.
//
// NOLINTBEGIN(bugprone-macro-parentheses)
#if defined(SLUICE_KERNELS_PACKED_STATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_PACKED_STATE_INL_H_
#undef SLUICE_KERNELS_PACKED_STATE_INL_H_
#else
#define SLUICE_KERNELS_PACKED_STATE_INL_H_
#endif
// NOLINTEND(bugprone-macro-parentheses)

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/head_state.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// Row `channel` of the matrix.
template <StateType kType>
HWY_INLINE char* PackedRow(const GatedShape& shape, const HeadState& state, int64_t channel) {
  return reinterpret_cast<char*>(state.matrix) + channel * shape.value_dim * StateTypeBytes(kType);
}

// A vector of a row from `column` on, without the row's scale.
template <StateType kType>
HWY_INLINE FloatVec LoadPacked(const char* row, int64_t column) {
  const Floats d;
  const char* from = row + column * StateTypeBytes(kType);
  if constexpr (kType == StateType::kFloat32) {
    return hn::LoadU(d, reinterpret_cast<const float*>(from));
  } else if constexpr (kType == StateType::kFloat16) {
    const hn::Rebind<hwy::float16_t, Floats> d16;
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(from)));
  } else {
    const hn::Rebind<int8_t, Floats> d8;
    const hn::RebindToSigned<Floats> d32;
    const auto codes = hn::LoadU(d8, reinterpret_cast<const int8_t*>(from));
    return hn::ConvertTo(d, hn::PromoteTo(d32, codes));
  }
}

template <StateType kType>
HWY_INLINE float PackedScale(const HeadState& state, int64_t channel) {
  return kType == StateType::kInt8 ? state.scales[channel] : 1.0F;
}

// To nearest, ties to even, saturating, and what is no number stays none: in integers, since not
// every instruction set rounds.
HWY_INLINE void StoreFloat16(FloatVec x, uint16_t* to) {
  const Floats d;
  const hn::RebindToUnsigned<Floats> d32;
  const hn::RebindToSigned<Floats> di32;
  const hn::Rebind<uint16_t, Floats> d16;
  const auto size = hn::Min(hn::Abs(x), hn::Set(d, kMaxFloat16));
  const auto sign = hn::And(hn::BitCast(d32, x), hn::Set(d32, 0x80000000U));
  const auto bits = hn::BitCast(d32, size);
  // The exponent's bias is 15 instead of 127, and 13 bits are dropped.
  const auto odd = hn::And(hn::ShiftRight<13>(bits), hn::Set(d32, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(d32, 0xFFF)));
  const auto normal = hn::ShiftRight<13>(hn::Sub(rounded, hn::Set(d32, 112U << 23)));
  // Beside a half, the last bit is 2^-24, as it is of what is below the least normal number.
  const auto half = hn::Set(d, 0.5F);
  const auto tiny = hn::Sub(hn::BitCast(d32, hn::Add(size, half)), hn::BitCast(d32, half));
  const auto is_tiny = hn::RebindMask(d32, hn::Lt(size, hn::Set(d, 0x1p-14F)));
  const auto is_none = hn::RebindMask(d32, hn::IsNaN(x));
  const auto none = hn::Set(d32, 0x7E00);
  const auto number = hn::IfThenElse(is_none, none, hn::IfThenElse(is_tiny, tiny, normal));
  const auto all = hn::Or(number, hn::ShiftRight<16>(sign));
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di32, all)), d16, to);
}

// The largest magnitude of a row's float32, by its bits: so what is no number is larger than all.
HWY_INLINE float LargestOf(const float* row, int64_t count) {
  const Floats d;
  const hn::RebindToSigned<Floats> di32;
  auto largest = hn::Zero(di32);
  for (int64_t i = 0; i < count; i += FloatLanes()) {
    largest = hn::Max(largest, hn::BitCast(di32, hn::Abs(hn::LoadU(d, row + i))));
  }
  const int32_t bits = hn::GetLane(hn::MaxOfLanes(di32, largest));
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Rounds a row of float32 into row `channel` of the matrix.
template <StateType kType>
HWY_INLINE void PackRow(const GatedShape& shape, const float* row, int64_t channel,
                        const HeadState& state) {
  const Floats d;
  const int64_t columns = shape.value_dim;
  char* const to = PackedRow<kType>(shape, state, channel);
  if constexpr (kType == StateType::kFloat32) {
    std::memcpy(to, row, columns * sizeof(float));
  } else if constexpr (kType == StateType::kFloat16) {
    for (int64_t v = 0; v < columns; v += FloatLanes()) {
      StoreFloat16(hn::LoadU(d, row + v), reinterpret_cast<uint16_t*>(to) + v);
    }
  } else {
    const hn::Rebind<int8_t, Floats> d8;
    const float scale = LargestOf(row, columns) / kMaxInt8;
    const bool is_zero = scale < kMinStateScale;
    state.scales[channel] = is_zero ? 0.0F : scale;
    const auto inverse = hn::Set(d, is_zero ? 0.0F : 1 / scale);
    for (int64_t v = 0; v < columns; v += FloatLanes()) {
      const auto codes = hn::NearestInt(hn::Mul(hn::LoadU(d, row + v), inverse));
      hn::StoreU(hn::DemoteTo(d8, codes), d8, reinterpret_cast<int8_t*>(to) + v);
    }
  }
}

// A head's matrix and ring, and what they are folded by.
struct HeadFold {
  HeadState state;
  int64_t held;              // tokens in the ring
  const float* decay;        // [K]: exp(G)
  const float* value_decay;  // [V]: exp(B), or null
  const float* key;          // [K]: c k of a token that is not in the ring, or null
  const float* value;        // [V]: its v
};

// row = exp(G) exp(B) (S_0 + sum_j k^_j^T v_j) + c k^T v, row `channel` of it.
template <StateType kType>
HWY_INLINE void FoldRow(const GatedShape& shape, const HeadFold& fold, int64_t channel,
                        float* row) {
  const Floats d;
  const char* const packed = PackedRow<kType>(shape, fold.state, channel);
  const float decay = fold.decay[channel];
  const auto scale = hn::Set(d, decay * PackedScale<kType>(fold.state, channel));
  float keys[kMaxStateRing];
  for (int64_t j = 0; j < fold.held; ++j) {
    keys[j] = decay * fold.state.keys[j * shape.key_dim + channel];
  }
  for (int64_t v = 0; v < shape.value_dim; v += FloatLanes()) {
    auto sum = hn::Mul(scale, LoadPacked<kType>(packed, v));
    for (int64_t j = 0; j < fold.held; ++j) {
      const auto value = hn::LoadU(d, fold.state.values + j * shape.value_dim + v);
      sum = hn::MulAdd(hn::Set(d, keys[j]), value, sum);
    }
    if (fold.value_decay != nullptr) sum = hn::Mul(sum, hn::LoadU(d, fold.value_decay + v));
    if (fold.key != nullptr) {
      sum = hn::MulAdd(hn::Set(d, fold.key[channel]), hn::LoadU(d, fold.value + v), sum);
    }
    hn::StoreU(sum, d, row + v);
  }
}

// Calls body(StateTypeConstant<type>()).
template <StateType kType>
struct StateTypeConstant {
  static constexpr StateType value = kType;
};
template <typename Body>
HWY_INLINE void WithStateType(StateType type, const Body& body) {
  switch (type) {
    case StateType::kFloat32:
      return body(StateTypeConstant<StateType::kFloat32>());
    case StateType::kFloat16:
      return body(StateTypeConstant<StateType::kFloat16>());
    case StateType::kInt8:
      return body(StateTypeConstant<StateType::kInt8>());
  }
}

// Tokens in the ring of a head.
HWY_INLINE int64_t HeldOf(const GatedShape& shape, const HeadState& state) {
  if (shape.state.ring == 0) return 0;
  int32_t count = 0;
  std::memcpy(&count, state.count, sizeof(count));
  return count;
}

// Its matrix and scales apart, a head becomes that of a ring with nothing in it.
HWY_INLINE void EmptyRing(const GatedShape& shape, const HeadState& state) {
  if (shape.state.ring == 0) return;
  std::memset(state.count, 0, sizeof(int32_t));
  std::memset(state.log_decay, 0, shape.key_dim * sizeof(float));
  if (shape.value_gate) std::memset(state.value_log_decay, 0, shape.value_dim * sizeof(float));
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
