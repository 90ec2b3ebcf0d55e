// Tensor core products of a warpgroup, four neighbouring warps (wgmma), of bfloat16 with float32
// sums: one operand in registers, the other in shared memory. Compute capability 9.0 (sm_90a).
//
// Warp w of the group holds rows 16 w .. 16 w + 15 of A and C, as mma.cuh has them: of C [64, N]
// number i of d[n] as of an mma's tile of columns 8 n .. 8 n + 7.
//
// B lies in images: 64 rows of 128 bytes, 1,024-aligned, whose eight 16-byte pieces are swizzled,
// piece p of row r at p ^ (r % 8). It is read either way: an image's rows are B's columns ("of
// rows") or the contracted index ("of columns"); wider ones are images one behind another. Of rows
// an image may have any multiple of 8.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/mma.cuh"

namespace sluice {

constexpr int kImageRows = 64;
constexpr int kImageColumns = 64;
constexpr int kImageBytes = kImageRows * kImageColumns * 2;
constexpr int kImageWords = kImageBytes / 16;
constexpr int kWarpgroup = 128;  // threads

// Where piece `piece` of row `row` of an image lies, in bytes.
__device__ inline int ImageOffset(int row, int piece) {
  return row * 128 + ((piece ^ (row % 8)) * 16);
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// A matrix in shared memory, as an instruction is told of it: 128-byte swizzle, `major` and 1,024
// bytes between its groups of 64 columns and of 8 rows.
__device__ inline uint64_t ImageDescriptor(const void* image, int major) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  return kSwizzle128 | uint64_t{1024 >> 4} << 32 | static_cast<uint64_t>(major >> 4) << 16 |
         (SharedAddress(image) & 0x3FFFF) >> 4;
}

// Images whose rows, so many, are B's columns: contracted columns [16 k, 16 k + 16).
__device__ inline uint64_t OfRows(const void* images, int k, int rows = kImageRows) {
  return ImageDescriptor(images, 16) + (k / 4 * (rows * 128 >> 4) + k % 4 * (32 >> 4));
}
// Images whose columns are B's: contracted rows [16 k, 16 k + 16).
__device__ inline uint64_t OfColumns(const void* images, int k) {
  return ImageDescriptor(images, kImageBytes) + k * (2048 >> 4);
}

// Before products, or bulk copies, touch shared memory where stores, or copies that are not bulk
// ones, did: in each thread that starts them, once it knows that these are done.
__device__ inline void FenceStores() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}
// Before the first product that reads registers written by other instructions.
__device__ inline void WgmmaFence() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ inline void WgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
// Waits until at most kPending groups of products are on their way.
template <int kPending>
__device__ inline void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
}
// Keeps the compiler from moving a use of sums across.
template <int kTiles>
__device__ inline void FenceSums(float (&d)[kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(d[n][i])::"memory");
  }
}

#define SLUICE_SUMS_1(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define SLUICE_SUMS_2(d, n) SLUICE_SUMS_1(d, n), SLUICE_SUMS_1(d, n + 1)
#define SLUICE_SUMS_4(d, n) SLUICE_SUMS_2(d, n), SLUICE_SUMS_2(d, n + 2)
#define SLUICE_SUMS_8(d, n) SLUICE_SUMS_4(d, n), SLUICE_SUMS_4(d, n + 4)
#define SLUICE_SUMS_16(d, n) SLUICE_SUMS_8(d, n), SLUICE_SUMS_8(d, n + 8)
#define SLUICE_SUMS_32(d, n) SLUICE_SUMS_16(d, n), SLUICE_SUMS_16(d, n + 16)

// d = a b, plus d if `add`. kOfColumns says how b is read.
template <bool kOfColumns>
__device__ inline void Wgmma(float (&d)[2][4], const uint4& a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %13, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9,%10,%11}, %12, p, 1, 1, %14;\n}\n"
      : SLUICE_SUMS_2(d, 0)
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(static_cast<int>(add)),
        "n"(kOfColumns ? 1 : 0));
}
template <bool kOfColumns>
__device__ inline void Wgmma(float (&d)[4][4], const uint4& a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %21, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19}, %20, p, 1, 1, "
      "%22;\n}\n"
      : SLUICE_SUMS_4(d, 0)
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(static_cast<int>(add)),
        "n"(kOfColumns ? 1 : 0));
}
template <bool kOfColumns>
__device__ inline void Wgmma(float (&d)[8][4], const uint4& a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,"
      "%25,%26,%27,%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, p, 1, 1, %38;\n}\n"
      : SLUICE_SUMS_8(d, 0)
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(static_cast<int>(add)),
        "n"(kOfColumns ? 1 : 0));
}
template <bool kOfColumns>
__device__ inline void Wgmma(float (&d)[16][4], const uint4& a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,"
      "%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, {%64,%65,%66,%67}, %68, "
      "p, 1, 1, %70;\n}\n"
      : SLUICE_SUMS_16(d, 0)
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(static_cast<int>(add)),
        "n"(kOfColumns ? 1 : 0));
}
template <bool kOfColumns>
__device__ inline void Wgmma(float (&d)[32][4], const uint4& a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %133, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,"
      "%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,"
      "%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,"
      "%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,"
      "%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, "
      "{%128,%129,%130,%131}, %132, p, 1, 1, %134;\n}\n"
      : SLUICE_SUMS_32(d, 0)
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(static_cast<int>(add)),
        "n"(kOfColumns ? 1 : 0));
}

#undef SLUICE_SUMS_1
#undef SLUICE_SUMS_2
#undef SLUICE_SUMS_4
#undef SLUICE_SUMS_8
#undef SLUICE_SUMS_16
#undef SLUICE_SUMS_32

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace sluice
