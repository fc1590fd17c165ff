// The block kernels for one kind of vector; part of the files of single instruction sets.
#pragma once

#include "block.h"

namespace gossamer {

// R rows by V vectors of inputs stay in registers while the columns pass.
template <typename Vector, int W, int V, int R>
static inline void add_rows(const Tile& t, int64_t row, int64_t input, const float* panel,
                            float* sums) {
  constexpr int kLanes = sizeof(Vector) / sizeof(float);
  float* out[R];
  const float* values[R];
  Vector sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    out[r] = sums + (row + r) * int64_t{W} + input;
    values[r] = t.values + (row + r) * t.row_step;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[r][v] = *reinterpret_cast<const Vector*>(out[r] + v * kLanes);
  }
  panel += input;
  for (int64_t k = 0; k < t.count; ++k) {
    const float* x = panel + t.columns[k] * int64_t{W};
    Vector given[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) given[v] = *reinterpret_cast<const Vector*>(x + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const float value = values[r][k * t.column_step];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] += given[v] * value;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) *reinterpret_cast<Vector*>(out[r] + v * kLanes) = sum[r][v];
  }
}

// A few columns stay in registers, V vectors of inputs each, while the rows pass.
template <typename Vector, int W, int V, int N>
static void add_few(const Tile& t, const float* panel, float* sums) {
  constexpr int kLanes = sizeof(Vector) / sizeof(float), kStep = V * kLanes;
  static_assert(W % kStep == 0, "a panel is whole vectors");
  for (int64_t input = 0; input < W; input += kStep) {
    Vector given[N][V];
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) {
      const float* x = panel + t.columns[k] * int64_t{W} + input;
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) given[k][v] = *reinterpret_cast<const Vector*>(x + v * kLanes);
    }
    for (int64_t row = 0; row < t.rows; ++row) {
      float* out = sums + row * int64_t{W} + input;
      const float* values = t.values + row * t.row_step;
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        Vector sum = *reinterpret_cast<const Vector*>(out + v * kLanes);
#pragma GCC unroll 8
        for (int k = 0; k < N; ++k) sum += given[k][v] * values[k * t.column_step];
        *reinterpret_cast<Vector*>(out + v * kLanes) = sum;
      }
    }
  }
}

// Panels of W inputs, V vectors at a time; rows R or 4 at a time, then fewer: an addition waits for
// the one before it on the same sum, and eight sums just hide that.
template <typename Vector, int W, int V, int R>
static void add_tile(const Tile& t, const float* panel, float* sums) {
  constexpr int kVectors = W * sizeof(float) / sizeof(Vector);
  constexpr int kStep = V * sizeof(Vector) / sizeof(float);
  static_assert(W % kStep == 0, "a panel is whole vectors");
  switch (t.count) {
    case 1: return add_few<Vector, W, kVectors < 8 ? kVectors : 8, 1>(t, panel, sums);
    case 2: return add_few<Vector, W, kVectors < 4 ? kVectors : 4, 2>(t, panel, sums);
    case 3: return add_few<Vector, W, kVectors < 4 ? kVectors : 4, 3>(t, panel, sums);
    case 4: return add_few<Vector, W, kVectors < 2 ? kVectors : 2, 4>(t, panel, sums);
    default: break;
  }
  for (int64_t input = 0; input < W; input += kStep) {
    int64_t row = 0, left = t.rows;
    for (; left >= R + 4 || left == R; row += R, left -= R) {
      add_rows<Vector, W, V, R>(t, row, input, panel, sums);
    }
    for (; row + 4 <= t.rows; row += 4) add_rows<Vector, W, V, 4>(t, row, input, panel, sums);
    for (; row + 2 <= t.rows; row += 2) add_rows<Vector, W, V, 2>(t, row, input, panel, sums);
    for (; row < t.rows; ++row) add_rows<Vector, W, V, 1>(t, row, input, panel, sums);
  }
}

static inline void turn_some(const float* sums, int64_t width, int64_t rows, int64_t from,
                             int64_t inputs, float* y, int64_t rows_of_y) {
  for (int64_t i = from; i < inputs; ++i) {
    for (int64_t r = 0; r < rows; ++r) y[i * rows_of_y + r] = sums[r * width + i];
  }
}

}  // namespace gossamer
