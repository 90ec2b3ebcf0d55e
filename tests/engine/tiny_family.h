// A model directory of random weights for any family, small enough to be written for each test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/weight_loader.h"
#include "kernels/device.h"
#include "tests/engine/safetensors_writer.h"

namespace sluice {

// One shape of one family that the tests of all families run over.
struct TinyFamily {
  const char* name;    // of the test
  const char* config;  // config.json, but for vocab_size and token ids

  // Whether its states may be rounded.
  bool decays() const;
};

// What gtest prints of it.
inline void PrintTo(const TinyFamily& family, std::ostream* out) { *out << family.name; }

// The one of that name.
const TinyFamily& FindTinyFamily(const std::string& name);

// All of them: one row a family and a path through it.
const std::vector<TinyFamily>& TinyFamilies();

// Its tensors are those that the engine asks for: that they are a library's is what goldens say.
class TinyFamilyModel {
 public:
  static constexpr int32_t kVocab = 264;

  explicit TinyFamilyModel(const TinyFamily& family);

  const std::filesystem::path& path() const { return directory_.path(); }
  const std::vector<WeightPart>& tensors() const { return tensors_; }

  // What loading it gives.
  absl::Status Load(Device* device) const;

  // Writes the checkpoint anew, without the tensors of those names and with those added.
  void Rewrite(const std::vector<std::string>& without, const std::vector<WeightPart>& added) const;
  // With every tensor's numbers as `change` leaves them.
  void Change(const std::function<void(const WeightPart&, std::vector<float>*)>& change) const;
  // With one tensor that holds nothing but a number.
  void Fill(const std::string& name, float value) const;

 private:
  ScratchDirectory directory_;
  std::vector<WeightPart> tensors_;
};

}  // namespace sluice
