// Tensor core products of tiles (of bfloat16, with float32 sums: mma.m16n8k16), the loads that put
// shared memory into their fragments, and asynchronous copies. Compute capability 8.0 and up.
//
// With g = lane / 4 and t = lane % 4, a lane holds, two neighbours a word:
//   A [16, 16]: (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8)
//   B [16, 8]:  (2t, g), (2t + 8, g), neighbours along the first index
//   C [16, 8]:  (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1), one float each
// Two B tiles side by side make one uint4: B [16, 16] as {left.0, left.1, right.0, right.1}.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace sluice {

__device__ inline void Mma(float (&c)[4], const uint4& a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

__device__ inline uint32_t SharedAddress(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Four 8x8 tiles; lane i gives the address of row i % 8 of tile i / 8.
__device__ inline uint4 LoadTiles(const __nv_bfloat16* row) {
  uint4 r;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "r"(SharedAddress(row))
               : "memory");
  return r;
}
__device__ inline uint4 LoadTilesTransposed(const __nv_bfloat16* row) {
  uint4 r;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "r"(SharedAddress(row))
               : "memory");
  return r;
}

// The fragments of a 16x16 tile at `tile`, whose rows are `pitch` apart. What the rows are decides
// which load is right: "Rows" if they are the result's index, "Columns" if the contracted one.
__device__ inline uint4 LoadAFromRows(const __nv_bfloat16* tile, int pitch, int lane) {
  return LoadTiles(tile + lane % 16 * pitch + lane / 16 * 8);
}
__device__ inline uint4 LoadAFromColumns(const __nv_bfloat16* tile, int pitch, int lane) {
  return LoadTilesTransposed(tile + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8);
}
__device__ inline uint4 LoadBFromRows(const __nv_bfloat16* tile, int pitch, int lane) {
  return LoadTiles(tile + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8);
}
__device__ inline uint4 LoadBFromColumns(const __nv_bfloat16* tile, int pitch, int lane) {
  return LoadTilesTransposed(tile + lane % 16 * pitch + lane / 16 * 8);
}

// Starts copying 16 bytes to shared memory, or zeros if not `valid` (`from` is then not read).
__device__ inline void CopyAsync(void* to_shared, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(SharedAddress(to_shared)),
               "l"(from), "r"(bytes)
               : "memory");
}
// Ends a group of copies.
__device__ inline void CopyAsyncCommit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Waits until at most kPending of this thread's groups are on their way.
template <int kPending>
__device__ inline void CopyAsyncWait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

}  // namespace sluice
