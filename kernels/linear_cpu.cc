#include "kernels/linear_cpu.h"

#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <dnnl.hpp>
#include <map>
#include <tuple>
#include <unordered_map>

#include "kernels/bfloat16_cpu.h"
#include "kernels/check.h"
#include "kernels/parallel.h"

namespace sluice {
namespace {

// Rows that a product may have, so that few shapes serve any batch.
constexpr int32_t kRowBlocks[] = {512, 256, 128, 64, 32, 16};
// A weight is widened in pieces that stay in the cache.
constexpr int64_t kWidenedBytes = int64_t{4} << 20;

// Memory that only grows.
class Scratch {
 public:
  void* AtLeast(int64_t bytes) {
    if (bytes > bytes_) {
      bytes_ = (bytes + 4095) / 4096 * 4096;
      data_.reset(std::aligned_alloc(4096, bytes_));
      SLUICE_CHECK(data_ != nullptr);
    }
    return data_.get();
  }

 private:
  struct Release {
    void operator()(void* data) const { std::free(data); }
  };
  std::unique_ptr<void, Release> data_;
  int64_t bytes_ = 0;
};

// oneDNN takes its number of threads from the calling thread's OpenMP setting.
class ThreadSetting {
 public:
  explicit ThreadSetting(int32_t threads) : before_(omp_get_max_threads()) {
    if (threads != before_) omp_set_num_threads(threads);
  }
  ThreadSetting(const ThreadSetting&) = delete;
  ThreadSetting& operator=(const ThreadSetting&) = delete;
  ~ThreadSetting() {
    if (omp_get_max_threads() != before_) omp_set_num_threads(before_);
  }

 private:
  const int32_t before_;
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
  part.x = static_cast<const float*>(args.x) + first * args.x_stride;
  part.y = static_cast<float*>(args.y) + first * args.y_stride;
  return part;
}

}  // namespace

bool CpuHasBFloat16() {
  // A wider instruction set has all the bits of a narrower one.
  const auto has = static_cast<uint32_t>(dnnl::get_effective_cpu_isa());
  const auto needed = static_cast<uint32_t>(dnnl::cpu_isa::avx512_core_bf16);
  return (has & needed) == needed;
}

// The primitives, one a shape, and the memory they work in.
class LinearCpu::Products {
 public:
  explicit Products(int32_t threads) : threads_(threads) {}

  // A product whose number of rows is one of kRowBlocks, operands as the processor takes them: a
  // bfloat16 weight is multiplied as such.
  void RunBlock(const LinearArgs& args) {
    const void* x = args.x;
    int64_t x_stride = args.x_stride;
    if (args.weight_dtype == DType::kBFloat16) {
      x = RoundRows(args);
      x_stride = args.in_dim;
    }
    try {
      Product& product = Find(args, x_stride);
      // The library wants pointers to what it may change; it changes y and the scratch memory.
      product.memory.at(DNNL_ARG_SRC).set_data_handle(const_cast<void*>(x));
      product.memory.at(DNNL_ARG_WEIGHTS).set_data_handle(const_cast<void*>(args.weight));
      product.memory.at(DNNL_ARG_DST).set_data_handle(args.y);
      product.memory.at(DNNL_ARG_SCRATCHPAD)
          .set_data_handle(scratchpad_.AtLeast(product.scratchpad_bytes));
      product.primitive.execute(stream_, product.memory);
      stream_.wait();
    } catch (const dnnl::error& error) {
      CheckFailed(__FILE__, __LINE__, "matrix product", error.what());
    }
  }

  // `count` outputs of a bfloat16 weight from `output` on, as float32.
  const float* Widen(const LinearArgs& args, int64_t output, int64_t count) {
    const int64_t in_dim = args.in_dim;
    const uint16_t* from = static_cast<const uint16_t*>(args.weight) + output * in_dim;
    float* to = static_cast<float*>(widened_.AtLeast(count * in_dim * 4));
    ParallelRanges(threads_, count, kElementGrain / in_dim, [&](int64_t begin, int64_t end) {
      WidenBFloat16(from + begin * in_dim, (end - begin) * in_dim, to + begin * in_dim);
    });
    return to;
  }

 private:
  // Rows, outputs, inputs, strides of x and y, bfloat16 or not, accumulated or not.
  using Shape = std::tuple<int32_t, int32_t, int32_t, int64_t, int64_t, bool, bool>;
  struct Product {
    dnnl::matmul primitive;
    std::unordered_map<int, dnnl::memory> memory;
    int64_t scratchpad_bytes = 0;
  };

