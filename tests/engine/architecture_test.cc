#include "engine/architecture.h"

#include <memory>
#include <optional>
#include <string>

#include "gtest/gtest.h"

namespace sluice {
namespace {

// Scratch memory of the largest models and steps that are accepted: sizes beyond 32 bits.
TEST(Architecture, CountsTheScratchMemoryOfTheLargestModels) {
  constexpr int32_t kRows = 65536;
  constexpr int64_t kValueBytes = int64_t{kRows} * 32768 * 4;  // of one array [rows, heads * V]
  const std::unique_ptr<Device> device = CreateCpuDevice(1);
  const Compute compute(device.get(), DType::kFloat32);
  for (const std::string family : {R"("model_type":"gla","expand_v":2)",
                                   R"("model_type":"retnet","expand_k":0.5,"expand_v":2)",
                                   R"("model_type":"gated_retnet","expand_v":2)",
                                   R"("model_type":"xlstm","v_dim_factor":2)"}) {
    SCOPED_TRACE(family);
    const auto config = ParseModelConfig(
        "{" + family +
            R"(,"hidden_size":16384,"num_hidden_layers":2,"num_heads":64,"vocab_size":512})",
        std::nullopt);
    ASSERT_TRUE(config.ok()) << config.status();
    const Architecture architecture = MakeArchitecture(*config, compute);
    EXPECT_GT(architecture.blocks[0].sublayer->ScratchBytes({kRows, 1100, 38}), 2 * kValueBytes);
  }
}

}  // namespace
}  // namespace sluice
