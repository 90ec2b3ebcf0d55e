#include "tests/kernels/gated_long_run.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "kernels/device_buffer.h"
#include "tests/kernels/gated_ref.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/log_gate_ref.h"
#include "tests/kernels/mlstm_gates_ref.h"
#include "tests/kernels/normalizer_ref.h"
#include "tests/kernels/relative_error.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

constexpr float kEps = 1e-6F;
constexpr float kSoftCap = 15;

GatedBlock Draw(const GatedLongKind& kind, const GatedShape& s, Random& random) {
  GatedBlock block;
  block.q = Drawn(random, kLongBlock * kLongRows * s.QueryHeads() * s.key_dim, s.dtype);
  block.k = Drawn(random, kLongBlock * kLongRows * s.KeyHeads() * s.key_dim, s.dtype);
  block.v = Drawn(random, kLongBlock * kLongRows * s.kv_heads * s.value_dim, s.dtype);
  kind.draw(s, random, &block);
  return block;
}

GatedShape Padded(GatedShape shape, LongNormalizer normalizer) {
  if (normalizer != LongNormalizer::kNone) shape.value_dim += kNormalizerTile;
  return shape;
}

// What the end of a run is.
struct End {
  std::vector<float> out;     // [kLongBlock, kLongRows, H, V], of the last block
  std::vector<float> states;  // [kLongRows, StateSize]
};

// The run as a device takes it: as a model's decode does, a few ops a token, never waiting.
class DeviceRun {
 public:
  DeviceRun(Device& device, const GatedLongKind& kind, const GatedShape& shape,
            const std::vector<float>& bonus)
      : device_(device),
        normalizer_(kind.normalizer),
        shape_(shape),
        padded_(Padded(shape, kind.normalizer)),
        slots_(&device, kLongRows * 4),
        bonus_(&device, static_cast<int64_t>(bonus.size()) * 4),
        states_(&device, kLongSlots * padded_.StateSize() * 4),
        max_(&device, int64_t{kLongSlots} * shape.heads * 4),
        padded_v_(&device, kLongRows * padded_.kv_heads * padded_.value_dim * Bytes()),
        sums_(&device, kLongRows * padded_.heads * padded_.value_dim * Bytes()),
        log_floor_(&device, kLongRows * shape.heads * 4),
        out_(&device, kLongBlock * kLongRows * shape.heads * shape.value_dim * Bytes()) {
    device.Upload(slots_.data(), kLongSlotOfRow.data(), kLongRows * 4);
    if (!bonus.empty()) device.Upload(bonus_.data(), bonus.data(), bonus_.bytes());
    device.Zero(states_.data(), states_.bytes());
    device.Zero(max_.data(), max_.bytes());
  }

  void Run(const GatedBlock& block) {
    Put(block.q, shape_.dtype, &q_);
    Put(block.k, shape_.dtype, &k_);
    Put(block.v, shape_.dtype, &v_);
    Put(block.input, shape_.dtype, &input_);
    Put(block.forget, shape_.dtype, &forget_);
    if (normalizer_ == LongNormalizer::kMlstm) {
      const std::vector<float> room(kLongBlock * kLongRows * shape_.kv_heads);
      Put(room, DType::kFloat32, &log_decay_);
      Put(room, DType::kFloat32, &input_scale_);
    } else {
      Put(block.log_decay, DType::kFloat32, &log_decay_);
      Put(block.input_scale, DType::kFloat32, &input_scale_);
    }
    Put(block.value_log_decay, DType::kFloat32, &value_log_decay_);
    for (int64_t t = 0; t < kLongBlock; ++t) Step(t);
  }

  End Read() {
    End end;
    std::vector<std::byte> out(out_.bytes());
    device_.Download(out.data(), out_.data(), out_.bytes());
    end.out = Unpack(out, shape_.dtype);
    std::vector<float> states(kLongSlots * padded_.StateSize());
    device_.Download(states.data(), states_.data(), states_.bytes());
    for (const int32_t slot : kLongSlotOfRow) {
      const auto from = states.begin() + slot * padded_.StateSize();
      end.states.insert(end.states.end(), from, from + padded_.StateSize());
    }
    return end;
  }

