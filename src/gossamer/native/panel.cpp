// Many inputs times a sparse matrix: y = W x for batches.
#include "panel.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "block_driver.h"
#include "isa.h"
#include "lists.h"
#include "panel_rows.h"
#include "parallel.h"

namespace nb = nanobind;

namespace gossamer {

typedef float Four __attribute__((vector_size(16), may_alias));

const PanelKernel* plain_panels() {
  static constexpr PanelKernel kernels[kPanelWidths] = {
      panel_rows<Four, 2, 1>, panel_rows<Four, 4, 1>, panel_rows<Four, 8, 1>,
      panel_rows<Four, 16, 1>};
  return kernels;
}

namespace {

constexpr int64_t kRows = 128;             // lists decoded at a time
constexpr int64_t kDensePart = 24 << 10;   // bytes, see part_of
constexpr int64_t kSparsePart = 48 << 10;

const PanelKernel* panel_kernels() {
#if GOSSAMER_X86
  switch (current_isa()) {
    case Isa::avx512: return avx512_panels();
    case Isa::avx2: return avx2_panels();
    default: break;
  }
#endif
  return plain_panels();
}

// Inputs first to first + count.
struct Panel {
  int64_t first, count;
  int kernel;
  float* data;  // [cols, width]

  int64_t width() const { return int64_t{8} << kernel; }
};

struct Product {
  Matrix w;
  Array x;
  Array bias;  // null data where there is none
  void* y;
  bool y_half;
  int64_t batch;
  std::vector<Panel> panels;
  std::atomic<int64_t> filled{0}, next{0};
  int64_t blocks, shares;  // tasks: blocks of rows times shares of the panels
};

void fill(const Product& p, const Panel& panel) {
  const int64_t cols = p.w.cols, width = panel.width(), from = panel.first * cols;
  if (panel.count < width) std::fill_n(panel.data, cols * width, 0.0f);
  if (!p.x.half) {
    const float* x = static_cast<const float*>(p.x.data) + from;
    block_kernels().turn(x, cols, panel.count, cols, panel.data, width);
    return;
  }
  for (int64_t c = 0; c < cols; ++c) {
    float* out = panel.data + c * width;
    for (int64_t i = 0; i < panel.count; ++i) out[i] = p.x[from + i * cols + c];
  }
}

// Neighbours in y are written one after the other: strides of a large power of two would share a
// few sets of the cache.
void drain(const Product& p, const Panel& panel, int64_t r0, int64_t rows, const float* sums) {
  const int64_t width = panel.width(), from = panel.first * p.w.rows + r0;
  if (!p.y_half) {
    float* y = static_cast<float*>(p.y) + from;
    block_kernels().turn(sums, width, rows, panel.count, y, p.w.rows);
    return;
  }
  uint16_t* y = static_cast<uint16_t*>(p.y) + from;
  for (int64_t i = 0; i < panel.count; ++i) {
    for (int64_t r = 0; r < rows; ++r) y[i * p.w.rows + r] = round_to_half(sums[r * width + i]);
  }
}

void start(const Product& p, int64_t r0, int64_t rows, int64_t width, float* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    std::fill_n(sums + r * width, width, p.bias.data != nullptr ? p.bias[r0 + r] : 0.0f);
  }
}

// Bytes of a panel that are gone through before the next row: few enough for the first-level cache
// where rows find many weights there, else more, for each row then reads and writes its sums.
int64_t part_of(const Matrix& w) {
  const int64_t nnz = w.starts != nullptr ? w.starts[w.rows] : w.rows * w.kept;
  return 4 * nnz >= w.rows * w.cols ? kDensePart : kSparsePart;
}

void multiply_block(const Product& p, int64_t block, int64_t share) {
  static thread_local Scratch column_memory, value_memory, place_memory, sum_memory;
  const int64_t r0 = block * kRows, rows = std::min(kRows, p.w.rows - r0);
  const int64_t most = p.w.starts != nullptr ? p.w.starts[r0 + rows] - p.w.starts[r0]
                                             : rows * p.w.kept;
  int32_t* columns = column_memory.get<int32_t>(most + 1);
  float* values = value_memory.get<float>(most + 1);
  int64_t* places = place_memory.get<int64_t>(2 * kRows + 1);
  int64_t* at = places + kRows + 1;
  float* sums = sum_memory.get<float>(kRows * kWidestPanel);
  places[0] = 0;
  for (int64_t r = 0; r < rows; ++r) {
    places[r + 1] = places[r] + list_of(p.w, r0 + r, columns + places[r], values + places[r]);
  }
  const int64_t count = static_cast<int64_t>(p.panels.size()), part = part_of(p.w);
  for (int64_t i = count * share / p.shares; i < count * (share + 1) / p.shares; ++i) {
    const Panel& panel = p.panels[i];
    const int64_t width = panel.width(), step = std::max<int64_t>(1, part / (4 * width));
    std::copy_n(places, rows, at);
    start(p, r0, rows, width, sums);
    for (int64_t limit = 0; limit < p.w.cols;) {
      limit = std::min(limit + step, p.w.cols);
      panel_kernels()[panel.kernel]({columns, values, at, places + 1, rows},
                                    static_cast<int32_t>(limit), panel.data, sums);
    }
    drain(p, panel, r0, rows, sums);
  }
}

void fill_part(void* context, int64_t) {
  Product& p = *static_cast<Product*>(context);
  const int64_t count = static_cast<int64_t>(p.panels.size());
  for (int64_t i = p.filled++; i < count; i = p.filled++) fill(p, p.panels[i]);
}

void multiply_part(void* context, int64_t) {
  Product& p = *static_cast<Product*>(context);
  for (int64_t i = p.next++; i < p.blocks * p.shares; i = p.next++) {
    multiply_block(p, i / p.shares, i % p.shares);
  }
}

void add_panels(Product& p) {
  for (int64_t first = 0; first < p.batch; first += kWidestPanel) {
    const int64_t count = std::min(kWidestPanel, p.batch - first);
    int kernel = 0;
    while ((int64_t{8} << kernel) < count) ++kernel;
    p.panels.push_back({first, count, kernel, nullptr});
  }
}

void run(Product& p, int64_t threads) {
  static thread_local Scratch memory;
  int64_t floats = 0;
  add_panels(p);
  for (const Panel& panel : p.panels) floats += panel.width() * p.w.cols;
  float* data = memory.get<float>(floats);
  for (Panel& panel : p.panels) {
    panel.data = data;
    data += panel.width() * p.w.cols;
  }
  const int64_t count = static_cast<int64_t>(p.panels.size());
  p.blocks = (p.w.rows + kRows - 1) / kRows;
  // A block of rows is decoded anew for every share, so there are no more than threads can use.
  p.shares = threads == 1 ? 1 : std::clamp<int64_t>(4 * threads / p.blocks, 1, count);
  parallel(std::min(threads, count), fill_part, &p);
  parallel(std::min(threads, p.blocks * p.shares), multiply_part, &p);
}

const void* pointer(uintptr_t address) { return reinterpret_cast<const void*>(address); }

}  // namespace

void bind_panel(nb::module_& m) {
  m.def("panel_linear", [](int layout, Shape shape, Parts parts, bool half, bool wide, uintptr_t x,
                           bool x_half, int64_t batch, uintptr_t bias, bool bias_half, uintptr_t y,
                           bool y_half, int64_t threads) {
    nb::gil_scoped_release unlocked;
    Product p{matrix(layout, shape, parts, half, wide), {pointer(x), x_half},
              {pointer(bias), bias_half}, reinterpret_cast<void*>(y), y_half, batch};
    run(p, threads);
  });
}

}  // namespace gossamer
