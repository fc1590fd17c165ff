// The driver of y = W x for grouped N:M.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "block_rows.h"
#include "driver.h"
#include "grouped_rows.h"
#include "isa.h"
#include "parallel.h"

namespace nb = nanobind;

namespace gossamer {

typedef float Four __attribute__((vector_size(16), may_alias));

static void turn_plain(const float* sums, int64_t width, int64_t rows, int64_t inputs, float* y,
                       int64_t rows_of_y) {
  turn_some(sums, width, rows, 0, inputs, y, rows_of_y);
}

const GroupedKernels& plain_grouped() {
  static constexpr GroupedKernels kernels = {
      {{1, walk_chunk<float, 1>}, {8, walk_chunk<Four, 2>}, {16, walk_chunk<Four, 4>},
       {32, walk_chunk<Four, 8>}},
      turn_plain};
  return kernels;
}

namespace {

constexpr int64_t kTogether = 512;  // inputs brought into panels before the rows are walked

const GroupedKernels& grouped_kernels() {
#if GOSSAMER_X86
  switch (current_isa()) {
    case Isa::avx512: return avx512_grouped();
    case Isa::avx2: return avx2_grouped();
    default: break;
  }
#endif
  return plain_grouped();
}

struct Grouped {
  Array values;           // [chunks, runs, P, g, N]
  const int16_t* order;   // [chunks, runs, P g]
  const int32_t* places;  // [P, N]
  int64_t rows, cols, runs, patterns, group, n, m;

