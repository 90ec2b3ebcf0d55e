// Dot products of bfloat16 by AVX-512's instruction for it, each of whose sixteen lanes adds two
// products to a float32. The tiles are those of linear_few_rows_cpu.cc, written again in
// intrinsics: Highway 1.0 does not use the instruction.
#include "kernels/check.h"
#include "kernels/linear_few_rows_cpu.h"

#ifdef __x86_64__

// g++ 12 takes what the intrinsics leave undefined for a mistake of ours.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

// Of functions that only run where the processor has it.
#define SLUICE_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512bf16")))

namespace sluice {
namespace {

constexpr int64_t kLanes = 32;  // bfloat16 numbers in a vector

// The sums of the lanes of v[0], ..., v[3].
SLUICE_AVX512_BF16 inline __m128 SumFour(const __m512* v) {
  const __m512 low = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  const __m512 high = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
  // Each block of four lanes has a part of all four sums.
  const __m512 blocks =
      _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x44), _mm512_shuffle_ps(low, high, 0xEE));
  const __m128 even =
      _mm_add_ps(_mm512_extractf32x4_ps(blocks, 0), _mm512_extractf32x4_ps(blocks, 2));
  const __m128 odd =
      _mm_add_ps(_mm512_extractf32x4_ps(blocks, 1), _mm512_extractf32x4_ps(blocks, 3));
  return _mm_add_ps(even, odd);
}

// kRows rows of x against kOutputs rows of the weight.
template <int kRows, int kOutputs, bool kFetches>
SLUICE_AVX512_BF16 inline void DotTile(const LinearArgs& args, int64_t row, int64_t output) {
  static_assert(kOutputs % 4 == 0);
  const int64_t in_dim = args.in_dim;
  const auto* x = static_cast<const uint16_t*>(args.x) + row * args.x_stride;
  const auto* weight = static_cast<const uint16_t*>(args.weight) + output * in_dim;
  __m512 sum[kRows][kOutputs];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int n = 0; n < kOutputs; ++n) sum[r][n] = _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < in_dim; k += kLanes) {
    // Numbers past the end are read as zero.
    const int64_t left = in_dim - k;
    const __mmask32 mask = left >= kLanes ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
    __m512bh w[kOutputs];
#pragma GCC unroll 8
    for (int n = 0; n < kOutputs; ++n) {
      const uint16_t* from = weight + n * in_dim + k;
      w[n] = reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(mask, from));
      if constexpr (kFetches) __builtin_prefetch(from + 8 * in_dim);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto xr =
          reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(mask, x + r * args.x_stride + k));
#pragma GCC unroll 8
      for (int n = 0; n < kOutputs; ++n) sum[r][n] = _mm512_dpbf16_ps(sum[r][n], xr, w[n]);
    }
  }
  float* y = static_cast<float*>(args.y) + row * args.y_stride + output;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r, y += args.y_stride) {
#pragma GCC unroll 2
    for (int n = 0; n < kOutputs; n += 4) {
      const __m128 total = SumFour(&sum[r][n]);
      _mm_storeu_ps(y + n, args.accumulate ? _mm_add_ps(_mm_loadu_ps(y + n), total) : total);
    }
  }
}

template <int kRows, bool kFetches>
SLUICE_AVX512_BF16 void EightOutputs(const LinearArgs& args, int64_t row, int64_t output) {
  constexpr int kOutputs = kRows == 1 ? 8 : 4;
  for (int64_t n = 0; n < 8; n += kOutputs) {
    DotTile<kRows, kOutputs, kFetches>(args, row, output + n);
  }
}

}  // namespace

LinearEights LinearEightsOfDots() {
  return {
      {EightOutputs<1, true>, EightOutputs<2, true>, EightOutputs<3, true>, EightOutputs<4, true>},
      EightOutputs<4, false>};
}

}  // namespace sluice

#else

namespace sluice {

LinearEights LinearEightsOfDots() { CheckFailed(__FILE__, __LINE__, "bfloat16", "not of x86-64"); }

}  // namespace sluice

#endif
