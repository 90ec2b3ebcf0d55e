#include "tests/bench/parallel_form.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/parallel_form_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

#ifndef SLUICE_TESTS_BENCH_PARALLEL_FORM_CPU
#define SLUICE_TESTS_BENCH_PARALLEL_FORM_CPU
namespace sluice {

// What the tiles of keys and queries are made into before they meet.
struct ParallelBuffers {
  float* query;   // [tiles, H, 64, K]: scale * q_i exp(G_i - G_a), a the start of i's tile
  float* key;     // [tiles, H, K, 64]: k_j exp(G_b - G_j), b the end of j's tile
  float* scores;  // [tiles, H, 64, 64]: of the diagonal, zero above it
  double* total;  // [tiles + 1, H, K]: G at the start of each tile
};

}  // namespace sluice
#endif  // SLUICE_TESTS_BENCH_PARALLEL_FORM_CPU

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

constexpr int64_t kTile = kParallelTile;

// c[64, cols] += a[64, inner] b[inner, cols]; cols is a multiple of 64.
struct Product {
  int64_t inner;
  int64_t cols;
  const float* a;  // contiguous
  const float* b;
  int64_t b_stride;
  float* c;
  int64_t c_stride;
};

// Four rows by two vectors of columns.
HWY_INLINE void AddBlock(const Product& p, int64_t row, int64_t column) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  const float* a = p.a + row * p.inner;
  float* c = p.c + row * p.c_stride + column;
  FloatVec sum[4][2];
  for (int i = 0; i < 4; ++i) {
    for (int n = 0; n < 2; ++n) sum[i][n] = hn::LoadU(d, c + i * p.c_stride + n * lanes);
  }
  for (int64_t m = 0; m < p.inner; ++m) {
    const auto left = hn::LoadU(d, p.b + m * p.b_stride + column);
    const auto right = hn::LoadU(d, p.b + m * p.b_stride + column + lanes);
    for (int i = 0; i < 4; ++i) {
      const auto x = hn::Set(d, a[i * p.inner + m]);
      sum[i][0] = hn::MulAdd(x, left, sum[i][0]);
      sum[i][1] = hn::MulAdd(x, right, sum[i][1]);
    }
  }
  for (int i = 0; i < 4; ++i) {
    for (int n = 0; n < 2; ++n) hn::StoreU(sum[i][n], d, c + i * p.c_stride + n * lanes);
  }
}

void AddProduct(const Product& p) {
  for (int64_t column = 0; column < p.cols; column += 2 * FloatLanes()) {
    for (int64_t row = 0; row < kTile; row += 4) AddBlock(p, row, column);
  }
}

// Scores of the tile with itself, each pair's decay taken as it is.
void ScoreDiagonal(const ParallelFormArgs& a, int64_t row, const float* sums, float* scores) {
  const Floats d;
  const auto* q = static_cast<const float*>(a.q);
  const auto* k = static_cast<const float*>(a.k);
  const int64_t stride = int64_t{a.heads} * a.key_dim;
  for (int64_t i = 0; i < kTile; ++i) {
    for (int64_t j = 0; j < kTile; ++j) {
      auto sum = hn::Zero(d);
      for (int64_t c = 0; j <= i && c < a.key_dim; c += FloatLanes()) {
        const auto products = hn::Mul(hn::LoadU(d, q + row * a.key_dim + i * stride + c),
                                      hn::LoadU(d, k + row * a.key_dim + j * stride + c));
        const auto decay = hn::Exp(d, hn::Sub(hn::LoadU(d, sums + i * a.key_dim + c),
                                              hn::LoadU(d, sums + j * a.key_dim + c)));
        sum = hn::MulAdd(products, decay, sum);
      }
      scores[i * kTile + j] = a.scale * hn::GetLane(hn::SumOfLanes(d, sum));
    }
  }
}

// Everything of one tile of one head that no other tile has a part in.
void PrepareTile(const ParallelFormArgs& a, const ParallelBuffers& b, int64_t task) {
  const int64_t keys = a.key_dim;
  const int64_t row = task / a.heads * kTile * a.heads + task % a.heads;
  const auto* q = static_cast<const float*>(a.q) + row * keys;
  const auto* k = static_cast<const float*>(a.k) + row * keys;
  const int64_t stride = a.heads * keys;
  std::vector<float> sums(kTile * keys);
  for (int64_t c = 0; c < keys; ++c) {
    float sum = 0;
    for (int64_t i = 0; i < kTile; ++i) {
      sum += a.log_decay[row * keys + i * stride + c];
      sums[i * keys + c] = sum;
    }
    b.total[(task + a.heads) * keys + c] = sum;
    for (int64_t i = 0; i < kTile; ++i) {
      const float before = sums[i * keys + c];
      b.query[(task * kTile + i) * keys + c] = a.scale * q[i * stride + c] * std::exp(before);
      b.key[(task * keys + c) * kTile + i] = k[i * stride + c] * std::exp(sum - before);
    }
  }
  ScoreDiagonal(a, row, sums.data(), b.scores + task * kTile * kTile);
}

