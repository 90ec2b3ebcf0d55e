// The three forms of every model are one function: chunkwise as it prefills and recurrent as it
// decodes, in float32 on every device, and parallel, for which the oracles stand in on the CPU:
// every output from all tokens up to it, in double precision and without a state in between.
//
// For Decaying Fast Weights and Mamba the CPU's chunkwise leg walks tokens as the recurrent one
// does: there it is the oracle leg that tells.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/device_cpu.h"
#include "tests/engine/tiny_family.h"
#include "tests/engine/tiny_run.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/gated_ref.h"
#include "tests/kernels/selective_scan_ref.h"

namespace sluice {
namespace {

constexpr int32_t kTokens = 134;  // two chunks and a part of a third
constexpr double kTolerance = 1e-4;

// Columns [first, first + cols) of rows that are `stride` apart.
template <typename T = double>
std::vector<T> Gather(const void* from, int64_t rows, int64_t stride, int64_t first, int64_t cols) {
  std::vector<T> values;
  if (from == nullptr) return values;
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = static_cast<const float*>(from) + r * stride + first;
    values.insert(values.end(), row, row + cols);
  }
  return values;
}

// The CPU, but for what carries a state from token to token in a prefill.
class ParallelDevice : public CpuDevice {
 public:
  ParallelDevice() : CpuDevice(1) {}

  void GatedChunk(const GatedChunkArgs& args) override;
  void SelectiveScan(const SelectiveScanArgs& args) override;

  int32_t calls() const { return calls_; }

 private:
  int32_t calls_ = 0;
};

std::vector<double> LogDecays(const GatedShape& s, const GatedOperands& op, const Segment& segment,
                              int64_t kv_head) {
  std::vector<double> gates(int64_t{segment.length} * s.key_dim);
  const GateView view = ViewGate(s, op, segment.row, kv_head);
  for (int64_t i = 0; view.first != nullptr && i < static_cast<int64_t>(gates.size()); ++i) {
    gates[i] = view.first[i / s.key_dim * view.row_stride + i % s.key_dim * view.channel_stride];
  }
  return gates;
}

// A query head of a segment, from the state in its slot.
ref::GatedHead HeadOf(const GatedChunkArgs& args, const Segment& segment, int64_t head) {
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  const int64_t rows = segment.length;
  const int64_t kv_head = head / (s.heads / s.kv_heads);
  const int64_t size = int64_t{s.key_dim} * s.value_dim;
  const int64_t values = int64_t{s.kv_heads} * s.value_dim;
  const auto part = [&](const void* from, int64_t stride, int64_t at, int64_t dim) {
    const float* const first = static_cast<const float*>(from);
    return Gather(from == nullptr ? nullptr : first + segment.row * stride, rows, stride, at * dim,
                  dim);
  };
  ref::GatedHead of = {
      .tokens = rows,
      .key_dim = s.key_dim,
      .value_dim = s.value_dim,
      .scale = s.scale,
      .q = part(op.q, op.q_stride, head / s.shared_keys, s.key_dim),
      .k = part(op.k, op.k_stride, kv_head / s.shared_keys, s.key_dim),
      .v = part(op.v, op.v_stride, kv_head, s.value_dim),
      .log_decay = LogDecays(s, op, segment, kv_head),
      .state = Gather(op.states + segment.slot * op.slot_stride, 1, 0, kv_head * size, size),
      .value_log_decay = part(op.value_log_decay, values, kv_head, s.value_dim),
      .input_scale = part(op.input_scale, s.kv_heads, kv_head, 1),
      .exclusive = s.read == ReadKind::kExclusive,
      .bonus = Gather(op.bonus, 1, 0, kv_head * s.key_dim, s.key_dim)};
  of.value_log_decay.resize(rows * s.value_dim);
  if (of.input_scale.empty()) of.input_scale.assign(rows, 1);
  of.bonus.resize(s.key_dim);
  return of;
}

void ParallelDevice::GatedChunk(const GatedChunkArgs& args) {
  ++calls_;
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  ASSERT_EQ(s.dtype, DType::kFloat32);
  ASSERT_EQ(args.segment_count, 1);
  const Segment& segment = args.segments[0];
  std::vector<ref::GatedResult> results;
  for (int64_t head = 0; head < s.heads; ++head) {
    results.push_back(ref::GatedParallel(HeadOf(args, segment, head)));
  }
  const int64_t size = int64_t{s.key_dim} * s.value_dim;
  for (int64_t head = 0; head < s.heads; ++head) {
    const int64_t kv_head = head / (s.heads / s.kv_heads);
    float* const state = op.states + segment.slot * op.slot_stride + kv_head * size;
    for (int64_t i = 0; i < size; ++i) state[i] = static_cast<float>(results[head].state[i]);
    auto* const out = static_cast<float*>(op.out) + segment.row * s.heads * s.value_dim;
    for (int64_t i = 0; i < int64_t{segment.length} * s.value_dim; ++i) {
      const int64_t row = i / s.value_dim * s.heads + head;
      out[row * s.value_dim + i % s.value_dim] = static_cast<float>(results[head].out[i]);
    }
  }
}

void ParallelDevice::SelectiveScan(const SelectiveScanArgs& args) {
  ++calls_;
  ASSERT_EQ(args.decode_rows, 0);
  ASSERT_EQ(args.segment_count, 1);
  const Segment& segment = args.segments[0];
  ASSERT_EQ(segment.row, 0);
  const int64_t rows = segment.length;
  const int64_t wide = args.channels;
  const int64_t narrow = args.state_size;
  float* const state = args.states + segment.slot * args.slot_stride;
  const ref::ScanSequence sequence = {
      .channels = wide,
      .state_size = narrow,
      .x = Gather<float>(args.x, rows, args.x_stride, 0, wide),
      .dt = Gather<float>(args.dt, rows, args.dt_stride, 0, wide),
      .dt_bias = Gather<float>(args.dt_bias, 1, 0, 0, wide),
      .b = Gather<float>(args.b, rows, args.b_stride, 0, narrow),
      .c = Gather<float>(args.c, rows, args.c_stride, 0, narrow),
      .a_log = Gather<float>(args.a_log, 1, 0, 0, wide * narrow),
      .skip = Gather<float>(args.skip, 1, 0, 0, wide),
      .gate = Gather<float>(args.gate, rows, args.gate_stride, 0, wide),
      .state = Gather<float>(state, 1, 0, 0, wide * narrow)};
  // One chunk of all tokens.
  const ref::ScanResult result = ref::SelectiveScanChunked(sequence, rows);
  std::copy(result.out.begin(), result.out.end(), static_cast<float*>(args.out));
  std::copy(result.state.begin(), result.state.end(), state);
}

class FamilyFormsTest : public testing::TestWithParam<std::tuple<DeviceKind, TinyFamily>> {
 protected:
  void SetUp() override {
    std::string error;
    device_ = std::get<DeviceKind>(GetParam()) == DeviceKind::kCuda ? CreateCudaDevice({}, &error)
                                                                    : CreateCpuDevice(2);
    ASSERT_NE(device_, nullptr) << error;
  }

