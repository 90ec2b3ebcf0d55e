// Whole matrices of states at a time: rings folded, matrices unpacked into float32 and packed
// again.
#include "kernels/fold_states.h"

#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"
#include "kernels/unpacked_states_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/fold_states_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/gated_gate-inl.h"
#include "kernels/packed_state-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

struct RingDecays {
  HWY_ALIGN float key[kMaxGatedDim];
  HWY_ALIGN float value[kMaxGatedValueDim];
};

// What the head is folded by when no token comes to it.
HeadFold FoldOf(const GatedShape& shape, const HeadState& state, RingDecays& decays) {
  const Floats d;
  const bool has_ring = shape.state.ring > 0;
  for (int64_t c = 0; c < shape.key_dim; c += FloatLanes()) {
    const auto sum = has_ring ? hn::LoadU(d, state.log_decay + c) : hn::Zero(d);
    hn::StoreU(Decays(sum), d, decays.key + c);
  }
  HeadFold fold = {state, HeldOf(shape, state), decays.key, nullptr, nullptr, nullptr};
  if (!has_ring || !shape.value_gate) return fold;
  for (int64_t v = 0; v < shape.value_dim; v += FloatLanes()) {
    hn::StoreU(Decays(hn::LoadU(d, state.value_log_decay + v)), d, decays.value + v);
  }
  fold.value_decay = decays.value;
  return fold;
}

void FoldHead(const GatedShape& shape, float* slot, int64_t head) {
  const HeadState state = ViewHead(shape, slot, head);
  RingDecays decays;
  const HeadFold fold = FoldOf(shape, state, decays);
  if (fold.held == 0) return;
  WithStateType(shape.state.type, [&](auto type) {
    constexpr StateType kType = decltype(type)::value;
    HWY_ALIGN float row[kMaxGatedValueDim];
    for (int64_t c = 0; c < shape.key_dim; ++c) {
      FoldRow<kType>(shape, fold, c, row);
      PackRow<kType>(shape, row, c, state);
    }
  });
  EmptyRing(shape, state);
}

void UnpackHead(const GatedShape& shape, float* slot, int64_t head, float* matrix) {
  const HeadState state = ViewHead(shape, slot, head);
  RingDecays decays;
  const HeadFold fold = FoldOf(shape, state, decays);
  WithStateType(shape.state.type, [&](auto type) {
    for (int64_t c = 0; c < shape.key_dim; ++c) {
      FoldRow<decltype(type)::value>(shape, fold, c, matrix + c * shape.value_dim);
    }
  });
}

void PackHead(const GatedShape& shape, const float* matrix, float* slot, int64_t head) {
  const HeadState state = ViewHead(shape, slot, head);
  WithStateType(shape.state.type, [&](auto type) {
    for (int64_t c = 0; c < shape.key_dim; ++c) {
      PackRow<decltype(type)::value>(shape, matrix + c * shape.value_dim, c, state);
    }
  });
  EmptyRing(shape, state);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(FoldHead);
HWY_EXPORT(UnpackHead);
HWY_EXPORT(PackHead);

namespace {

// Calls body(i, head) for the state heads of `count` states.
template <typename Body>
void ForHeads(const GatedShape& shape, int64_t count, ThreadPool& pool, const Body& body) {
  const int64_t heads = shape.kv_heads;
  const int64_t size = shape.StateSize() / heads;
  pool.Ranges(count * heads, kElementGrain / size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i / heads, i % heads);
  });
}

float* SlotOf(const GatedChunkArgs& args, int64_t segment) {
  return args.operands.states + args.segments[segment].slot * args.operands.slot_stride;
}

}  // namespace

void FoldStatesCpu(const FoldStatesArgs& args, ThreadPool& pool) {
  CheckFoldStates(args);
  if (args.shape.state.ring == 0) return;
  ForHeads(args.shape, args.count, pool, [&](int64_t i, int64_t head) {
    float* const slot = args.states + args.slots[i] * args.slot_stride;
    HWY_DYNAMIC_DISPATCH(FoldHead)(args.shape, slot, head);
  });
}

void UnpackStatesCpu(const GatedChunkArgs& packed, const UnpackedChunk& unpacked,
                     ThreadPool& pool) {
  for (int32_t i = 0; i < packed.segment_count; ++i) {
    unpacked.table[i] = packed.segments[i];
    unpacked.table[i].slot = i;
  }
  const int64_t size = packed.shape.StateSize() / packed.shape.kv_heads;
  ForHeads(packed.shape, packed.segment_count, pool, [&](int64_t i, int64_t head) {
    HWY_DYNAMIC_DISPATCH(UnpackHead)
    (packed.shape, SlotOf(packed, i), head, SlotOf(unpacked.args, i) + head * size);
  });
}

void PackStatesCpu(const UnpackedChunk& unpacked, const GatedChunkArgs& packed, ThreadPool& pool) {
  const int64_t size = packed.shape.StateSize() / packed.shape.kv_heads;
  ForHeads(packed.shape, packed.segment_count, pool, [&](int64_t i, int64_t head) {
    HWY_DYNAMIC_DISPATCH(PackHead)
    (packed.shape, SlotOf(unpacked.args, i) + head * size, SlotOf(packed, i), head);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
