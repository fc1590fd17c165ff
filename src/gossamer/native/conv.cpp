// Convolutions of images with a packed weight, strip by strip.
#include "conv.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>

#include "conv_rows.h"
#include "driver.h"
#include "isa.h"
#include "lists.h"
#include "parallel.h"
#include "window.h"

namespace nb = nanobind;

namespace gossamer {

const StripKernels& plain_strips() {
  static const StripKernels kernels = strip_kernels<16>();
  return kernels;
}

const StripKernels& current_strips() {
#if GOSSAMER_X86
  switch (current_isa()) {
    case Isa::avx512: return avx512_strips();
    case Isa::avx2: return avx2_strips();
    default: break;
  }
#endif
  return plain_strips();
}

namespace {

struct Convolution {
  WeightLists w;
  bool wide;
  int64_t groups, cols;
  const float* x;
  float* y;
  int64_t images, area;    // pixels of an output map
  Window window;
  const StripKernels* kernels;
  int sharing;
  bool copied;             // strips of x are copied before they are read
  int64_t strips, shares;  // of an image; of the groups
  std::atomic<int64_t> next{0};
};

// Where one strip lies in its map.
struct Span {
  int64_t first, count, vectors;
};

Span span_of(const Convolution& c, int64_t strip) {
  const int64_t lanes = c.kernels->lanes, all = (c.area + lanes - 1) / lanes;
  const int64_t from = all * strip / c.strips, to = all * (strip + 1) / c.strips;
  const int64_t first = from * lanes;
  return {first, std::min(to * lanes, c.area) - first, to - from};
}

// So many pixels of a row from `first` on, a step apart; zeros outside of it, and for no row.
void fill_row(const Window& v, const float* x, int64_t first, int64_t count, float* out) {
  const int64_t step = v.step_along;
  const int64_t before = x == nullptr ? count : first < 0 ? (step - 1 - first) / step : 0;
  const int64_t from = std::min(before, count);
  const int64_t room = v.width - first;  // places up to the row's end
  const int64_t to = std::clamp<int64_t>(room > 0 ? (room + step - 1) / step : 0, from, count);
  std::fill_n(out, from, 0.0f);
  if (step == 1) {
    if (to > from) std::copy_n(x + first + from, to - from, out + from);
  } else {
    for (int64_t i = from; i < to; ++i) out[i] = x[first + i * step];
  }
  std::fill_n(out + to, count - to, 0.0f);
}

// One channel at one place of the kernel, for the outputs of a strip.
void fill_column(const Convolution& c, int64_t image, const Span& span, int64_t column, float* out) {
  const Window& v = c.window;
  const int64_t places = v.down * v.along, channel = column / places, place = column % places;
  const float* x = c.x + (image * (c.cols / places) + channel) * v.height * v.width;
  if (v.is_point()) {
    std::copy_n(x + span.first, span.count, out);
    return;
  }
  const int64_t top = place / v.along * v.gap_down - v.pad_down;
  const int64_t left = place % v.along * v.gap_along - v.pad_along;
  int64_t row = span.first / v.out_width, across = span.first % v.out_width;
  for (int64_t i = 0; i < span.count; ++row, across = 0) {
    const int64_t count = std::min(v.out_width - across, span.count - i);
    const int64_t r = row * v.step_down + top;
    const bool inside = r >= 0 && r < v.height;
    fill_row(v, inside ? x + r * v.width : nullptr, across * v.step_along + left, count, out + i);
    i += count;
  }
}

Strip copy_strip(const Convolution& c, int64_t image, const Span& span, float* memory) {
  const int64_t width = span.vectors * c.kernels->lanes;
  for (int64_t column = 0; column < c.cols; ++column) {
    float* out = memory + column * width;
    fill_column(c, image, span, column, out);
    std::fill(out + span.count, out + width, 0.0f);
  }
  return {memory, width, c.cols, nullptr, 0, 0, nullptr};
}

void run_strip(const Convolution& c, int64_t image, int64_t strip, int64_t g0, int64_t g1) {
  static thread_local Scratch input_memory, output_memory;
  const int64_t lanes = c.kernels->lanes;
  const Span span = span_of(c, strip);
  const auto& kernels = c.wide ? c.kernels->wide : c.kernels->narrow;
  const StripKernel kernel = kernels[c.sharing][span.vectors - 1];
  Strip given{c.x + image * c.cols * c.area + span.first, c.area, c.cols, nullptr, 0, 0, nullptr};
  if (c.copied) {
    float* memory = input_memory.get<float>(c.cols * span.vectors * lanes);
    given = copy_strip(c, image, span, memory);
  } else if (strip + 1 < c.strips) {
    given.next = given.x + span.count;
  }
  given.y = c.y + image * c.w.rows * c.area + span.first;
  given.apart = c.area;
  given.last = span.count - lanes;
  if (span.count >= lanes) {
    kernel(c.w, g0, g1, given);
    return;
  }
  // A map of fewer pixels than a vector has lanes: the whole vectors go elsewhere first.
  float* y = given.y;
  given.y = output_memory.get<float>(c.w.rows * lanes);
  given.apart = lanes;
  given.last = 0;
  kernel(c.w, g0, g1, given);
  const int64_t end = std::min(g1 * c.w.group, c.w.rows);
  for (int64_t r = g0 * c.w.group; r < end; ++r) {
    std::copy_n(given.y + r * lanes, span.count, y + r * c.area);
  }
}

void run_part(void* context, int64_t) {
  Convolution& c = *static_cast<Convolution*>(context);
  const int64_t tasks = c.images * c.strips * c.shares;
  for (int64_t i = c.next++; i < tasks; i = c.next++) {
    const int64_t share = i % c.shares, strip = i / c.shares % c.strips;
    run_strip(c, i / c.shares / c.strips, strip, c.groups * share / c.shares,
              c.groups * (share + 1) / c.shares);
  }
}

const void* pointer(uintptr_t address) { return reinterpret_cast<const void*>(address); }

// Kept weights as lists: in place where they are stored so, else decoded.
void list_weights(const Matrix& w, Convolution& c) {
  static thread_local Scratch start_memory, column_memory, value_memory;
  int64_t* starts = start_memory.get<int64_t>(w.rows + 1);
  starts[0] = 0;
  for (int64_t r = 0; r < w.rows; ++r) {
    starts[r + 1] = w.starts != nullptr ? w.starts[r + 1] : (r + 1) * w.kept;
  }
  c.w.starts = starts;
  if ((w.layout == Layout::csr || w.layout == Layout::condensed) && !w.half) {
    c.wide = w.wide;
    c.w.columns = w.index;
    c.w.values = static_cast<const float*>(w.values);
    return;
  }
  int32_t* columns = column_memory.get<int32_t>(starts[w.rows] + 1);
  float* values = value_memory.get<float>(starts[w.rows] + 1);
  for (int64_t r = 0; r < w.rows; ++r) {
    list_of(w, r, columns + starts[r], values + starts[r]);
  }
  c.wide = true;
  c.w.columns = columns;
  c.w.values = values;
}

void run(const Matrix& w, Convolution& c, int64_t threads) {
  list_weights(w, c);
  c.kernels = &current_strips();
  c.sharing = c.w.group % 4 == 0 ? 2 : c.w.group % 2 == 0 ? 1 : 0;
  const int64_t lanes = c.kernels->lanes, vectors = (c.area + lanes - 1) / lanes;
  c.strips = (vectors + kMost[c.sharing] - 1) / kMost[c.sharing];
  c.copied = !c.window.is_point() || c.area < lanes;  // reading in place needs a whole vector
  const int64_t tasks = c.images * c.strips;
  c.shares = threads == 1 ? 1 : std::clamp<int64_t>(4 * threads / tasks, 1, c.groups);
  parallel(std::min(threads, tasks * c.shares), run_part, &c);
}

}  // namespace

void bind_conv(nb::module_& m) {
  // window: height and width of the image, rows and columns of the kernel, step, pad and gap of
  // both, height and width of what comes out. Where rows share columns, the matrix is one of groups.
  m.def("conv2d", [](int layout, Shape shape, Parts parts, bool half, bool wide, uintptr_t x,
                     std::pair<int64_t, int64_t> groups, int64_t images,
                     std::array<int64_t, 12> window, std::pair<float, float> bounds,
                     uintptr_t bias, uintptr_t y, int64_t threads) {
    nb::gil_scoped_release unlocked;
    const auto [height, width, down, along, sd, sa, pd, pa, gd, ga, out_height, out_width] = window;
    const Matrix w = matrix(layout, shape, parts, half, wide);
    Convolution c{{nullptr, nullptr, nullptr, static_cast<const float*>(pointer(bias)),
                   groups.first, groups.second, bounds.first, bounds.second},
                  false, w.rows, w.cols, static_cast<const float*>(pointer(x)),
                  reinterpret_cast<float*>(y), images, out_height * out_width,
                  {height, width, down, along, sd, sa, pd, pa, gd, ga, out_width},
                  nullptr, 0, false, 0, 0};
    run(w, c, threads);
  });
}

}  // namespace gossamer
