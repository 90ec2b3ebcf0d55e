#include "tests/bench/kernel_timer.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "kernels/float8.h"

namespace sluice {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
// More than any cache of a processor or a GPU in use holds.
constexpr int64_t kRotationBytes = 512 * kMiB;
constexpr int64_t kMaxCopies = 4096;
// What allocations are aligned to, and hence each copy.
constexpr int64_t kAlignment = 256;
constexpr int kBatches = 7;
constexpr double kBatchSeconds = 0.03;
constexpr int64_t kMaxCallsPerBatch = 2000;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

DeviceBuffer Take(Device& device, int64_t bytes) {
  DeviceBuffer buffer(&device, bytes);
  if (!buffer.ok()) {
    std::fprintf(stderr, "kernels_bench: no %lld bytes left on the device\n",
                 static_cast<long long>(bytes));
    std::exit(1);
  }
  return buffer;
}

// The upper half of a float32, which is near enough to its bfloat16 here.
uint16_t Half(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<uint16_t>(bits >> 16);
}

// Numbers of a linear congruence: no pattern that a cache or a multiplier could like.
std::vector<uint8_t> Pattern(int64_t count, DType dtype, float low, float high) {
  std::vector<uint8_t> bytes(count * DTypeBytes(dtype));
  uint32_t state = 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525 + 1013904223;
    const float value = low + (high - low) * static_cast<float>(state >> 8) * 0x1p-24F;
    const uint16_t half = Half(value);
    if (dtype == DType::kFloat8) {
      bytes[i] = ToFloat8(value);
    } else if (dtype == DType::kFloat32) {
      std::memcpy(&bytes[i * 4], &value, 4);
    } else {
      std::memcpy(&bytes[i * 2], &half, 2);
    }
  }
  return bytes;
}

}  // namespace

Rotation::Rotation(Device& device, int64_t bytes)
    : device_(device),
      copies_(
          std::clamp(kRotationBytes / std::max<int64_t>(bytes, 1) + 1, int64_t{2}, kMaxCopies)) {}

Ring Rotation::Numbers(int64_t count, DType dtype, float low, float high) const {
  // One pattern over and over: making a gigabyte of numbers would take longer than the bench.
  constexpr int64_t kPattern = 1 << 20;
  const std::vector<uint8_t> pattern = Pattern(kPattern, dtype, low, high);
  const auto step = static_cast<int64_t>(pattern.size());
  Ring ring = Empty(count * DTypeBytes(dtype));
  const int64_t bytes = ring.buffer().bytes();
  if (bytes > 0) device_.Upload(ring[0], pattern.data(), std::min(step, bytes));
  for (int64_t at = step; at < bytes; at += step) {
    device_.Copy(ring.at<uint8_t>(0) + at, ring[0], std::min(step, bytes - at));
  }
  return ring;
}

Ring Rotation::Empty(int64_t bytes) const {
  const int64_t stride = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  Ring ring(Take(device_, stride * copies_), stride, copies_);
  if (bytes > 0) device_.Zero(ring[0], stride * copies_);
  return ring;
}

Ring Rotation::Bytes(const void* content, int64_t bytes) const {
  Ring ring = Empty(bytes);
  std::vector<uint8_t> image(ring.buffer().bytes());
  for (int64_t at = 0; bytes > 0 && at < ring.buffer().bytes(); at += ring.stride()) {
    std::memcpy(image.data() + at, content, bytes);
  }
  if (bytes > 0) device_.Upload(ring[0], image.data(), ring.buffer().bytes());
  return ring;
}

