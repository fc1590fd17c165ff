// Grouped N:M put into the order of its rows: values and columns, equally many in every row.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "parallel.h"

namespace nb = nanobind;

namespace gossamer {

namespace {

struct Ordering {
  const char* values;     // [chunks, runs, patterns, group, n]
  const int16_t* order;   // [chunks, runs, patterns * group]: a row of the chunk
  const int32_t* places;  // [patterns, n]
  char* out;              // [rows, runs * n]
  int32_t* columns;       // [rows, runs * n]
  int64_t size;           // bytes of a value
  int64_t chunks, runs, patterns, group, n, m, rows, cols;
};

void order_chunk(void* context, int64_t chunk) {
  const Ordering& all = *static_cast<const Ordering*>(context);
  const int64_t height = all.patterns * all.group, width = all.runs * all.n;
  for (int64_t run = 0; run < all.runs; ++run) {
    const int64_t first = (chunk * all.runs + run) * height;
    for (int64_t slot = 0; slot < height; ++slot) {
      const int64_t row = chunk * height + all.order[first + slot];
      if (row >= all.rows) continue;
      const int32_t* places = all.places + slot / all.group * all.n;
      const int64_t to = row * width + run * all.n;
      for (int64_t i = 0; i < all.n; ++i) {
        // Columns past the matrix hold zeros; they must name one that exists.
        const int64_t column = std::min(run * all.m + places[i], all.cols - 1);
        all.columns[to + i] = static_cast<int32_t>(column);
      }
      std::copy_n(all.values + (first + slot) * all.n * all.size, all.n * all.size,
                  all.out + to * all.size);
    }
  }
}

struct Shares {
  Ordering* ordering;
  int64_t parts;
};

void order_share(void* context, int64_t part) {
  const Shares& all = *static_cast<const Shares*>(context);
  const int64_t chunks = all.ordering->chunks;
  for (int64_t i = chunks * part / all.parts; i < chunks * (part + 1) / all.parts; ++i) {
    order_chunk(all.ordering, i);
  }
}

}  // namespace

void bind_grouped(nb::module_& m) {
  // addresses: values, order, places, out, columns; shape: chunks, runs, patterns, group, N, M, rows,
  // cols
  m.def("order_grouped", [](std::array<uintptr_t, 5> addresses, std::array<int64_t, 8> shape,
                            int64_t size, int64_t threads) {
    nb::gil_scoped_release unlocked;
    const auto [chunks, runs, patterns, group, n, m_, rows, cols] = shape;
    Ordering ordering{reinterpret_cast<const char*>(addresses[0]),
                      reinterpret_cast<const int16_t*>(addresses[1]),
                      reinterpret_cast<const int32_t*>(addresses[2]),
                      reinterpret_cast<char*>(addresses[3]),
                      reinterpret_cast<int32_t*>(addresses[4]),
                      size, chunks, runs, patterns, group, n, m_, rows, cols};
    Shares shares{&ordering, std::max<int64_t>(1, std::min(threads, chunks))};
    parallel(shares.parts, order_share, &shares);
  });
}

}  // namespace gossamer