 private:
  int64_t Bytes() const { return DTypeBytes(shape_.dtype); }
  // Where token `t` of something with `cols` columns a row begins.
  const void* At(const DeviceBuffer& buffer, int64_t t, int64_t cols, int64_t bytes) const {
    return buffer.data() == nullptr ? nullptr
                                    : buffer.as<std::byte>() + t * kLongRows * cols * bytes;
  }
  float* FloatsAt(const DeviceBuffer& buffer, int64_t t, int64_t cols) const {
    return buffer.data() == nullptr ? nullptr : buffer.as<float>() + t * kLongRows * cols;
  }

  void Put(const std::vector<float>& values, DType dtype, DeviceBuffer* to) {
    if (values.empty()) return;
    const std::vector<std::byte> bytes = Pack(values, dtype);
    const auto size = static_cast<int64_t>(bytes.size());
    if (to->data() == nullptr) *to = DeviceBuffer(&device_, size);
    device_.Upload(to->data(), bytes.data(), size);
  }

  void Step(int64_t t) {
    if (normalizer_ == LongNormalizer::kMlstm) StepGates(t);
    const GatedShape& s = padded_;
    const int64_t queries = int64_t{s.QueryHeads()} * s.key_dim;
    const int64_t keys = int64_t{s.KeyHeads()} * s.key_dim;
    const int64_t values = int64_t{s.kv_heads} * s.value_dim;
    GatedOperands operands = {.q = At(q_, t, queries, Bytes()),
                              .k = At(k_, t, keys, Bytes()),
                              .v = At(v_, t, values, Bytes()),
                              .q_stride = queries,
                              .k_stride = keys,
                              .v_stride = values,
                              .log_decay = FloatsAt(log_decay_, t, s.GateCols()),
                              .value_log_decay = FloatsAt(value_log_decay_, t, values),
                              .input_scale = FloatsAt(input_scale_, t, s.kv_heads),
                              .bonus = bonus_.as<float>(),
                              .states = states_.as<float>(),
                              .slot_stride = s.StateSize(),
                              .out = Out(t)};
    if (normalizer_ != LongNormalizer::kNone) {
      PadValues(t);
      operands.v = padded_v_.data();
      operands.out = sums_.data();
    }
    device_.GatedStep(
        {.shape = s, .rows = kLongRows, .slots = slots_.as<int32_t>(), .operands = operands});
    if (normalizer_ != LongNormalizer::kNone) Normalize(t);
  }

  void* Out(int64_t t) const {
    return out_.as<std::byte>() + t * kLongRows * shape_.heads * shape_.value_dim * Bytes();
  }

  void StepGates(int64_t t) {
    const int32_t heads = shape_.heads;
    device_.MlstmGates({.dtype = shape_.dtype,
                        .heads = heads,
                        .decode_rows = kLongRows,
                        .slots = slots_.as<int32_t>(),
                        .segment_count = 0,
                        .segments = nullptr,
                        .rows = kLongRows,
                        .input = At(input_, t, heads, Bytes()),
                        .input_stride = heads,
                        .forget = At(forget_, t, heads, Bytes()),
                        .forget_stride = heads,
                        .soft_cap = kSoftCap,
                        .max = max_.as<float>(),
                        .slot_stride = heads,
                        .log_decay = FloatsAt(log_decay_, t, heads),
                        .input_scale = FloatsAt(input_scale_, t, heads),
                        .log_floor = log_floor_.as<float>()});
  }

  void PadValues(int64_t t) {
    const int64_t cols = int64_t{shape_.kv_heads} * shape_.value_dim;
    device_.PadValues({.dtype = shape_.dtype,
                       .rows = kLongRows,
                       .heads = shape_.kv_heads,
                       .dim = shape_.value_dim,
                       .v = At(v_, t, cols, Bytes()),
                       .v_stride = cols,
                       .out = padded_v_.data()});
  }

