// Matrix products.
#include <cstdint>
#include <string>
#include <vector>

#include "tests/bench/kernel_cases.h"

namespace sluice {

void TimeLinear(KernelTimer& timer, int32_t rows, int32_t in_dim, int32_t out_dim, DType y_dtype,
                DType weight_dtype) {
  const bool float8 = weight_dtype == DType::kFloat8;
  LinearArgs args = {.rows = rows,
                     .in_dim = in_dim,
                     .out_dim = out_dim,
                     .weight_dtype = weight_dtype,
                     .x_dtype = Activations(timer),
                     .y_dtype = y_dtype,
                     .x_stride = in_dim,
                     .y_stride = out_dim};
  const Rotation rotation(timer.device(), LinearBytes(args));
  const Ring x = rotation.Numbers(int64_t{rows} * in_dim, args.x_dtype);
  const Ring weight = rotation.Numbers(int64_t{in_dim} * out_dim, args.weight_dtype);
  const Ring scales = rotation.Same(std::vector<float>(float8 ? out_dim : 0, 0x1p-8F));
  const Ring y = rotation.Empty(int64_t{rows} * out_dim * DTypeBytes(y_dtype));
  const std::string shape =
      (float8 ? "float8 " : "") + Format("M=%lld K=%lld N=%lld", rows, in_dim, out_dim);
  timer.Time({"linear", shape, LinearBytes(args), LinearFlops(args)}, [&](int64_t call) {
    args.x = x[call];
    args.weight = weight[call];
    if (float8) args.weight_scale = scales.at<float>(call);
    args.y = y[call];
    timer.device().Linear(args);
  });
}

void TimeLinearBatch(KernelTimer& timer, int32_t batch, int32_t rows, int32_t in_dim,
                     int32_t out_dim) {
  const DType act = Activations(timer);
  LinearArgs args = {.rows = rows,
                     .in_dim = in_dim,
                     .out_dim = out_dim,
                     .weight_dtype = DType::kBFloat16,
                     .x_dtype = act,
                     .y_dtype = act,
                     .x_stride = int64_t{batch} * in_dim,
                     .y_stride = int64_t{batch} * out_dim,
                     .batch = batch,
                     .x_step = in_dim,
                     .weight_step = int64_t{in_dim} * out_dim,
                     .y_step = out_dim};
  const Rotation rotation(timer.device(), LinearBytes(args));
  const Ring x = rotation.Numbers(rows * args.x_stride, act);
  const Ring weight = rotation.Numbers(batch * args.weight_step, args.weight_dtype);
  const Ring y = rotation.Empty(rows * args.y_stride * DTypeBytes(act));
  const std::string shape =
      Format("%lld of ", batch) + Format("M=%lld K=%lld N=%lld", rows, in_dim, out_dim);
  timer.Time({"linear", shape, LinearBytes(args), LinearFlops(args)}, [&](int64_t call) {
    args.x = x[call];
    args.weight = weight[call];
    args.y = y[call];
    timer.device().Linear(args);
  });
}

}  // namespace sluice
