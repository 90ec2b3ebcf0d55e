// Safetensors files of any bytes: refused, or every tensor lies inside the file and over no other.
#include "engine/safetensors.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "kernels/check.h"

namespace sluice {
namespace {

void ParseAndRead(absl::Span<const std::byte> file) {
  const auto file_bytes = static_cast<int64_t>(file.size());
  const auto index = ParseSafetensors(file, file_bytes);
  if (!index.ok()) {
    SLUICE_CHECK(index.status().code() == absl::StatusCode::kInvalidArgument);
    return;
  }
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const auto& [name, view] : index->tensors) {
    int64_t elements = 1;
    for (int64_t dimension : view.shape) elements *= dimension;
    SLUICE_CHECK(elements == view.elements());
    SLUICE_CHECK(view.bytes == elements * DTypeBytes(view.dtype));
    SLUICE_CHECK(view.offset >= 0 && view.offset + view.bytes <= file_bytes);
    if (view.bytes > 0) ranges.emplace_back(view.offset, view.offset + view.bytes);
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    SLUICE_CHECK(ranges[i].first >= ranges[i - 1].second);
  }
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::Span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  sluice::ParseAndRead(file);
  if (size < 8) return 0;
  // Almost every change of a header makes its length wrong, so the same bytes are tried with the
  // length that ends at the last brace.
  std::string text(reinterpret_cast<const char*>(data), size);
  const size_t brace = text.rfind('}');
  const uint64_t header_bytes = brace == std::string::npos || brace < 8 ? 0 : brace + 1 - 8;
  for (size_t i = 0; i < 8; ++i) text[i] = static_cast<char>(header_bytes >> (8 * i));
  sluice::ParseAndRead({reinterpret_cast<const std::byte*>(text.data()), text.size()});
  return 0;
}
