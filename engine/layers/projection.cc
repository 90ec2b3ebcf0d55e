#include "engine/layers/projection.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "engine/status_macros.h"

namespace sluice {

namespace {

// Some neighbouring parts, and the columns that are theirs.
struct Span {
  size_t part = 0;
  size_t parts = 0;
  int64_t column = 0;
  int64_t columns = 0;
  bool float8 = false;
};

// Which columns of the result are those of each part's pieces; `end` is then the first one behind
// all of them.
std::vector<std::vector<RowRange>> Place(const std::vector<ProjectionPart>& parts, int64_t* end) {
  std::vector<std::vector<RowRange>> placements;
  int64_t column = 0;
  for (const ProjectionPart& part : parts) {
    std::vector<RowRange>& pieces = placements.emplace_back();
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

// Rows of `width` numbers, `stride` apart where they go.
void CopyRows(const std::vector<RowRange>& pieces, const std::vector<float>& from, int64_t width,
              int64_t stride, std::vector<float>* to) {
  for (const RowRange& piece : pieces) {
    for (int64_t row = 0; row < piece.count; ++row) {
      std::copy_n(from.begin() + (piece.row + row) * width, width,
                  to->begin() + (piece.to + row) * stride);
    }
  }
}

// Parts that are stored alike, as many as there are side by side. A product begins and ends at a
// multiple of kColumnMultiple, so a part that does not is not stored otherwise than its neighbour.
std::vector<Span> SpansOf(const std::vector<ProjectionPart>& parts,
                          const std::vector<std::vector<RowRange>>& placements, int64_t in_dim,
                          int64_t columns, bool float8) {
  const auto begin_of = [&](size_t i) {
    return i < parts.size() ? placements[i].front().to : columns;
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

// The tensors of one span.
absl::StatusOr<WeightMatrix> LoadSpan(WeightLoader* loader, int64_t in_dim, const Span& span,
                                      const std::vector<ProjectionPart>& parts,
                                      const std::vector<std::vector<RowRange>>& placements) {
  std::vector<PlacedPart> placed;
  for (size_t i = span.part; i < span.part + span.parts; ++i) {
    placed.push_back({{parts[i].name + ".weight", {parts[i].out_dim, in_dim}}, placements[i]});
    for (RowRange& range : placed.back().ranges) range.to -= span.column;
  }
  const int64_t width = Projection::Columns(in_dim);
  if (in_dim == width) return loader->Rows(placed, span.columns, span.float8);
  std::vector<float> values(span.columns * width);
  for (const PlacedPart& part : placed) {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<float> tensor, loader->HostFloats(part.part));
    CopyRows(part.ranges, tensor, in_dim, width, &values);
  }
  WeightMatrix matrix;
  SLUICE_ASSIGN_OR_RETURN(matrix.numbers, loader->FromHost(values, loader->matrix_dtype()));
  return matrix;
}

}  // namespace

absl::StatusOr<Projection> Projection::Load(WeightLoader* loader, int64_t in_dim,
                                            const std::vector<ProjectionPart>& parts) {
  Projection projection;
  int64_t end = 0;
  const std::vector<std::vector<RowRange>> placements = Place(parts, &end);
  projection.in_dim_ = Columns(in_dim);
  projection.columns_ = Columns(end);
  for (const Span& span :
       SpansOf(parts, placements, in_dim, projection.columns_, loader->float8())) {
    Block& block = projection.blocks_.emplace_back();
    block.dtype = span.float8 ? DType::kFloat8 : loader->matrix_dtype();
    block.column = span.column;
    block.columns = span.columns;
    SLUICE_ASSIGN_OR_RETURN(block.weight, LoadSpan(loader, in_dim, span, parts, placements));
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
    CopyRows(placements[i], tensor, 1, 1, &bias);
  }
  SLUICE_ASSIGN_OR_RETURN(projection.bias_, loader->FromHost(bias));
  return projection;
}

void Projection::Run(const Compute& compute, LinearArgs args) const {
  args.in_dim = static_cast<int32_t>(in_dim_);
  args.x_dtype = compute.act;
  args.y_dtype = compute.act;
  const auto product_of = [&](const Block& block) {
    LinearArgs product = args;
    product.out_dim = static_cast<int32_t>(block.columns);
    product.weight_dtype = block.dtype;
    product.weight = block.weight.numbers.data();
    product.weight_scale = block.weight.scales.as<float>();
    product.y = compute.Column(static_cast<std::byte*>(args.y), block.column);
    return product;
  };
  size_t done = 0;
  for (; done + 2 <= blocks_.size(); done += 2) {
    compute.device->LinearPair(product_of(blocks_[done]), product_of(blocks_[done + 1]));
  }
  if (done < blocks_.size()) compute.device->Linear(product_of(blocks_[done]));
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