  int64_t height() const { return patterns * group; }
  int64_t chunks() const { return (rows + height() - 1) / height(); }
  int64_t width() const { return runs * m; }
};

struct Run {
  Grouped w;
  Array x, bias;
  int64_t batch;
  Array y;
  int64_t first = 0;   // input that the panels begin with
  int64_t inputs = 0;  // in the panels
  float* panels = nullptr;
  int64_t shares = 1;  // of the panels: tasks of one chunk
  std::atomic<int64_t> filled{0}, next{0};
};

// Places of one panel among the inputs, and of its memory.
struct Panel {
  int64_t first, count;
  const GroupedKernel* kernel;
  float* data;
};

int64_t widest() { return grouped_kernels().by_width[kGroupedKernels - 1].width; }

int64_t panels_of(const Run& run) { return (run.inputs + widest() - 1) / widest(); }

Panel panel_of(const Run& run, int64_t number) {
  const int64_t before = number * widest(), count = std::min(widest(), run.inputs - before);
  const GroupedKernel* kernel = grouped_kernels().by_width;
  while (kernel->width < count) ++kernel;
  return {run.first + before, count, kernel, run.panels + before * run.w.width()};
}

// Halves from a place on as floats.
const float* widened(const Array& halves, int64_t from, int64_t count, Scratch& memory) {
  const uint16_t* given = static_cast<const uint16_t*>(halves.data) + from;
  float* out = memory.get<float>(count + 1);
  for (int64_t i = 0; i < count; ++i) out[i] = as_float(given[i]);
  return out;
}

// Inputs [count, cols] become columns side by side; what a panel has beyond them is zero.
void fill_panel(const Run& run, int64_t number) {
  static thread_local Scratch memory;
  const Panel p = panel_of(run, number);
  const int64_t cols = run.w.cols, width = p.kernel->width;
  const float* x = static_cast<const float*>(run.x.data) + p.first * cols;
  if (run.x.half) {
    x = widened(run.x, p.first * cols, p.count * cols, memory);
  }
  if (p.count < width) std::fill_n(p.data, cols * width, 0.0f);
  grouped_kernels().turn(x, cols, p.count, cols, p.data, width);
  std::fill_n(p.data + cols * width, (run.w.width() - cols) * width, 0.0f);
}

void drain(const Run& run, const Panel& p, int64_t row, int64_t rows, const float* sums) {
  const int64_t width = p.kernel->width, from = p.first * run.w.rows + row;
  if (!run.y.half) {
    float* y = static_cast<float*>(const_cast<void*>(run.y.data)) + from;
    grouped_kernels().turn(sums, width, rows, p.count, y, run.w.rows);
    return;
  }
  uint16_t* y = static_cast<uint16_t*>(const_cast<void*>(run.y.data)) + from;
  for (int64_t i = 0; i < p.count; ++i) {
    for (int64_t r = 0; r < rows; ++r) y[i * run.w.rows + r] = round_to_half(sums[r * width + i]);
  }
}

Chunk chunk_of(const Grouped& w, int64_t number, Scratch& memory) {
  const int64_t size = w.runs * w.height(), from = number * size * w.n;
  const float* values = static_cast<const float*>(w.values.data) + from;
  if (w.values.half) {
    values = widened(w.values, from, size * w.n, memory);
  }
  return {values, w.order + number * size, w.places, w.runs, w.patterns, w.group, w.n, w.m};
}

// One chunk times a share of the panels.
void multiply_chunk(const Run& run, int64_t task) {
  static thread_local Scratch value_memory, sum_memory;
  const Grouped& w = run.w;
  const int64_t number = task / run.shares, share = task % run.shares, height = w.height();
  const int64_t row = number * height, rows = std::min(height, w.rows - row);
  const Chunk chunk = chunk_of(w, number, value_memory);
  float* sums = sum_memory.get<float>(height * widest());
  const int64_t count = panels_of(run);
  for (int64_t i = count * share / run.shares; i < count * (share + 1) / run.shares; ++i) {
    const Panel p = panel_of(run, i);
    const int64_t width = p.kernel->width;
    for (int64_t r = 0; r < height; ++r) {
      const float bias = run.bias.data != nullptr && r < rows ? run.bias[row + r] : 0.0f;
      std::fill_n(sums + r * width, width, bias);
    }
    p.kernel->walk(chunk, p.data, sums);
    drain(run, p, row, rows, sums);
  }
}

void fill_part(void* context, int64_t) {
  Run& run = *static_cast<Run*>(context);
  for (int64_t i = run.filled++; i < panels_of(run); i = run.filled++) fill_panel(run, i);
}

void multiply_part(void* context, int64_t) {
  Run& run = *static_cast<Run*>(context);
  const int64_t tasks = run.w.chunks() * run.shares;
  for (int64_t i = run.next++; i < tasks; i = run.next++) multiply_chunk(run, i);
}

void multiply(Run& run, int64_t threads) {
  static thread_local Scratch memory;
  const int64_t most = std::min(run.batch, kTogether);
  run.panels = memory.get<float>((most + widest()) * run.w.width() + 1);
  for (run.first = 0; run.first < run.batch; run.first += most) {
    run.inputs = std::min(most, run.batch - run.first);
    const int64_t count = panels_of(run), chunks = run.w.chunks();
    // A chunk of halves is converted anew for every share, so there are no more than threads use.
    run.shares = threads == 1 ? 1 : std::clamp<int64_t>(4 * threads / chunks, 1, count);
    run.filled = run.next = 0;
    parallel(std::min(threads, count), fill_part, &run);
    parallel(std::min(threads, chunks * run.shares), multiply_part, &run);
  }
}

const void* pointer(uintptr_t address) { return reinterpret_cast<const void*>(address); }

}  // namespace

void bind_grouped(nb::module_& m) {
  // addresses: values, order, places, x, bias (0 where there is none), y
  // halves: values, x, bias, y
  // shape: rows, cols, runs, patterns, group, N, M
  m.def("grouped_linear", [](std::array<uintptr_t, 6> addresses, std::array<bool, 4> halves,
                             std::array<int64_t, 7> shape, int64_t batch, int64_t threads) {
    nb::gil_scoped_release unlocked;
    const auto [values, order, places, x, bias, y] = addresses;
    const auto [rows, cols, runs, patterns, group, n, m_] = shape;
    Run run{{{pointer(values), halves[0]}, static_cast<const int16_t*>(pointer(order)),
             static_cast<const int32_t*>(pointer(places)), rows, cols, runs, patterns, group, n,
             m_},
            {pointer(x), halves[1]}, {pointer(bias), halves[2]}, batch, {pointer(y), halves[3]}};
    multiply(run, threads);
  });
}

}  // namespace gossamer