// The keys of tile `other` as tile `tile` sees them.
void DecayKeys(const ParallelFormArgs& a, const ParallelBuffers& b, int64_t tile, int64_t other,
               float* decayed) {
  const Floats d;
  const float* keys = b.key + other * a.key_dim * kTile;
  for (int64_t c = 0; c < a.key_dim; ++c) {
    const double span = b.total[tile * a.key_dim + c] - b.total[(other + a.heads) * a.key_dim + c];
    const auto decay = hn::Set(d, std::exp(static_cast<float>(span)));
    for (int64_t j = 0; j < kTile; j += FloatLanes()) {
      hn::StoreU(hn::Mul(decay, hn::LoadU(d, keys + c * kTile + j)), d, decayed + c * kTile + j);
    }
  }
}

// One tile of queries of one head; tiles are numbered with heads as the last index.
void AttendTile(const ParallelFormArgs& a, const ParallelBuffers& b, int64_t tile) {
  const int64_t stride = int64_t{a.heads} * a.value_dim;
  const int64_t head = tile % a.heads;
  std::vector<float> sums(kTile * a.value_dim);
  std::vector<float> keys(kTile * a.key_dim);
  std::vector<float> scores(kTile * kTile);
  const auto* values = static_cast<const float*>(a.v) + head * a.value_dim;
  for (int64_t other = head; other <= tile; other += a.heads) {
    Product output = {.inner = kTile,
                      .cols = a.value_dim,
                      .a = b.scores + tile * kTile * kTile,
                      .b = values + other / a.heads * kTile * stride,
                      .b_stride = stride,
                      .c = sums.data(),
                      .c_stride = a.value_dim};
    if (other != tile) {
      DecayKeys(a, b, tile, other, keys.data());
      std::fill(scores.begin(), scores.end(), 0.0F);
      AddProduct({.inner = a.key_dim,
                  .cols = kTile,
                  .a = b.query + tile * kTile * a.key_dim,
                  .b = keys.data(),
                  .b_stride = kTile,
                  .c = scores.data(),
                  .c_stride = kTile});
      output.a = scores.data();
    }
    AddProduct(output);
  }
  auto* out = static_cast<float*>(a.out) + tile / a.heads * kTile * stride + head * a.value_dim;
  for (int64_t i = 0; i < kTile; ++i) {
    std::copy_n(sums.data() + i * a.value_dim, a.value_dim, out + i * stride);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(PrepareTile);
HWY_EXPORT(AttendTile);

int64_t ParallelFormWorkspaceBytes(const ParallelFormArgs& a) {
  // Enough for float32; bfloat16 takes half of all but the totals.
  const int64_t tiles = int64_t{a.tokens} / kParallelTile;
  const int64_t totals = (tiles + 1) * a.heads * a.key_dim * 8;
  return int64_t{a.tokens} * a.heads * (2 * a.key_dim + kParallelTile) * 4 + totals;
}

void ParallelFormCpu(const ParallelFormArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.tokens > 0 && args.tokens % kParallelTile == 0);
  SLUICE_CHECK(args.key_dim % 64 == 0 && args.value_dim % 64 == 0);
  const int64_t keys = int64_t{args.tokens} * args.heads * args.key_dim;
  const int64_t tiles = int64_t{args.tokens} / kParallelTile * args.heads;
  ParallelBuffers b;
  b.query = static_cast<float*>(args.workspace);
  b.key = b.query + keys;
  b.scores = b.key + keys;
  b.total = reinterpret_cast<double*>(b.scores + tiles * kParallelTile * kParallelTile);
  pool.Run(tiles, [&](int64_t tile, int32_t) { HWY_DYNAMIC_DISPATCH(PrepareTile)(args, b, tile); });
  const int64_t channels = int64_t{args.heads} * args.key_dim;
  std::fill_n(b.total, channels, 0.0);
  for (int64_t i = channels; i < (tiles + args.heads) * args.key_dim; ++i) {
    b.total[i] += b.total[i - channels];
  }
  // The longest first.
  pool.Run(tiles, [&](int64_t task, int32_t) {
    HWY_DYNAMIC_DISPATCH(AttendTile)(args, b, tiles - 1 - task);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
