#include "engine/layers/projection.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "engine/status_macros.h"

namespace sluice {

namespace {

// Where the rows of a part go.
struct Placement {
  int64_t row = 0;     // of the part's tensors
  int64_t column = 0;  // of the result
  int64_t count = 0;
};

// Some neighbouring parts, and the columns that are theirs.
struct Span {
  size_t part = 0;
  size_t parts = 0;
  int64_t column = 0;
  int64_t columns = 0;
  bool float8 = false;
};

// Where each piece of each part goes; `end` is then the first column behind all of them.
std::vector<std::vector<Placement>> Place(const std::vector<ProjectionPart>& parts, int64_t* end) {
  std::vector<std::vector<Placement>> placements;
  int64_t column = 0;
  for (const ProjectionPart& part : parts) {
    std::vector<Placement>& pieces = placements.emplace_back();
    if (part.pieces.empty()) {
      pieces.push_back({0, column, part.out_dim});
      column += part.out_dim;
    }
    int64_t row = 0;
    for (const int64_t count : part.pieces) {
      for (int32_t copy = 0; copy < part.copies; ++copy) {
        column = Projection::Columns(column);
        pieces.push_back({row, column, count});
        column += count;
      }
      row += count;
    }
  }
  *end = column;
  return placements;
}

// Rows of `width` numbers, `stride` apart where they go, whose first column is `first`.
void CopyRows(const std::vector<Placement>& pieces, const std::vector<float>& from, int64_t width,
              int64_t stride, int64_t first, std::vector<float>* to) {
  for (const Placement& piece : pieces) {
    for (int64_t row = 0; row < piece.count; ++row) {
      std::copy_n(from.begin() + (piece.row + row) * width, width,
                  to->begin() + (piece.column - first + row) * stride);
    }
  }
}

// Parts that are stored alike, as many as there are side by side. A product begins and ends at a
// multiple of kColumnMultiple, so a part that does not is not stored otherwise than its neighbour.
std::vector<Span> SpansOf(const std::vector<ProjectionPart>& parts,
                          const std::vector<std::vector<Placement>>& placements, int64_t in_dim,
                          int64_t columns, bool float8) {
  const auto begin_of = [&](size_t i) {
    return i < parts.size() ? placements[i].front().column : columns;
  };
  const auto rounds = [&](size_t i) {
    return float8 && in_dim >= Projection::kLeastFloat8Dim && in_dim % 16 == 0 &&
           parts[i].out_dim >= Projection::kLeastFloat8Dim &&
           begin_of(i) % Projection::kColumnMultiple == 0 &&
           begin_of(i + 1) % Projection::kColumnMultiple == 0;
  };
  std::vector<Span> spans;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (spans.empty() || spans.back().float8 != rounds(i)) {
      spans.push_back({.part = i, .column = begin_of(i), .float8 = rounds(i)});
    }
    ++spans.back().parts;
    spans.back().columns = begin_of(i + 1) - spans.back().column;
  }
  return spans;
}

// The tensors of one span: rows of `width` numbers. `end`: the first column behind all parts.
absl::StatusOr<WeightMatrix> LoadSpan(WeightLoader* loader, int64_t in_dim, int64_t end,
                                      const Span& span, const std::vector<ProjectionPart>& parts,
                                      const std::vector<std::vector<Placement>>& placements) {
  const int64_t width = Projection::Columns(in_dim);
  std::vector<WeightPart> weights;
  int64_t out_dim = 0;
  for (size_t i = span.part; i < span.part + span.parts; ++i) {
    weights.push_back({parts[i].name + ".weight", {parts[i].out_dim, in_dim}});
    out_dim += parts[i].out_dim;
  }
  WeightMatrix matrix;
  // One after the other as in the file, but for what pads the end.
  if (in_dim == width && out_dim == std::min(span.columns, end - span.column)) {
    if (span.float8) return loader->Float8(weights, span.columns);
    SLUICE_ASSIGN_OR_RETURN(matrix.numbers, loader->Matrix(weights, span.columns * width));
    return matrix;
  }
  std::vector<float> values(span.columns * width);
  for (size_t i = 0; i < span.parts; ++i) {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<float> tensor, loader->HostFloats(weights[i]));
    CopyRows(placements[span.part + i], tensor, in_dim, width, span.column, &values);
  }
  if (span.float8) return loader->Float8FromHost(weights.front().name, values, width);
  SLUICE_ASSIGN_OR_RETURN(matrix.numbers, loader->FromHost(values, loader->matrix_dtype()));
  return matrix;
}

}  // namespace

absl::StatusOr<Projection> Projection::Load(WeightLoader* loader, int64_t in_dim,
                                            const std::vector<ProjectionPart>& parts) {
  Projection projection;
  int64_t end = 0;
  const std::vector<std::vector<Placement>> placements = Place(parts, &end);
  projection.in_dim_ = Columns(in_dim);
  projection.columns_ = Columns(end);
  for (const Span& span :
       SpansOf(parts, placements, in_dim, projection.columns_, loader->float8())) {
    Block& block = projection.blocks_.emplace_back();
    block.dtype = span.float8 ? DType::kFloat8 : loader->matrix_dtype();
    block.column = span.column;
    block.columns = span.columns;
    SLUICE_ASSIGN_OR_RETURN(block.weight, LoadSpan(loader, in_dim, end, span, parts, placements));
  }
  // The small first: a GPU fetches the weights of the large while it multiplies by them.
  std::stable_sort(projection.blocks_.begin(), projection.blocks_.end(),
                   [](const Block& a, const Block& b) { return a.columns < b.columns; });
  const auto biased = [](const ProjectionPart& part) { return part.bias; };
  if (std::none_of(parts.begin(), parts.end(), biased)) return projection;
  std::vector<float> bias(projection.columns_);
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i].bias) continue;
    SLUICE_ASSIGN_OR_RETURN(const std::vector<float> tensor,
                            loader->HostFloats({parts[i].name + ".bias", {parts[i].out_dim}}));
    CopyRows(placements[i], tensor, 1, 1, 0, &bias);
  }
  SLUICE_ASSIGN_OR_RETURN(projection.bias_, loader->FromHost(bias));
  return projection;
}

void Projection::Run(const Compute& compute, LinearArgs args) const {
  args.in_dim = static_cast<int32_t>(in_dim_);
  args.x_dtype = compute.act;
  args.y_dtype = compute.act;
  for (const Block& block : blocks_) {
    LinearArgs product = args;
    product.out_dim = static_cast<int32_t>(block.columns);
    product.weight_dtype = block.dtype;
    product.weight = block.weight.numbers.data();
    product.weight_scale = block.weight.scales.as<float>();
    product.y = compute.Column(static_cast<std::byte*>(args.y), block.column);
    compute.device->Linear(product);
  }
  if (bias_.bytes() == 0) return;
  compute.device->Activate({.dtype = compute.act,
                            .act = Activation::kNone,
                            .rows = args.rows,
                            .cols = static_cast<int32_t>(columns_),
                            .x = args.y,
                            .stride = args.y_stride,
                            .bias = bias_.as<float>()});
}

}  // namespace sluice
