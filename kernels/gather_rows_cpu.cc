#include "kernels/gather_rows.h"

#include <cstring>

#include "kernels/bfloat16_cpu.h"
#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

namespace sluice {
namespace {

void CopyRow(const GatherRowsArgs& args, int64_t row) {
  const int64_t index = args.indices[row];
  SLUICE_CHECK(index >= 0 && index < args.table_rows);
  const int64_t from_bytes = args.dim * DTypeBytes(args.table_dtype);
  const int64_t to_bytes = args.dim * DTypeBytes(args.out_dtype);
  const void* from = static_cast<const char*>(args.table) + index * from_bytes;
  void* to = static_cast<char*>(args.out) + row * to_bytes;
  if (args.table_dtype == args.out_dtype) {
    std::memcpy(to, from, to_bytes);
  } else if (args.table_dtype == DType::kBFloat16) {
    WidenBFloat16(static_cast<const uint16_t*>(from), args.dim, static_cast<float*>(to));
  } else {
    RoundToBFloat16(static_cast<const float*>(from), args.dim, static_cast<uint16_t*>(to));
  }
}

}  // namespace

void GatherRowsCpu(const GatherRowsArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.rows >= 0);
  SLUICE_CHECK(args.dim > 0 && args.dim % 8 == 0);
  for (const DType dtype : {args.table_dtype, args.out_dtype}) {
    SLUICE_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16);
  }
  pool.Ranges(args.rows, kElementGrain / args.dim, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) CopyRow(args, row);
  });
}

}  // namespace sluice
