#include "kernels/gather_rows.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/row_grid.cuh"

namespace sluice {
namespace {

// Grid: that of rows. A thread copies 8 neighbouring numbers.
template <typename In, typename Out>
__global__ void GatherRowsKernel(const __grid_constant__ GatherRowsArgs args) {
  EnterStream();
  const int32_t col = GridPack() * kPack;
  if (col >= args.dim) return;
  for (int32_t row = GridRow(); row < args.rows; row += GridRowStep()) {
    const int64_t from = args.indices[row];
    StorePack(static_cast<Out*>(args.out) + int64_t{row} * args.dim + col,
              LoadPack(static_cast<const In*>(args.table) + from * args.dim + col));
  }
}

}  // namespace

void GatherRowsCuda(const GatherRowsArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0 && args.dim > 0 && args.dim % kPack == 0);
  SLUICE_CHECK(IsAligned16(args.table) && IsAligned16(args.out));
  if (args.rows == 0) return;
  const RowGrid grid = GridOfRows(args.rows, args.dim / kPack);
  DispatchDType(args.table_dtype, [&](auto in) {
    DispatchDType(args.out_dtype, [&](auto out) {
      LaunchKernel({grid.blocks, grid.threads}, stream,
                   GatherRowsKernel<decltype(in), decltype(out)>, args);
    });
  });
}

}  // namespace sluice
