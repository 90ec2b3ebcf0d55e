#include "kernels/gated_unit.h"

#include "kernels/activation.cuh"
#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/row_grid.cuh"

namespace sluice {
namespace {

// Grid: that of rows. A thread owns 8 neighbouring numbers of out:
// two 16-byte loads and one store, nothing shared. kPlain: SiLU, with up, and out is only written.
template <typename T, bool kPlain>
__global__ void GatedUnitKernel(const __grid_constant__ GatedUnitArgs args) {
  EnterStream();
  const int32_t col = GridPack() * kPack;
  if (col >= args.dim) return;
  for (int32_t row = GridRow(); row < args.rows; row += GridRowStep()) {
    Pack gate = LoadPack(static_cast<const T*>(args.gate) + row * args.gate_stride + col);
    Pack up;
    if (kPlain || args.up != nullptr) {
      up = LoadPack(static_cast<const T*>(args.up) + row * args.up_stride + col);
    } else {
#pragma unroll
      for (float& value : up.v) value = 1.0F;
    }
    gate = Activated(kPlain ? Activation::kSilu : args.act, gate);
#pragma unroll
    for (int i = 0; i < kPack; ++i) up.v[i] *= gate.v[i];
    T* const out = static_cast<T*>(args.out) + row * args.out_stride + col;
    if (!kPlain && args.accumulate) {
      const Pack old = LoadPack(out);
#pragma unroll
      for (int i = 0; i < kPack; ++i) up.v[i] += old.v[i];
    }
    StorePack(out, up);
  }
}

}  // namespace

void GatedUnitCuda(const GatedUnitArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0 && args.dim > 0 && args.dim % kPack == 0);
  SLUICE_CHECK(args.act != Activation::kSoftCap);
  SLUICE_CHECK(args.gate_stride >= args.dim && args.gate_stride % kPack == 0);
  SLUICE_CHECK(args.up == nullptr || args.up_stride == 0 ||
               (args.up_stride >= args.dim && args.up_stride % kPack == 0));
  SLUICE_CHECK(args.out_stride >= args.dim && args.out_stride % kPack == 0);
  SLUICE_CHECK(IsAligned16(args.gate) && IsAligned16(args.up) && IsAligned16(args.out));
  if (args.rows == 0) return;
  const bool plain = args.act == Activation::kSilu && args.up != nullptr && !args.accumulate;
  const RowGrid grid = GridOfRows(args.rows, args.dim / kPack);
  DispatchDType(args.dtype, [&](auto zero) {
    if (plain) {
      LaunchKernel({grid.blocks, grid.threads}, stream, GatedUnitKernel<decltype(zero), true>,
                   args);
    } else {
      LaunchKernel({grid.blocks, grid.threads}, stream, GatedUnitKernel<decltype(zero), false>,
                   args);
    }
  });
}

}  // namespace sluice
