// The driver of y = W x with packed W: brings x into the order that the kernels want, shares the
// rows among threads, adds the bias and rounds the result.
#include "linear.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include "driver.h"
#include "isa.h"
#include "parallel.h"

namespace nb = nanobind;

namespace gossamer {

namespace {

constexpr int64_t kPanelBytes = 256 << 10;  // expanded rows that stay in the second-level cache
constexpr int64_t kDepth = 1024;            // columns of a panel that stay in the first
constexpr int64_t kWorth = 128 << 10;       // bytes below which another thread does not pay

struct Call {
  Matrix w;
  Array x;
  int64_t batch;
  Array bias;
  void* y;
  bool y_half;
  int64_t threads;
};

}  // namespace

const Kernels& kernels() {
#if GOSSAMER_X86
  switch (current_isa()) {
    case Isa::avx512: return avx512_kernels();
    case Isa::avx2: return avx2_kernels();
    default: break;
  }
#endif
  return plain_kernels();
}

namespace {

// Bytes of the rows before this one, the measure by which rows are shared out.
int64_t bytes_before(const Matrix& w, int64_t row) {
  const int64_t values = first_value(w, row);
  int64_t bytes = w.grid.bits == 4 ? values / 2 : values * value_bytes(w);
  if (w.layout == Layout::csr || w.layout == Layout::condensed) bytes += values * (w.wide ? 4 : 2);
  if (w.layout == Layout::bitmask) bytes += row * row_bytes(w);
  return bytes + row;
}

}  // namespace

int64_t split_row(const Matrix& w, int64_t part, int64_t parts) {
  const int64_t wanted = bytes_before(w, w.rows) / parts * part;
  int64_t low = 0, high = w.rows;
  if (part == parts) return w.rows;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (bytes_before(w, middle) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

void arrange(const Array& x, int64_t from, int64_t cols, int lanes, float* out) {
  const int64_t run = 2 * lanes, whole = lanes == 0 ? cols : cols / run * run;
  if (lanes == 0 && !x.half) {
    std::copy_n(static_cast<const float*>(x.data) + from, cols, out);
  } else if (lanes == 0) {
    for (int64_t c = 0; c < cols; ++c) out[c] = x[from + c];
  }
  for (int64_t c = 0; lanes != 0 && c < whole; c += run) {
    for (int i = 0; i < lanes; ++i) {
      out[c + i] = x[from + c + 2 * i];
      out[c + lanes + i] = x[from + c + 2 * i + 1];
    }
  }
  std::memset(out + whole, 0, (padded(cols) - whole) * sizeof(float));
  for (int64_t c = whole; c < cols; ++c) out[whole + (c % 2) * lanes + (c - whole) / 2] = x[from + c];
}

namespace {

Input input_of(const Call& call, const Kernels& k, float* buffer) {
  const int64_t cols = call.w.cols;
  const Order order = k.order(call.w);
  if (order == Order::split) {
    arrange(call.x, 0, cols, k.lanes, buffer);
    return {nullptr, buffer, {}};
  }
  Digits digits{};
  if (order == Order::digits && arrange_digits(call.x, call.w, buffer, &digits)) {
    return {nullptr, nullptr, digits};
  }
  const bool aligned = reinterpret_cast<uintptr_t>(call.x.data) % kCacheLine == 0;
  if (!call.x.half && aligned && cols % kPad == 0) {
    return {static_cast<const float*>(call.x.data), nullptr, {}};
  }
  arrange(call.x, 0, cols, 0, buffer);
  return {buffer, nullptr, {}};
}

// Adds the bias to columns [r0, r1) of the sums, and rounds them where y is bfloat16.
void finish(const Call& call, const float* sums, int64_t r0, int64_t r1) {
  const int64_t rows = call.w.rows;
  if (!call.y_half && call.bias.data == nullptr) return;
  for (int64_t b = 0; b < call.batch; ++b) {
    for (int64_t r = r0; r < r1; ++r) {
      float value = sums[b * rows + r];
      if (call.bias.data != nullptr) value += call.bias[r];
      if (call.y_half) static_cast<uint16_t*>(call.y)[b * rows + r] = round_to_half(value);
      else static_cast<float*>(call.y)[b * rows + r] = value;
    }
  }
}

// Several inputs: rows are expanded a panel at a time and multiplied from the cache.
void multiply_panels(const Call& call, const Kernels& k, const float* x, float* sums, int64_t r0,
                     int64_t r1) {
  static thread_local Scratch panel_memory;
  const int64_t width = padded(call.w.cols), rows = call.w.rows;
  const int64_t height = std::clamp<int64_t>(kPanelBytes / (4 * width + 1) / 4 * 4, 4, 16);
  float* panel = panel_memory.get<float>(height * width + k.scratch(call.w) / 4 + 16);
  char* scratch = reinterpret_cast<char*>(panel + height * width);
  for (int64_t r = r0; r < r1; r += height) {
    const int64_t count = std::min(height, r1 - r);
    for (int64_t i = 0; i < count; ++i) k.expand(call.w, r + i, panel + i * width, scratch);
    for (int64_t b = 0; b < call.batch; ++b) std::fill_n(sums + b * rows + r, count, 0.0f);
    for (int64_t c = 0; c < width; c += kDepth) {
      k.product(panel + c, width, count, x + c, width, call.batch, std::min(kDepth, width - c),
                sums + r, rows);
    }
  }
}

struct Shared {
  const Call* call;
  const Kernels* kernels;
  Input input;     // one input
  const float* x;  // several: [batch, padded cols]
  float* sums;     // [batch, rows]
  int64_t parts;
};

void multiply_part(void* context, int64_t part) {
  static thread_local Scratch scratch;
  const Shared& all = *static_cast<const Shared*>(context);
  const Call& call = *all.call;
  const int64_t r0 = split_row(call.w, part, all.parts);
  const int64_t r1 = split_row(call.w, part + 1, all.parts);
  if (call.batch == 1) {
    char* memory = scratch.get<char>(all.kernels->scratch(call.w));
    all.kernels->gemv(call.w, all.input, r0, r1, all.sums, memory);
  } else {
    multiply_panels(call, *all.kernels, all.x, all.sums, r0, r1);
  }
  finish(call, all.sums, r0, r1);
}

int64_t parts_of(const Matrix& w, int64_t batch, int64_t threads) {
  const int64_t work = bytes_before(w, w.rows) * batch;
  return std::max<int64_t>(1, std::min(threads, work / kWorth));
}

void multiply(const Call& call) {
  static thread_local Scratch input_memory, sum_memory;
  const Kernels& k = kernels();
  const int64_t width = padded(call.w.cols);
  float* buffer = input_memory.get<float>(std::max(call.batch * width, digit_floats(call.w.cols)));
  Shared all{&call, &k, {}, buffer, nullptr, parts_of(call.w, call.batch, call.threads)};
  if (call.batch == 1) {
    all.input = input_of(call, k, buffer);
  } else {
    for (int64_t b = 0; b < call.batch; ++b) {
      arrange(call.x, b * call.w.cols, call.w.cols, 0, buffer + b * width);
    }
  }
  all.sums = call.y_half ? sum_memory.get<float>(call.batch * call.w.rows)
                         : static_cast<float*>(call.y);
  parallel(all.parts, multiply_part, &all);
}

struct Expansion {
  Matrix w;
  int64_t first, count;  // rows
  void* out;
  bool half;
  int64_t parts;
};

void expand_part(void* context, int64_t part) {
  static thread_local Scratch memory;
  const Expansion& job = *static_cast<const Expansion*>(context);
  const Kernels& k = kernels();
  const int64_t cols = job.w.cols, width = padded(cols);
  float* row = memory.get<float>(width + k.scratch(job.w) / 4 + 16);
  const int64_t r1 = job.count * (part + 1) / job.parts;
  for (int64_t r = job.count * part / job.parts; r < r1; ++r) {
    k.expand(job.w, job.first + r, row, reinterpret_cast<char*>(row + width));
    if (!job.half) {
      std::memcpy(static_cast<float*>(job.out) + r * cols, row, cols * sizeof(float));
      continue;
    }
    uint16_t* out = static_cast<uint16_t*>(job.out) + r * cols;
    for (int64_t c = 0; c < cols; ++c) {
      uint32_t bits;
      std::memcpy(&bits, row + c, 4);
      out[c] = static_cast<uint16_t>(bits >> 16);  // exact: the values are bfloat16
    }
  }
}

struct Reading {
  const char* bytes;
  int64_t count, parts;
  uint64_t seen[256];
};

void read_part(void* context, int64_t part) {
  Reading& job = *static_cast<Reading*>(context);
  const int64_t begin = job.count / job.parts * part;
  const int64_t end = part + 1 == job.parts ? job.count : job.count / job.parts * (part + 1);
  job.seen[part] = kernels().read(job.bytes + begin, end - begin);
}

// The chunk table of N:M, made once; without masks where no chunk of 8 or 12 bits fits.
Places places_of(int64_t n, int64_t m) {
  static std::mutex lock;
  static std::map<std::pair<int64_t, int64_t>, std::vector<uint32_t>> tables;
  const int width = m > 1 ? place_bits(m) : 0;
  const int64_t group = n * width;
  for (int bits : {8, 12}) {
    if (group == 0 || bits % group != 0) continue;
    const int64_t columns = bits / group * m;
    if (columns > 32 || columns % 8 != 0) continue;
    const std::lock_guard<std::mutex> held(lock);
    std::vector<uint32_t>& masks = tables[{n, m}];
    if (masks.empty()) {
      masks.resize(size_t{1} << bits);
      for (uint32_t chunk = 0; chunk < masks.size(); ++chunk) {
        for (int64_t i = 0; i * width < bits; ++i) {
          const uint32_t place = chunk >> (i * width) & ((1u << width) - 1);
          const int64_t column = i / n * m + place;
          if (column < 32) masks[chunk] |= 1u << column;
        }
      }
    }
    return {masks.data(), bits, static_cast<int>(columns)};
  }
  return {nullptr, 0, 0};
}

const void* pointer(uintptr_t address) { return reinterpret_cast<const void*>(address); }

}  // namespace

Matrix matrix(int layout, const Shape& shape, const Parts& parts, bool half, bool wide) {
  const auto [rows, cols, kept, nnz, n, m] = shape;
  const auto [values, index, starts] = parts;
  return {static_cast<Layout>(layout), rows, cols, pointer(values), half, pointer(index), wide,
          static_cast<const int64_t*>(pointer(starts)), kept, nnz, n, m,
          n > 0 ? places_of(n, m) : Places{}, {}};
}

namespace {

// addresses of scales and zeros, runs a row, bits of a code
using GridArguments = std::tuple<uintptr_t, uintptr_t, int64_t, int>;

Matrix on_grid(Matrix w, const GridArguments& arguments) {
  const auto [scales, zeros, runs, bits] = arguments;
  w.grid = {bits, static_cast<const float*>(pointer(scales)),
            static_cast<const uint8_t*>(pointer(zeros)), runs};
  return w;
}

void expand_rows(const Matrix& w, int64_t first, int64_t count, uintptr_t out, bool half,
                 int64_t threads) {
  Expansion job{w, first, count, reinterpret_cast<void*>(out), half, 1};
  job.parts = std::clamp<int64_t>(count * w.cols * 4 / kWorth, 1, threads);
  parallel(job.parts, expand_part, &job);
}

}  // namespace

void bind_linear(nb::module_& m) {
  m.def("linear", [](int layout, Shape shape, Parts parts, bool half, bool wide, uintptr_t x,
                     bool x_half, int64_t batch, uintptr_t bias, bool bias_half, uintptr_t y,
                     bool y_half, int64_t threads) {
    nb::gil_scoped_release unlocked;
    multiply({matrix(layout, shape, parts, half, wide), {pointer(x), x_half}, batch,
              {pointer(bias), bias_half}, reinterpret_cast<void*>(y), y_half, threads});
  });
  m.def("expand", [](int layout, Shape shape, Parts parts, bool half, bool wide, int64_t first,
                     int64_t count, uintptr_t out, bool out_half, int64_t threads) {
    nb::gil_scoped_release unlocked;
    expand_rows(matrix(layout, shape, parts, half, wide), first, count, out, out_half, threads);
  });
  m.def("grid_linear", [](int layout, Shape shape, Parts parts, GridArguments grid, uintptr_t x,
                          bool x_half, int64_t batch, uintptr_t bias, bool bias_half, uintptr_t y,
                          int64_t threads) {
    nb::gil_scoped_release unlocked;
    multiply({on_grid(matrix(layout, shape, parts, false, false), grid), {pointer(x), x_half},
              batch, {pointer(bias), bias_half}, reinterpret_cast<void*>(y), x_half, threads});
  });
  m.def("grid_expand", [](int layout, Shape shape, Parts parts, GridArguments grid, int64_t first,
                          int64_t count, uintptr_t out, int64_t threads) {
    nb::gil_scoped_release unlocked;
    expand_rows(on_grid(matrix(layout, shape, parts, false, false), grid), first, count, out, false,
                threads);
  });
  m.def("read", [](uintptr_t bytes, int64_t count, int64_t threads) {
    nb::gil_scoped_release unlocked;
    Reading job{static_cast<const char*>(pointer(bytes)), count, std::min<int64_t>(threads, 256),
                {}};
    parallel(job.parts, read_part, &job);
    uint64_t all = 0;
    for (int64_t i = 0; i < job.parts; ++i) all |= job.seen[i];
    return all;
  });
}

}  // namespace gossamer
