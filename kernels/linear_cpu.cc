#include "kernels/linear_cpu.h"

#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <dnnl.hpp>
#include <map>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/bfloat16_cpu.h"
#include "kernels/check.h"
#include "kernels/float8_cpu.h"
#include "kernels/linear_few_rows_cpu.h"

namespace sluice {
namespace {

// Rows that a product may have, so that few shapes serve any batch.
constexpr int32_t kRowBlocks[] = {512, 256, 128, 64};
// Into how many pieces the outputs are cut, and how many outputs a piece has: a multiple of
// kOutputGrain, but for the last.
constexpr int64_t kPieces = 8;
constexpr int64_t kOutputGrain = 64;
constexpr int64_t kMaxPiece = 512;
// A float32 x takes a weight that is widened in pieces that stay in the cache.
constexpr int64_t kWidenedBytes = int64_t{1} << 20;

// Memory that only grows.
class Scratch {
 public:
  void Reserve(int64_t bytes) {
    if (bytes <= bytes_) return;
    bytes_ = (bytes + 4095) / 4096 * 4096;
    data_.reset(std::aligned_alloc(4096, bytes_));
    SLUICE_CHECK(data_ != nullptr);
  }
  void* data() const { return data_.get(); }

 private:
  struct Release {
    void operator()(void* data) const { std::free(data); }
  };
  std::unique_ptr<void, Release> data_;
  int64_t bytes_ = 0;
};

// oneDNN asks OpenMP how many threads to use: within a task, this one alone.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }

 private:
  const int before_;
};

dnnl::matmul::primitive_desc DescribeProduct(const dnnl::memory::desc& x,
                                             const dnnl::memory::desc& weight,
                                             const dnnl::memory::desc& y,
                                             const dnnl::primitive_attr& attributes,
                                             const dnnl::engine& engine) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl::matmul::primitive_desc(engine, x, weight, y, attributes);
#else
  return dnnl::matmul::primitive_desc(dnnl::matmul::desc(x, weight, y), attributes, engine);
#endif
}

// Rows from `first` on, all outputs.
LinearArgs RowsOf(const LinearArgs& args, int64_t first, int32_t count) {
  LinearArgs part = args;
  part.rows = count;
  part.x = static_cast<const char*>(args.x) + first * args.x_stride * DTypeBytes(args.x_dtype);
  part.y = static_cast<float*>(args.y) + first * args.y_stride;
  return part;
}

// One product of a batch.
LinearArgs ProductOf(const LinearArgs& args, int64_t index) {
  LinearArgs product = args;
  product.batch = 1;
  product.x = static_cast<const float*>(args.x) + index * args.x_step;
  product.weight = static_cast<const char*>(args.weight) +
                   index * args.weight_step * DTypeBytes(args.weight_dtype);
  product.y = static_cast<float*>(args.y) + index * args.y_step;
  return product;
}

}  // namespace

bool CpuHasBFloat16() {
  // A wider instruction set has all the bits of a narrower one.
  const auto has = static_cast<uint32_t>(dnnl::get_effective_cpu_isa());
  const auto needed = static_cast<uint32_t>(dnnl::cpu_isa::avx512_core_bf16);
  return (has & needed) == needed;
}

// The primitives, one a shape, and the memory they work in. They multiply in the type of x, to
// which the weight is widened if it is narrower.
class LinearCpu::Products {
 public:
  explicit Products(ThreadPool& pool) : pool_(pool), scratch_(pool.threads()) {}