  TinyFamilyModel model_{std::get<TinyFamily>(GetParam())};
  std::unique_ptr<Device> device_;
};

TEST_P(FamilyFormsTest, AreOneFunction) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < kTokens; ++i) tokens.push_back((131 + i * 97 + i * i * 29) % 256);
  ParallelDevice oracle;
  TinyRun parallel(model_, &oracle);
  TinyRun chunkwise(model_, device_.get());
  TinyRun recurrent(model_, device_.get());
  parallel.Prefill(tokens);
  EXPECT_GT(oracle.calls(), 0);
  const std::vector<float> logprobs = parallel.Logprobs();
  const std::vector<double> want(logprobs.begin(), logprobs.end());
  chunkwise.Prefill(tokens);
  EXPECT_TRUE(EachNear(chunkwise.Logprobs(), want, 0, kTolerance));
  std::vector<float> decoded;
  for (const int32_t token : tokens) {
    recurrent.Decode(token);
    const std::vector<float> row = recurrent.Logprobs();
    decoded.insert(decoded.end(), row.begin(), row.end());
  }
  EXPECT_TRUE(EachNear(decoded, want, 0, kTolerance));

  const std::vector<float> floats = parallel.State();
  const std::vector<double> state(floats.begin(), floats.end());
  EXPECT_TRUE(Near(chunkwise.State(), state, {kTolerance, 10 * kTolerance}));
  EXPECT_TRUE(Near(recurrent.State(), state, {kTolerance, 10 * kTolerance}));
}

std::string CaseName(const testing::TestParamInfo<std::tuple<DeviceKind, TinyFamily>>& info) {
  const bool cuda = std::get<DeviceKind>(info.param) == DeviceKind::kCuda;
  return std::string(cuda ? "Cuda" : "Cpu") + "_" + std::get<TinyFamily>(info.param).name;
}

INSTANTIATE_TEST_SUITE_P(All, FamilyFormsTest,
                         testing::Combine(testing::ValuesIn(DevicesUnderTest()),
                                          testing::ValuesIn(TinyFamilies())),
                         CaseName);

}  // namespace
}  // namespace sluice
