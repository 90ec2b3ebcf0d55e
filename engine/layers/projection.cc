#include "engine/layers/projection.h"

#include <algorithm>

#include "engine/status_macros.h"

namespace sluice {

namespace {

// Where the rows of a part go.
struct Placement {
  int64_t row = 0;     // of the part's tensors
  int64_t column = 0;  // of the result
  int64_t count = 0;
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

// Rows of `width` numbers, `stride` apart where they go.
void CopyRows(const std::vector<Placement>& pieces, const std::vector<float>& from, int64_t width,
              int64_t stride, std::vector<float>* to) {
  for (const Placement& piece : pieces) {
    for (int64_t row = 0; row < piece.count; ++row) {
      std::copy_n(from.begin() + (piece.row + row) * width, width,
                  to->begin() + (piece.column + row) * stride);
    }
  }
}

}  // namespace

absl::StatusOr<Projection> Projection::Load(WeightLoader* loader, int64_t in_dim,
                                            const std::vector<ProjectionPart>& parts) {
  Projection projection;
  int64_t end = 0;
  const std::vector<std::vector<Placement>> placements = Place(parts, &end);
  projection.in_dim_ = Columns(in_dim);
  projection.columns_ = Columns(end);
  std::vector<WeightPart> weights;
  int64_t out_dim = 0;
  bool biased = false;
  for (const ProjectionPart& part : parts) {
    weights.push_back({part.name + ".weight", {part.out_dim, in_dim}});
    out_dim += part.out_dim;
    biased |= part.bias;
  }
  const int64_t elements = projection.columns_ * projection.in_dim_;
  if (in_dim == projection.in_dim_ && out_dim == end) {
    SLUICE_ASSIGN_OR_RETURN(projection.weight_, loader->Matrix(weights, elements));
  } else {
    std::vector<float> values(elements);
    for (size_t i = 0; i < parts.size(); ++i) {
      SLUICE_ASSIGN_OR_RETURN(const std::vector<float> tensor, loader->HostFloats(weights[i]));
      CopyRows(placements[i], tensor, in_dim, projection.in_dim_, &values);
    }
    SLUICE_ASSIGN_OR_RETURN(projection.weight_, loader->FromHost(values, loader->matrix_dtype()));
  }
  if (!biased) return projection;
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
  args.out_dim = static_cast<int32_t>(columns_);
  args.weight_dtype = compute.matrix_dtype;
  args.x_dtype = compute.act;
  args.y_dtype = compute.act;
  args.weight = weight_.data();
  compute.device->Linear(args);
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
