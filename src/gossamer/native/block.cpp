// The driver of y = W x where rows of W share their columns: blocks and channel groups.
#include "block.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "block_driver.h"
#include "block_rows.h"
#include "block_strip.h"
#include "isa.h"
#include "parallel.h"

namespace nb = nanobind;

namespace gossamer {

typedef float Four __attribute__((vector_size(16), may_alias));

static void turn_plain(const float* sums, int64_t width, int64_t rows, int64_t inputs, float* y,
                       int64_t rows_of_y) {
  turn_some(sums, width, rows, 0, inputs, y, rows_of_y);
}

static void lay_plain(const void* values, bool half, int64_t width, float* out, int64_t lanes) {
  lay_rest(values, half, 0, width, out, lanes);
}

const BlockKernels& plain_blocks() {
  static constexpr BlockKernels kernels = {
      16,
      {add_tile<Four, 8, 2, 4>, add_tile<Four, 16, 2, 4>, add_tile<Four, 32, 2, 4>,
       add_tile<Four, 64, 2, 4>},
      turn_plain,
      {add_strip<Four, 2, 6>, add_strip<Four, 4, 3>},
      lay_plain};
  return kernels;
}

const BlockKernels& block_kernels() {
#if GOSSAMER_X86
  switch (current_isa()) {
    case Isa::avx512: return avx512_blocks();
    case Isa::avx2: return avx2_blocks();
    default: break;
  }
#endif
  return plain_blocks();
}

namespace {

struct Shared {
  void (*part)(void* context, int64_t number);
  void* context;
  int64_t count, parts;
};

void share(void* context, int64_t part) {
  const Shared& all = *static_cast<const Shared*>(context);
  for (int64_t i = all.count * part / all.parts; i < all.count * (part + 1) / all.parts; ++i) {
    all.part(all.context, i);
  }
}

}  // namespace

void for_each(int64_t count, int64_t threads, void* context, void (*part)(void*, int64_t)) {
  Shared all{part, context, count, std::max<int64_t>(1, std::min(count, threads))};
  parallel(all.parts, share, &all);
}

namespace {

constexpr int64_t kWidest = 64;      // inputs of a panel
constexpr int64_t kTogether = 512;   // inputs brought into panels before the rows are walked
constexpr int64_t kTurned = 16;      // inputs and columns that are turned at a time

struct Run {
  Blocks w;
  Array x, bias;
  int64_t batch;
  void* y;
  bool y_half;
  int64_t first;            // input that the panels begin with
  int64_t inputs;           // in the panels
  float* panels;
  int64_t widest;           // inputs of a panel
};

int kernel_of(int64_t inputs) {
  int kernel = 0;
  while (kernel < 3 && (int64_t{8} << kernel) < inputs) ++kernel;
  return kernel;
}

// Places of one panel among the inputs, and of its memory.
struct Panel {
  int64_t first, count, width;
  int kernel;
  float* data;
};

Panel panel_of(const Run& run, int64_t number) {
  const int64_t before = number * run.widest;
  const int64_t count = std::min(run.widest, run.inputs - before);
  const int kernel = kernel_of(count);
  return {run.first + before, count, int64_t{8} << kernel, kernel,
          run.panels + before * run.w.cols};
}

// Columns of x become rows of the panel, some of each at a time so that both stay in the cache.
template <typename Value>
void fill_from(const Run& run, const Panel& p, Value value) {
  const int64_t cols = run.w.cols;
  for (int64_t c0 = 0; c0 < cols; c0 += kTurned) {
    const int64_t c1 = std::min(c0 + kTurned, cols);
    for (int64_t i = 0; i < p.count; ++i) {
      const int64_t from = (p.first + i) * cols;
      for (int64_t c = c0; c < c1; ++c) p.data[c * p.width + i] = value(from + c);
    }
    if (p.count == p.width) continue;
    for (int64_t c = c0; c < c1; ++c) {
      std::fill(p.data + c * p.width + p.count, p.data + (c + 1) * p.width, 0.0f);
    }
  }
}

void fill_panel(void* context, int64_t number) {
  const Run& run = *static_cast<const Run*>(context);
  const float* whole = static_cast<const float*>(run.x.data);
  const uint16_t* half = static_cast<const uint16_t*>(run.x.data);
  const Panel p = panel_of(run, number);
  if (run.x.half) fill_from(run, p, [half](int64_t i) { return as_float(half[i]); });
  else fill_from(run, p, [whole](int64_t i) { return whole[i]; });
}

// Values from a place on as floats: where they lie, or converted in the memory given.
const float* floats(const Blocks& w, int64_t from, int64_t count, Scratch& memory) {
  if (!w.half) return static_cast<const float*>(w.values) + from;
  float* out = memory.get<float>(count + 1);
  const uint16_t* given = static_cast<const uint16_t*>(w.values) + from;
  for (int64_t i = 0; i < count; ++i) out[i] = as_float(given[i]);
  return out;
}

struct Memory {
  Scratch values, columns, turned, sums;
};

// A call for every few floats would take longer than their copy.
void copy_floats(const float* from, int64_t count, float* to) {
  for (; count >= 16; count -= 16, from += 16, to += 16) std::memcpy(to, from, 64);
  for (; count >= 4; count -= 4, from += 4, to += 4) std::memcpy(to, from, 16);
  for (; count > 0; --count) *to++ = *from++;
}

Tile bsr_tile(const Blocks& w, int64_t unit, Memory& memory) {
  const int64_t first = w.starts[unit], blocks = w.starts[unit + 1] - first;
  const int64_t size = w.height * w.width, count = blocks * w.width;
  const float* values = floats(w, first * size, blocks * size, memory.values);
  float* rows = memory.turned.get<float>(w.height * count + 1);
  int32_t* columns = memory.columns.get<int32_t>(count + 1);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t column = column_of(w, first + b) * w.width;
    for (int64_t k = 0; k < w.width; ++k) {
      columns[b * w.width + k] = static_cast<int32_t>(column + k);
    }
    for (int64_t r = 0; r < w.height; ++r) {
      copy_floats(values + b * size + r * w.width, w.width, rows + r * count + b * w.width);
    }
  }
  return {rows, count, 1, columns, count, w.height};
}

Tile group_tile(const Blocks& w, int64_t unit, Memory& memory) {
  const int64_t kept = w.width;
  int32_t* columns = memory.columns.get<int32_t>(kept + 1);
  for (int64_t k = 0; k < kept; ++k) {
    columns[k] = static_cast<int32_t>(column_of(w, unit * kept + k));
  }
  const float* values = floats(w, unit * kept * w.height, kept * w.height, memory.values);
  return {values, 1, w.height, columns, kept, w.height};
}

void drain(const Run& run, const Panel& p, int64_t row, int64_t rows, const float* sums) {
  if (!run.y_half) {
    float* y = static_cast<float*>(run.y) + p.first * run.w.rows + row;
    block_kernels().turn(sums, p.width, rows, p.count, y, run.w.rows);
    return;
  }
  uint16_t* y = static_cast<uint16_t*>(run.y) + p.first * run.w.rows + row;
  for (int64_t i = 0; i < p.count; ++i) {
    for (int64_t r = 0; r < rows; ++r) {
      y[i * run.w.rows + r] = round_to_half(sums[r * p.width + i]);
    }
  }
}

// One row of blocks or group times every panel.
void multiply_unit(void* context, int64_t unit) {
  static thread_local Memory memory;
  const Run& run = *static_cast<const Run*>(context);
  const Blocks& w = run.w;
  const int64_t row = unit * w.height, rows = std::min(w.height, w.rows - row);
  float* sums = memory.sums.get<float>(w.height * kWidest);
  const Tile tile = w.kind == Kind::bsr ? bsr_tile(w, unit, memory) : group_tile(w, unit, memory);
  for (int64_t number = 0; number * run.widest < run.inputs; ++number) {
    const Panel p = panel_of(run, number);
    for (int64_t r = 0; r < w.height; ++r) {
      const float bias = run.bias.data != nullptr && r < rows ? run.bias[row + r] : 0.0f;
      std::fill_n(sums + r * p.width, p.width, bias);
    }
    block_kernels().add[p.kernel](tile, p.data, sums);
    drain(run, p, row, rows, sums);
  }
}

void multiply(Run& run, int64_t threads) {
  static thread_local Scratch memory;
  const int64_t most = std::min(run.batch, kTogether);
  run.widest = block_kernels().narrow;
  run.panels = memory.get<float>((most + kWidest) * run.w.cols + 1);
  for (run.first = 0; run.first < run.batch; run.first += most) {
    run.inputs = std::min(most, run.batch - run.first);
    for_each((run.inputs + run.widest - 1) / run.widest, threads, &run, fill_panel);
    for_each(run.w.units(), threads, &run, multiply_unit);
  }
}

const void* pointer(uintptr_t address) { return reinterpret_cast<const void*>(address); }

// kind; rows, cols; height and width, as in Blocks
using BlockShape = std::tuple<int, int64_t, int64_t, int64_t, int64_t>;
// addresses of values, index and row starts; 0 for those that the layout lacks
using BlockParts = std::tuple<uintptr_t, uintptr_t, uintptr_t>;

Blocks blocks_of(const BlockShape& shape, const BlockParts& parts, bool half, bool wide) {
  const auto [kind, rows, cols, height, width] = shape;
  const auto [values, index, starts] = parts;
  return {static_cast<Kind>(kind), rows, cols, height, width, pointer(values), half,
          pointer(index), wide, static_cast<const int64_t*>(pointer(starts))};
}

}  // namespace

void bind_block(nb::module_& m) {
  m.def("block_linear", [](BlockShape shape, BlockParts parts, bool half, bool wide, uintptr_t x,
                           bool x_half, int64_t batch, uintptr_t bias, bool bias_half, uintptr_t y,
                           bool y_half, int64_t threads) {
    nb::gil_scoped_release unlocked;
    const Blocks w = blocks_of(shape, parts, half, wide);
    const Array inputs{pointer(x), x_half}, start{pointer(bias), bias_half};
    void* out = reinterpret_cast<void*>(y);
    if (w.kind == Kind::bsr && w.height % 8 == 0) {
      multiply_strips({w, inputs, start, batch, out, y_half}, threads);
      return;
    }
    Run run{w, inputs, start, batch, out, y_half, 0, 0, nullptr, 0};
    multiply(run, threads);
  });
}

}  // namespace gossamer