namespace {

enum class Queueing { kRecorded, kPlain };

double MedianSeconds(Device& device, const std::function<void(int64_t)>& call,
                     Queueing queueing = Queueing::kRecorded) {
  int64_t number = 0;
  call(number++);
  device.Synchronize();
  double begin = Now();
  call(number++);
  device.Synchronize();
  const auto wanted = static_cast<int64_t>(kBatchSeconds / std::max(Now() - begin, 1e-7));
  const int64_t calls = std::clamp<int64_t>(wanted, 1, kMaxCallsPerBatch);
  std::vector<double> seconds;
  for (int batch = 0; batch < kBatches; ++batch) {
    const auto all = [&] {
      for (int64_t i = 0; i < calls; ++i) call(number++);
    };
    const std::unique_ptr<Recording> recording =
        queueing == Queueing::kRecorded ? device.Record(all) : nullptr;
    device.Synchronize();
    begin = Now();
    recording == nullptr ? all() : device.Play(*recording);
    device.Synchronize();
    seconds.push_back((Now() - begin) / static_cast<double>(calls));
  }
  std::nth_element(seconds.begin(), seconds.begin() + kBatches / 2, seconds.end());
  return seconds[kBatches / 2];
}

double MeasureCopy(Device& device) {
  const int64_t bytes = (device.kind() == DeviceKind::kCpu ? 256 : 1024) * kMiB;
  const DeviceBuffer from = Take(device, bytes);
  const DeviceBuffer to = Take(device, bytes);
  device.Zero(from.data(), bytes);
  device.Zero(to.data(), bytes);
  // In a graph the driver copies by other means, at two thirds of the rate.
  const double seconds = MedianSeconds(
      device, [&](int64_t) { device.Copy(to.data(), from.data(), bytes); }, Queueing::kPlain);
  return static_cast<double>(2 * bytes) / seconds;
}

double MeasureProduct(Device& device) {
  const int32_t dim = device.kind() == DeviceKind::kCpu ? 2048 : 8192;
  const DType x_dtype = device.ActivationType(DType::kBFloat16);
  const Rotation rotation(device, kRotationBytes);
  const int64_t count = int64_t{dim} * dim;
  const Ring x = rotation.Numbers(count, x_dtype);
  const Ring weight = rotation.Numbers(count, DType::kBFloat16);
  const Ring y = rotation.Numbers(count, x_dtype);
  LinearArgs args = {.rows = dim,
                     .in_dim = dim,
                     .out_dim = dim,
                     .weight_dtype = DType::kBFloat16,
                     .x_dtype = x_dtype,
                     .y_dtype = x_dtype,
                     .x_stride = dim,
                     .y_stride = dim};
  const double seconds = MedianSeconds(device, [&](int64_t call) {
    args.x = x[call];
    args.weight = weight[call];
    args.y = y[call];
    device.Linear(args);
  });
  return static_cast<double>(LinearFlops(args)) / seconds;
}

}  // namespace

Ceilings MeasureCeilings(Device& device) { return {MeasureCopy(device), MeasureProduct(device)}; }

KernelTimer::KernelTimer(Device* device, std::string op, std::string shape)
    : device_(device),
      op_(std::move(op)),
      shape_(std::move(shape)),
      ceilings_(MeasureCeilings(*device)) {
  std::printf("%s\n\n", device_->Description().c_str());
  std::printf("copy %.1f GB/s, matrix product %.2f TFLOP/s\n\n",
              ceilings_.copy_bytes_per_second * 1e-9, ceilings_.product_flops_per_second * 1e-12);
  std::printf("| op | shape | us | MB | GB/s | %% of copy | TFLOP/s | %% of product |\n");
  std::printf("|---|---|--:|--:|--:|--:|--:|--:|\n");
}

void KernelTimer::Time(const TimedCase& timed, const std::function<void(int64_t)>& call) {
  if (timed.shape.find(shape_) == std::string::npos) return;
  const double seconds = MedianSeconds(*device_, call);
  const double bandwidth = static_cast<double>(timed.bytes) / seconds;
  std::printf("| %s | %s | %.1f | %.2f | %.1f | %.0f |", timed.op.c_str(), timed.shape.c_str(),
              seconds * 1e6, static_cast<double>(timed.bytes) * 1e-6, bandwidth * 1e-9,
              100 * bandwidth / ceilings_.copy_bytes_per_second);
  if (timed.flops == 0) {
    std::printf(" | |\n");
  } else {
    const double flops = static_cast<double>(timed.flops) / seconds;
    std::printf(" %.2f | %.0f |\n", flops * 1e-12,
                100 * flops / ceilings_.product_flops_per_second);
  }
  std::fflush(stdout);
}

}  // namespace sluice