  void Normalize(int64_t t) {
    const bool mlstm = normalizer_ == LongNormalizer::kMlstm;
    device_.Normalize({.dtype = shape_.dtype,
                       .kind = mlstm ? NormalizeKind::kMlstm : NormalizeKind::kSum,
                       .rows = kLongRows,
                       .heads = shape_.heads,
                       .dim = shape_.value_dim,
                       .eps = kEps,
                       .x = sums_.data(),
                       .log_floor = mlstm ? log_floor_.as<float>() : nullptr,
                       .y = Out(t)});
  }

  Device& device_;
  const LongNormalizer normalizer_;
  const GatedShape shape_;
  const GatedShape padded_;
  DeviceBuffer slots_;
  DeviceBuffer bonus_;
  DeviceBuffer states_;
  DeviceBuffer max_;
  DeviceBuffer padded_v_;
  DeviceBuffer sums_;
  DeviceBuffer log_floor_;
  DeviceBuffer out_;
  DeviceBuffer q_, k_, v_, log_decay_, value_log_decay_, input_scale_, input_, forget_;
};

// One head of one row in double precision, a block at a time.
class OracleHead {
 public:
  OracleHead(const GatedLongKind& kind, const GatedShape& shape, const std::vector<float>& bonus,
             int64_t row, int64_t head)
      : normalizer_(kind.normalizer),
        shape_(shape),
        row_(row),
        head_(head),
        kv_head_(head / (shape.heads / shape.kv_heads)) {
    const GatedShape padded = Padded(shape, kind.normalizer);
    of_.tokens = kLongBlock;
    of_.key_dim = padded.key_dim;
    of_.value_dim = padded.value_dim;
    of_.scale = padded.scale;
    of_.exclusive = padded.read == ReadKind::kExclusive;
    of_.state.resize(of_.key_dim * of_.value_dim);
    of_.value_log_decay.resize(kLongBlock * of_.value_dim);
    of_.input_scale.assign(kLongBlock, 1);
    of_.bonus.resize(of_.key_dim);
    if (bonus.empty()) return;
    const auto first = bonus.begin() + kv_head_ * of_.key_dim;
    of_.bonus.assign(first, first + of_.key_dim);
  }

  // [kLongBlock, V].
  std::vector<double> Run(const GatedBlock& block) {
    const GatedShape& s = shape_;
    of_.q = Doubles(block.q, s.QueryHeads(), head_ / s.shared_keys, s.key_dim);
    of_.k = Doubles(block.k, s.KeyHeads(), kv_head_ / s.shared_keys, s.key_dim);
    of_.v = Doubles(block.v, s.kv_heads, kv_head_, s.value_dim);
    of_.log_decay.resize(kLongBlock * s.key_dim);
    for (int64_t i = 0; i < kLongBlock * s.key_dim; ++i) of_.log_decay[i] = LogDecay(block, i);
    if (s.value_gate) {
      of_.value_log_decay = Doubles(block.value_log_decay, s.kv_heads, kv_head_, s.value_dim);
    }
    if (!block.input_scale.empty()) {
      of_.input_scale = Doubles(block.input_scale, s.kv_heads, kv_head_, 1);
    }
    std::vector<float> log_floor;
    if (normalizer_ == LongNormalizer::kMlstm) log_floor = StepGates(block);
    if (normalizer_ != LongNormalizer::kNone) PadValues();
    ref::GatedResult result = ref::GatedRecurrent(of_);
    of_.state = std::move(result.state);
    return normalizer_ == LongNormalizer::kNone ? result.out : Normalized(result.out, log_floor);
  }

  const std::vector<double>& state() const { return of_.state; }

 private:
  // The numbers of one row and head of [kLongBlock, kLongRows, heads, dim].
  std::vector<double> Doubles(const std::vector<float>& all, int64_t heads, int64_t head,
                              int64_t dim) const {
    const std::vector<float> part =
        Columns(all, (row_ * heads + head) * dim, dim, kLongRows * heads * dim);
    return {part.begin(), part.end()};
  }

