#include "kernels/feature_map.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"
#include "kernels/row_grid.cuh"

namespace sluice {
namespace {

constexpr int kWarps = 4;  // of a block, one a head
constexpr int kThreads = kWarps * kWarp;
constexpr int kPacks = kMaxFeatureDim / kPack / kWarp;  // of features that a lane owns

// What a head's features are made of: z in shared memory, and the largest magnitude of it.
struct HeadInput {
  const float* z;
  int32_t dim;
  float largest;

  // Element c of u = [max(z, 0), max(-z, 0)].
  __device__ float Rectified(int32_t c) const {
    return c < dim ? fmaxf(z[c], 0.0F) : fmaxf(-z[c - dim], 0.0F);
  }
};

template <FeatureMapKind kKind>
__device__ float Feature(const HeadInput& in, int32_t c) {
  if constexpr (kKind == FeatureMapKind::kIdentity) {
    return in.z[c];
  } else if constexpr (kKind == FeatureMapKind::kDpfp) {
    const int32_t size = 2 * in.dim;
    const int32_t at = c % size;
    const int32_t rolled = at - (c / size + 1);
    return in.Rectified(at) * in.Rectified(rolled < 0 ? rolled + size : rolled);
  } else if constexpr (kKind == FeatureMapKind::kHedgehog) {
    const float z = c < in.dim ? in.z[c] : -in.z[c - in.dim];
    return expf(2.0F * (z - in.largest));
  } else {
    return c < in.dim ? sinf(in.z[c]) : cosf(in.z[c - in.dim]);
  }
}

// Loads z of a head into shared memory, packs of it lane by lane. Every lane gets the largest
// magnitude.
template <typename T>
__device__ float LoadHead(const FeatureMapArgs& args, const T* x, float* z) {
  float largest = 0.0F;
  for (int32_t c = threadIdx.x % kWarp * kPack; c < args.dim; c += kWarp * kPack) {
    Pack values = LoadPack(x + c);
    if (args.bias != nullptr) {
      const Pack bias = LoadPack(args.bias + c);
#pragma unroll
      for (int i = 0; i < kPack; ++i) values.v[i] += bias.v[i];
    }
#pragma unroll
    for (const float value : values.v) largest = fmaxf(largest, fabsf(value));
    StorePack(z + c, values);
  }
  __syncwarp();
  return WarpReduce(largest, Larger());
}

// Of the lane's features; packs past the last feature hold zeros. Every lane gets that of the head.
__device__ float HeadSum(const Pack (&features)[kPacks]) {
  float sum = 0.0F;
#pragma unroll
  for (const Pack& pack : features) {
#pragma unroll
    for (const float value : pack.v) sum += value;
  }
  return WarpReduce(sum, Plus());
}

__device__ void ScaleBy(float factor, Pack (&features)[kPacks]) {
#pragma unroll
  for (Pack& pack : features) {
#pragma unroll
    for (float& value : pack.v) value *= factor;
  }
}

// Grid: rows * heads / kWarps blocks, a warp a head. A lane owns packs of features that lie
// kWarp packs apart, in registers from the map to the store. Bound by memory.
template <typename T, FeatureMapKind kKind>
__global__ __launch_bounds__(kThreads) void FeatureMapKernel(
    const __grid_constant__ FeatureMapArgs args) {
  EnterStream();
  __shared__ __align__(16) float z[kWarps][kMaxFeatureDim];
  const int warp = threadIdx.x / kWarp;
  const int64_t index = int64_t{blockIdx.x} * kWarps + warp;
  if (index >= int64_t{args.rows} * args.heads) return;  // whole warps
  const int64_t row = index / args.heads;
  const int64_t head = index % args.heads;
  const T* const x = static_cast<const T*>(args.x) + row * args.x_stride + head * args.dim;
  const float largest = LoadHead(args, x, z[warp]);
  const HeadInput in = {.z = z[warp], .dim = args.dim, .largest = largest};

  const int32_t count = FeatureDim(kKind, args.dim);
  const int32_t begin = threadIdx.x % kWarp * kPack;
  Pack features[kPacks] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int32_t c = begin + p * kWarp * kPack;
    if (c >= count) continue;
#pragma unroll
    for (int i = 0; i < kPack; ++i) features[p].v[i] = Feature<kKind>(in, c + i);
  }
  // One of the exponentials is one.
  if constexpr (kKind == FeatureMapKind::kHedgehog) ScaleBy(1.0F / HeadSum(features), features);
  if (args.scale != 1.0F) ScaleBy(args.scale, features);
  if (args.sum_eps > 0.0F) ScaleBy(1.0F / (HeadSum(features) + args.sum_eps), features);