  // The same with x rounded to bfloat16, if the weight is that or stands for it and the processor
  // multiplies it. The rounded x lasts until the next call.
  LinearArgs RoundX(const LinearArgs& args) {
    if (args.weight_dtype == DType::kFloat32 || !has_bfloat16_) return args;
    const int64_t in_dim = args.in_dim;
    const float* x = static_cast<const float*>(args.x);
    rounded_.Reserve(args.rows * in_dim * 2);
    uint16_t* to = static_cast<uint16_t*>(rounded_.data());
    pool_.Ranges(args.rows, kElementGrain / in_dim, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        RoundToBFloat16(x + row * args.x_stride, in_dim, to + row * in_dim);
      }
    });
    LinearArgs rounded = args;
    rounded.x_dtype = DType::kBFloat16;
    rounded.x = to;
    rounded.x_stride = in_dim;
    return rounded;
  }

  // Products of `block` rows each, which make up all rows. A task is some outputs of one product.
  void RunBlocks(const LinearArgs& args, int32_t block) {
    const int64_t piece = PieceOf(args);
    const int64_t pieces = (args.out_dim + piece - 1) / piece;
    const int64_t last = args.out_dim - (pieces - 1) * piece;
    if (products_.size() + 2 > kMaxProducts) products_.clear();
    Product& product = Find(args, block, piece);
    Product& last_product = last == piece ? product : Find(args, block, last);
    pool_.Run(args.rows / block * pieces, [&](int64_t index, int32_t thread) {
      const bool is_last = index % pieces == pieces - 1;
      RunPiece({.args = args,
                .row = index / pieces * block,
                .output = index % pieces * piece,
                .outputs = is_last ? last : piece,
                .product = is_last ? last_product : product,
                .thread = thread});
    });
  }

 private:
  // Rows, outputs, inputs, strides of x and y, type of x, accumulated or not.
  using Shape = std::tuple<int32_t, int64_t, int32_t, int64_t, int64_t, DType, bool>;
  struct Product {
    dnnl::matmul primitive;
    std::vector<std::unordered_map<int, dnnl::memory>> memory;  // by thread
  };
  struct ThreadScratch {
    Scratch scratchpad;
    Scratch widened;
  };

  struct Piece {
    const LinearArgs& args;
    int64_t row;
    int64_t output;
    int64_t outputs;
    Product& product;
    int32_t thread;
  };

  // Outputs of a task: enough tasks for all threads, but never a matter of how many there are,
  // since the library may add in another order for another number of outputs. Nor is it one of a
  // weight's being bfloat16 or float8.
  static int64_t PieceOf(const LinearArgs& args) {
    int64_t piece = std::min<int64_t>(args.out_dim / kPieces, kMaxPiece);
    if (args.x_dtype == DType::kFloat32 && args.weight_dtype != DType::kFloat32) {
      piece = std::min(piece, kWidenedBytes / (int64_t{args.in_dim} * 4));
    }
    piece = std::max<int64_t>((piece + kOutputGrain - 1) / kOutputGrain, 1) * kOutputGrain;
    return std::min<int64_t>(piece, args.out_dim);
  }

  // The weights of some outputs in the type of x.
  static void Widen(const LinearArgs& args, int64_t output, int64_t outputs, void* to) {
    const int64_t in_dim = args.in_dim;
    if (args.weight_dtype == DType::kBFloat16) {
      WidenBFloat16(static_cast<const uint16_t*>(args.weight) + output * in_dim, outputs * in_dim,
                    static_cast<float*>(to));
      return;
    }
    const auto* codes = static_cast<const uint8_t*>(args.weight) + output * in_dim;
    for (int64_t row = 0; row < outputs; ++row, codes += in_dim) {
      const float scale = args.weight_scale[output + row];
      if (args.x_dtype == DType::kBFloat16) {
        WidenFloat8(codes, in_dim, scale, static_cast<uint16_t*>(to) + row * in_dim);
      } else {
        WidenFloat8(codes, in_dim, scale, static_cast<float*>(to) + row * in_dim);
      }
    }
  }

  void RunPiece(const Piece& piece) {
    const LinearArgs& args = piece.args;
    const int64_t at = piece.output * args.in_dim;
    // The library wants pointers to what it may change; it changes y and the scratch memory.
    char* x = static_cast<char*>(const_cast<void*>(args.x)) +
              piece.row * args.x_stride * DTypeBytes(args.x_dtype);
    char* weight =
        static_cast<char*>(const_cast<void*>(args.weight)) + at * DTypeBytes(args.weight_dtype);
    float* y = static_cast<float*>(args.y) + piece.row * args.y_stride + piece.output;
    if (args.weight_dtype != args.x_dtype) {
      Scratch& widened = scratch_[piece.thread].widened;
      widened.Reserve(piece.outputs * args.in_dim * DTypeBytes(args.x_dtype));
      Widen(args, piece.output, piece.outputs, widened.data());
      weight = static_cast<char*>(widened.data());
    }
    try {
      const OneThread setting;
      auto& memory = piece.product.memory[piece.thread];
      memory.at(DNNL_ARG_SRC).set_data_handle(x);
      memory.at(DNNL_ARG_WEIGHTS).set_data_handle(weight);
      memory.at(DNNL_ARG_DST).set_data_handle(y);
      memory.at(DNNL_ARG_SCRATCHPAD).set_data_handle(scratch_[piece.thread].scratchpad.data());
      dnnl::stream stream(engine_);
      piece.product.primitive.execute(stream, memory);
      stream.wait();
    } catch (const dnnl::error& error) {
      CheckFailed(__FILE__, __LINE__, "matrix product", error.what());
    }
  }

  // Of `rows` rows and `outputs` outputs. Reserves for every thread what the product works in.
  Product& Find(const LinearArgs& args, int32_t rows, int64_t outputs) {
    const Shape shape = {rows,          outputs,      args.in_dim,    args.x_stride,
                         args.y_stride, args.x_dtype, args.accumulate};
    const auto found = products_.find(shape);
    if (found != products_.end()) return found->second;
    try {
      return products_.emplace(shape, Build(args, rows, outputs)).first->second;
    } catch (const dnnl::error& error) {
      CheckFailed(__FILE__, __LINE__, "matrix product", error.what());
    }
  }

  Product Build(const LinearArgs& args, int32_t rows, int64_t outputs) {
    using Memory = dnnl::memory;
    const OneThread setting;
    const auto type =
        args.x_dtype == DType::kBFloat16 ? Memory::data_type::bf16 : Memory::data_type::f32;
    const Memory::dim inputs = args.in_dim;
    const Memory::desc x({rows, inputs}, type, Memory::dims{args.x_stride, 1});
    const Memory::desc weight({inputs, outputs}, type, Memory::dims{1, inputs});
    const Memory::desc y({rows, outputs}, Memory::data_type::f32, Memory::dims{args.y_stride, 1});
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (args.accumulate) {
      dnnl::post_ops add_to_y;
      add_to_y.append_sum(1.0F);
      attributes.set_post_ops(add_to_y);
    }
    const auto description = DescribeProduct(x, weight, y, attributes, engine_);
    const Memory::desc scratchpad = description.scratchpad_desc();
    Product product;
    product.primitive = dnnl::matmul(description);
    for (ThreadScratch& scratch : scratch_) {
      scratch.scratchpad.Reserve(static_cast<int64_t>(scratchpad.get_size()));
      product.memory.push_back({{DNNL_ARG_SRC, Memory(x, engine_, nullptr)},
                                {DNNL_ARG_WEIGHTS, Memory(weight, engine_, nullptr)},
                                {DNNL_ARG_DST, Memory(y, engine_, nullptr)},
                                {DNNL_ARG_SCRATCHPAD, Memory(scratchpad, engine_, nullptr)}});
    }
    return product;
  }

  ThreadPool& pool_;
  const bool has_bfloat16_ = CpuHasBFloat16();
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::map<Shape, Product> products_;
  Scratch rounded_;
  std::vector<ThreadScratch> scratch_;  // by thread
};

