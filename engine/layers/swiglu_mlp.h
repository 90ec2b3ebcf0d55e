// The gated MLP that most families share: x += (silu(h Wg) * (h Wu)) Wd, with h = norm(x),
// and maybe biases.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/layers/compute.h"
#include "engine/layers/projection.h"
#include "engine/layers/scratch_sublayer.h"

namespace sluice {

// What a family calls the MLP and its three products.
struct MlpNames {
  std::string module = "mlp";
  std::string gate = "gate_proj";
  std::string up = "up_proj";
  std::string down = "down_proj";
  std::string gate_up = "";  // if not empty, one module has the rows of both gate and up
  bool bias = false;         // of every product
};

struct SwiGluScratch {
  std::byte* gate_up;    // [rows, 2 I]
  std::byte* activated;  // [rows, I]
};

class SwiGluMlp : public ScratchSublayer<SwiGluScratch> {
 public:
  SwiGluMlp(const Compute& compute, int32_t hidden_size, int32_t intermediate_size,
            MlpNames names = {});

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  struct Layer {
    Projection gate_up;
    Projection down;
  };
  Scratch LayOut(ScratchArena& arena, const StepSize& size) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;

  Compute compute_;
  int32_t hidden_size_;
  int32_t intermediate_size_;
  MlpNames names_;
  std::vector<Layer> layers_;
};

}  // namespace sluice
