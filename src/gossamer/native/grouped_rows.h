// The kernels of grouped N:M for one kind of vector; part of the files of single instruction sets.
#pragma once

#include "grouped.h"

namespace gossamer {

// The rows of one pattern and K of its columns. G is the number of rows where it is known: the loop
// then ends without a branch that is foretold wrongly.
template <typename Vector, int V, int K, int G>
static inline void add_pattern(const float* values, int64_t n, const int16_t* order, int64_t group,
                               const float* const* columns, float* sums) {
  constexpr int kLanes = sizeof(Vector) / sizeof(float), kWidth = V * kLanes;
  Vector given[K][V];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      given[k][v] = *reinterpret_cast<const Vector*>(columns[k] + v * kLanes);
    }
  }
  const int64_t count = G > 0 ? G : group;
#pragma GCC unroll 4
  for (int64_t i = 0; i < count; ++i, values += n) {
    float* out = sums + order[i] * int64_t{kWidth};
    float value[K];  // read before the sums are written: they might be the same memory
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) value[k] = values[k];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      Vector sum = *reinterpret_cast<const Vector*>(out + v * kLanes);
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) sum += given[k][v] * value[k];
      *reinterpret_cast<Vector*>(out + v * kLanes) = sum;
    }
  }
}

template <typename Vector, int V, int G>
static void walk_groups(const Chunk& c, const float* panel, float* sums) {
  constexpr int64_t kWidth = V * sizeof(Vector) / sizeof(float);
  const float* values = c.values;
  const int16_t* order = c.order;
  for (int64_t run = 0; run < c.runs; ++run, panel += c.m * kWidth) {
    const int32_t* places = c.places;
    for (int64_t p = 0; p < c.patterns; ++p, places += c.n, order += c.group) {
      int64_t k = 0;
      for (; k + 2 <= c.n; k += 2) {
        const float* columns[2] = {panel + places[k] * kWidth, panel + places[k + 1] * kWidth};
        add_pattern<Vector, V, 2, G>(values + k, c.n, order, c.group, columns, sums);
      }
      if (k < c.n) {
        const float* columns[1] = {panel + places[k] * kWidth};
        add_pattern<Vector, V, 1, G>(values + k, c.n, order, c.group, columns, sums);
      }
      values += c.group * c.n;
    }
  }
}

template <typename Vector, int V>
static void walk_chunk(const Chunk& c, const float* panel, float* sums) {
  switch (c.group) {
    case 4: return walk_groups<Vector, V, 4>(c, panel, sums);
    case 8: return walk_groups<Vector, V, 8>(c, panel, sums);
    case 16: return walk_groups<Vector, V, 16>(c, panel, sums);
    default: return walk_groups<Vector, V, 0>(c, panel, sums);
  }
}

}  // namespace gossamer