LinearCpu::LinearCpu(ThreadPool& pool, bool batch_invariant)
    : pool_(pool), batch_invariant_(batch_invariant), products_(std::make_unique<Products>(pool)) {}

LinearCpu::~LinearCpu() = default;

void LinearCpu::Run(const LinearArgs& args) {
  SLUICE_CHECK(args.x_dtype == DType::kFloat32 && args.y_dtype == DType::kFloat32);
  SLUICE_CHECK(args.weight_dtype != DType::kFloat16);
  SLUICE_CHECK(args.rows >= 0);
  SLUICE_CHECK(args.in_dim > 0 && args.in_dim % 8 == 0);
  SLUICE_CHECK(args.out_dim >= 8 && (args.out_dim % 8 == 0 || !args.accumulate));
  SLUICE_CHECK(args.x_stride >= args.in_dim && args.y_stride >= args.out_dim);
  CheckLinearBatch(args);
  CheckFloat8Weight(args);
  if (args.rows == 0) return;
  for (int32_t product = 0; product < args.batch; ++product) RunOne(ProductOf(args, product));
}

void LinearCpu::RunOne(const LinearArgs& args) {
  const LinearArgs rounded = products_->RoundX(args);
  int32_t row = 0;
  for (const int32_t block : kRowBlocks) {
    const int32_t rows = batch_invariant_ ? 0 : (args.rows - row) / block * block;
    if (rows > 0) products_->RunBlocks(RowsOf(rounded, row, rows), block);
    row += rows;
  }
  while (row < args.rows) {
    const int32_t rows = std::min(args.rows - row, kFewRows);
    LinearFewRowsCpu(RowsOf(rounded, row, rows), pool_);
    row += rows;
  }
}

}  // namespace sluice
