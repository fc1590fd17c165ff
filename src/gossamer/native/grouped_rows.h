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

// K places of a pattern from the k-th on.
template <typename Vector, int V, int K, int G>
static inline void add_places(const Chunk& c, const float* values, const int16_t* order,
                              const int32_t* places, int64_t k, const float* panel, float* sums) {
  constexpr int64_t kWidth = V * sizeof(Vector) / sizeof(float);
  const float* columns[K];
#pragma GCC unroll 8
  for (int i = 0; i < K; ++i) columns[i] = panel + places[k + i] * kWidth;
  add_pattern<Vector, V, K, G>(values + k, c.n, order, c.group, columns, sums);
}

// N and G are 0 where they are known at run time alone.
template <typename Vector, int V, int N, int G>
static void walk_groups(const Chunk& c, const float* panel, float* sums) {
  constexpr int64_t kWidth = V * sizeof(Vector) / sizeof(float);
  const float* values = c.values;
  const int16_t* order = c.order;
  for (int64_t run = 0; run < c.runs; ++run, panel += c.m * kWidth) {
    const int32_t* places = c.places;
    for (int64_t p = 0; p < c.patterns; ++p, places += c.n, order += c.group) {
      if constexpr (N > 0) {
        add_places<Vector, V, N, G>(c, values, order, places, 0, panel, sums);
      } else {
        int64_t k = 0;
        for (; k + 3 <= c.n; k += 3) {
          add_places<Vector, V, 3, G>(c, values, order, places, k, panel, sums);
        }
        for (; k < c.n; ++k) add_places<Vector, V, 1, G>(c, values, order, places, k, panel, sums);
      }
      values += c.group * c.n;
    }
  }
}

template <typename Vector, int V, int N>
static void walk_places(const Chunk& c, const float* panel, float* sums) {
  switch (c.group) {
    case 4: return walk_groups<Vector, V, N, 4>(c, panel, sums);
    case 8: return walk_groups<Vector, V, N, 8>(c, panel, sums);
    case 16: return walk_groups<Vector, V, N, 16>(c, panel, sums);
    default: return walk_groups<Vector, V, N, 0>(c, panel, sums);
  }
}

template <typename Vector, int V>
static void walk_chunk(const Chunk& c, const float* panel, float* sums) {
  switch (c.n) {
    case 1: return walk_places<Vector, V, 1>(c, panel, sums);
    case 2: return walk_places<Vector, V, 2>(c, panel, sums);
    case 3: return walk_places<Vector, V, 3>(c, panel, sums);
    default: return walk_groups<Vector, V, 0, 0>(c, panel, sums);
  }
}

}  // namespace gossamer