  T* const y = static_cast<T*>(args.y) + row * args.y_stride + head * count;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int32_t c = begin + p * kWarp * kPack;
    if (c < count) StorePack(y + c, features[p]);
  }
}

// Sines and cosines that are not divided by their sum. Grid: that of rows. A thread owns 8
// neighbouring numbers of x.
template <typename T>
__global__ __launch_bounds__(kRowGridThreads) void SinCosKernel(
    const __grid_constant__ FeatureMapArgs args) {
  EnterStream();
  const int32_t pack = GridPack();
  const int32_t packs = args.dim / kPack;  // of a head
  if (pack >= args.heads * packs) return;
  const int32_t head = pack / packs;
  const int32_t col = pack % packs * kPack;
  Pack bias = {};
  if (args.bias != nullptr) bias = LoadPack(args.bias + col);
  for (int32_t row = GridRow(); row < args.rows; row += GridRowStep()) {
    Pack sine = LoadPack(static_cast<const T*>(args.x) + row * args.x_stride + pack * kPack);
    Pack cosine;
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      sincosf(sine.v[i] + bias.v[i], &sine.v[i], &cosine.v[i]);
      sine.v[i] *= args.scale;
      cosine.v[i] *= args.scale;
    }
    T* const y = static_cast<T*>(args.y) + row * args.y_stride + head * 2 * args.dim + col;
    StorePack(y, sine);
    StorePack(y + args.dim, cosine);
  }
}

template <typename T>
void LaunchSinCos(const FeatureMapArgs& args, cudaStream_t stream) {
  const RowGrid grid = GridOfRows(args.rows, args.heads * (args.dim / kPack));
  LaunchKernel({grid.blocks, grid.threads}, stream, SinCosKernel<T>, args);
}

template <typename T>
void Launch(const FeatureMapArgs& args, cudaStream_t stream) {
  if (args.kind == FeatureMapKind::kSinCos && args.sum_eps == 0.0F) {
    LaunchSinCos<T>(args, stream);
    return;
  }
  const int64_t heads = int64_t{args.rows} * args.heads;
  const auto blocks = static_cast<unsigned>((heads + kWarps - 1) / kWarps);
  switch (args.kind) {
    case FeatureMapKind::kIdentity:
      LaunchKernel({blocks, kThreads}, stream, FeatureMapKernel<T, FeatureMapKind::kIdentity>,
                   args);
      break;
    case FeatureMapKind::kDpfp:
      LaunchKernel({blocks, kThreads}, stream, FeatureMapKernel<T, FeatureMapKind::kDpfp>, args);
      break;
    case FeatureMapKind::kHedgehog:
      LaunchKernel({blocks, kThreads}, stream, FeatureMapKernel<T, FeatureMapKind::kHedgehog>,
                   args);
      break;
    case FeatureMapKind::kSinCos:
      LaunchKernel({blocks, kThreads}, stream, FeatureMapKernel<T, FeatureMapKind::kSinCos>, args);
      break;
  }
}

}  // namespace

void MapFeaturesCuda(const FeatureMapArgs& args, cudaStream_t stream) {
  CheckFeatureMap(args);
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.y) && IsAligned16(args.bias));
  if (args.rows == 0) return;
  DispatchDType(args.dtype, [&](auto zero) { Launch<decltype(zero)>(args, stream); });
}

}  // namespace sluice