  double LogDecay(const GatedBlock& block, int64_t i) const {
    const int64_t head = (i / shape_.key_dim * kLongRows + row_) * shape_.kv_heads + kv_head_;
    if (block.log_decay.empty()) return 0;
    if (shape_.gate == GateKind::kConstant) return block.log_decay[kv_head_];
    if (shape_.gate == GateKind::kScalar) return block.log_decay[head];
    return block.log_decay[head * shape_.key_dim + i % shape_.key_dim];
  }

  // The equations of ref::MlstmGates with a maximum that stays in double precision.
  std::vector<float> StepGates(const GatedBlock& block) {
    const std::vector<double> input = Doubles(block.input, shape_.heads, head_, 1);
    const std::vector<double> forget = Doubles(block.forget, shape_.heads, head_, 1);
    std::vector<float> log_floor(kLongBlock);
    for (int64_t t = 0; t < kLongBlock; ++t) {
      const double i = ref::SoftCap(input[t], kSoftCap);
      const double f = ref::LogSigmoid(ref::SoftCap(forget[t], kSoftCap));
      const double max = std::max(f + max_, i);
      std::fill_n(of_.log_decay.begin() + t * of_.key_dim, of_.key_dim, f + max_ - max);
      of_.input_scale[t] = std::exp(i - max);
      log_floor[t] = static_cast<float>(-max);
      max_ = max;
    }
    return log_floor;
  }

  void PadValues() {
    const int64_t dim = shape_.value_dim;
    std::vector<double> padded(kLongBlock * of_.value_dim);
    for (int64_t t = 0; t < kLongBlock; ++t) {
      std::copy_n(of_.v.begin() + t * dim, dim, padded.begin() + t * of_.value_dim);
      padded[t * of_.value_dim + dim] = 1;
    }
    of_.v = std::move(padded);
  }

  std::vector<double> Normalized(const std::vector<double>& sums,
                                 const std::vector<float>& log_floor) const {
    const bool mlstm = normalizer_ == LongNormalizer::kMlstm;
    return ref::Normalize(mlstm ? NormalizeKind::kMlstm : NormalizeKind::kSum,
                          {sums.begin(), sums.end()}, log_floor, shape_.value_dim, kEps);
  }

  const LongNormalizer normalizer_;
  const GatedShape shape_;
  const int64_t row_;
  const int64_t head_;
  const int64_t kv_head_;
  ref::GatedHead of_;
  double max_ = 0;  // of the mLSTM's gates
};

}  // namespace

LongRunErrors RunLong(Device& device, const GatedLongKind& kind, DType dtype) {
  GatedShape s = kind.shape;
  s.dtype = dtype;
  Random random(900);
  std::vector<float> bonus;
  if (s.read == ReadKind::kExclusive) {
    bonus = random.Normals(int64_t{s.kv_heads} * s.key_dim, 1.0);
  }
  DeviceRun device_run(device, kind, s, bonus);
  std::vector<OracleHead> oracle;
  for (int64_t i = 0; i < kLongRows * int64_t{s.heads}; ++i) {
    oracle.emplace_back(kind, s, bonus, i / s.heads, i % s.heads);
  }
  std::vector<double> want_out(kLongBlock * kLongRows * s.heads * s.value_dim);
  for (int64_t done = 0; done < kLongTokens; done += kLongBlock) {
    const GatedBlock block = Draw(kind, s, random);
    device_run.Run(block);
    for (size_t head = 0; head < oracle.size(); ++head) {
      const std::vector<double> out = oracle[head].Run(block);
      for (int64_t t = 0; t < kLongBlock; ++t) {
        std::copy_n(out.begin() + t * s.value_dim, s.value_dim,
                    want_out.begin() +
                        (t * static_cast<int64_t>(oracle.size()) + static_cast<int64_t>(head)) *
                            s.value_dim);
      }
    }
  }
  std::vector<double> want_states;
  for (size_t head = 0; head < oracle.size(); head += s.heads / s.kv_heads) {
    const std::vector<double>& state = oracle[head].state();
    want_states.insert(want_states.end(), state.begin(), state.end());
  }
  const End end = device_run.Read();
  return {RelativeError(end.states, want_states), RelativeError(end.out, want_out)};
}

}  // namespace sluice
