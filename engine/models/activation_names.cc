#include "engine/models/activation_names.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

struct NamedActivation {
  const char* name;
  Activation activation;
  bool fla;
  bool transformers;
};

// "gelu" of transformers, the form with erf, is no kernel's.
constexpr NamedActivation kActivations[] = {
    {"gelu", Activation::kGelu, true, false},
    {"gelu_accurate", Activation::kGelu, false, true},
    {"gelu_fast", Activation::kGelu, false, true},
    {"gelu_new", Activation::kGelu, false, true},
    {"gelu_python_tanh", Activation::kGelu, false, true},
    {"gelu_pytorch_tanh", Activation::kGelu, false, true},
    {"linear", Activation::kNone, false, true},
    {"logsigmoid", Activation::kLogSigmoid, true, false},
    {"relu", Activation::kRelu, true, true},
    {"relu2", Activation::kSquareRelu, false, true},
    {"sigmoid", Activation::kSigmoid, true, true},
    {"silu", Activation::kSilu, true, true},
    {"sqrelu", Activation::kSquareRelu, true, false},
    {"swish", Activation::kSilu, true, true},
    {"tanh", Activation::kTanh, false, true},
};

}  // namespace

Activation ReadActivation(JsonReader& reader, const char* key, ActivationNames names) {
  if (!reader.Has(key)) return Activation::kNone;
  const std::string name = reader.String(key, "");
  std::string known;
  for (const NamedActivation& row : kActivations) {
    if (!(names == ActivationNames::kFla ? row.fla : row.transformers)) continue;
    if (name == row.name) return row.activation;
    absl::StrAppend(&known, ", ", row.name);
  }
  reader.Refuse(key, absl::StrCat("it must be null", known));
  return Activation::kNone;
}

}  // namespace sluice