  const void* RoundRows(const LinearArgs& args) {
    const int64_t in_dim = args.in_dim;
    const float* x = static_cast<const float*>(args.x);
    uint16_t* to = static_cast<uint16_t*>(rounded_.AtLeast(args.rows * in_dim * 2));
    ParallelRanges(threads_, args.rows, kElementGrain / in_dim, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        RoundToBFloat16(x + row * args.x_stride, in_dim, to + row * in_dim);
      }
    });
    return to;
  }

  Product& Find(const LinearArgs& args, int64_t x_stride) {
    const bool is_bfloat16 = args.weight_dtype == DType::kBFloat16;
    const Shape shape = {args.rows,     args.out_dim, args.in_dim,    x_stride,
                         args.y_stride, is_bfloat16,  args.accumulate};
    const auto found = products_.find(shape);
    if (found != products_.end()) return found->second;
    if (products_.size() >= kMaxProducts) products_.clear();
    return products_.emplace(shape, Build(args, x_stride)).first->second;
  }

  Product Build(const LinearArgs& args, int64_t x_stride) {
    using Memory = dnnl::memory;
    const auto type =
        args.weight_dtype == DType::kBFloat16 ? Memory::data_type::bf16 : Memory::data_type::f32;
    const Memory::dim rows = args.rows;
    const Memory::dim outputs = args.out_dim;
    const Memory::dim inputs = args.in_dim;
    const Memory::desc x({rows, inputs}, type, Memory::dims{x_stride, 1});
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
    product.scratchpad_bytes = static_cast<int64_t>(scratchpad.get_size());
    product.memory = {{DNNL_ARG_SRC, Memory(x, engine_, nullptr)},
                      {DNNL_ARG_WEIGHTS, Memory(weight, engine_, nullptr)},
                      {DNNL_ARG_DST, Memory(y, engine_, nullptr)},
                      {DNNL_ARG_SCRATCHPAD, Memory(scratchpad, engine_, nullptr)}};
    return product;
  }

  const int32_t threads_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Shape, Product> products_;
  Scratch rounded_;
  Scratch widened_;
  Scratch scratchpad_;
};

LinearCpu::LinearCpu(int32_t threads)
    : threads_(threads), products_(std::make_unique<Products>(threads)) {}

LinearCpu::~LinearCpu() = default;

void LinearCpu::Run(const LinearArgs& args) {
  SLUICE_CHECK(args.x_dtype == DType::kFloat32 && args.y_dtype == DType::kFloat32);
  SLUICE_CHECK(args.weight_dtype != DType::kFloat16);
  SLUICE_CHECK(args.rows >= 0);
  SLUICE_CHECK(args.in_dim > 0 && args.in_dim % 8 == 0);
  SLUICE_CHECK(args.out_dim > 0 && args.out_dim % 8 == 0);
  SLUICE_CHECK(args.x_stride >= args.in_dim && args.y_stride >= args.out_dim);
  if (args.rows <= kFewRows) return LinearFewRowsCpu(args, threads_);

  const ThreadSetting setting(threads_);
  static const bool has_bfloat16 = CpuHasBFloat16();
  const bool widens = args.weight_dtype == DType::kBFloat16 && !has_bfloat16;
  const int64_t piece =
      widens ? std::max<int64_t>(kWidenedBytes / (int64_t{args.in_dim} * 4) / 8 * 8, 8)
             : args.out_dim;
  for (int64_t output = 0; output < args.out_dim; output += piece) {
    LinearArgs outputs = args;
    outputs.out_dim = static_cast<int32_t>(std::min<int64_t>(piece, args.out_dim - output));
    outputs.y = static_cast<float*>(args.y) + output;
    if (widens) {
      outputs.weight = products_->Widen(args, output, outputs.out_dim);
      outputs.weight_dtype = DType::kFloat32;
    }
    int32_t row = 0;
    for (const int32_t block : kRowBlocks) {
      for (; args.rows - row >= block; row += block) {
        products_->RunBlock(RowsOf(outputs, row, block));
      }
    }
    if (row < args.rows) LinearFewRowsCpu(RowsOf(outputs, row, args.rows - row), threads_);
  }
}

}  // namespace sluice
