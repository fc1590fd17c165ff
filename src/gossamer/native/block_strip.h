// The kernel of strips of 8 and 16 rows of blocks; part of the files of single instruction sets.
#pragma once

#include "block.h"

namespace gossamer {

// The strip, V vectors of rows, times N inputs: all sums stay in registers while the blocks pass.
template <typename Vector, int V, int N>
static inline void add_inputs(const Strip& s, int64_t input) {
  constexpr int kLanes = sizeof(Vector) / sizeof(float), kBases = (N + 2) / 3;
  typedef Vector Loose __attribute__((aligned(4)));
  Vector sum[N][V];
#pragma GCC unroll 16
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[n][v] = *reinterpret_cast<const Vector*>(s.start + v * kLanes);
  }
  float* y = s.y + input * s.step_of_y;
#pragma GCC unroll 16
  for (int n = 0; n < N; ++n) __builtin_prefetch(y + n * s.step_of_y, 1);
  const float* weights = s.weights;
  const float* x = s.x + input * s.step_of_x;
  const int64_t step = s.step_of_x, width = s.width;
  for (int64_t b = 0; b < s.blocks; ++b) {
    const float* from[kBases];  // every third input: an address holds twice the step, no more
#pragma GCC unroll 4
    for (int i = 0; i < kBases; ++i) from[i] = x + s.columns[b] + 3 * i * step;
#pragma GCC unroll 1
    for (int64_t k = 0; k < width; ++k, weights += V * kLanes) {
      Vector given[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) given[v] = *reinterpret_cast<const Vector*>(weights + v * kLanes);
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) {
        const float value = from[n / 3][n % 3 * step];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[n][v] += given[v] * value;
      }
#pragma GCC unroll 4
      for (int i = 0; i < kBases; ++i) ++from[i];
    }
  }
#pragma GCC unroll 16
  for (int n = 0; n < N; ++n, y += s.step_of_y) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) *reinterpret_cast<Loose*>(y + v * kLanes) = sum[n][v];
  }
}

template <typename Vector, int V, int N>
static inline void add_some_inputs(const Strip& s, int64_t input, int64_t count) {
  if (count == N) return add_inputs<Vector, V, N>(s, input);
  if constexpr (N > 1) add_some_inputs<Vector, V, N - 1>(s, input, count);
}

// All inputs, N or a little fewer at a time: equal shares keep most sums in flight.
template <typename Vector, int V, int N>
static void add_strip(const Strip& s) {
  const int64_t tiles = (s.inputs + N - 1) / N;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t input = s.inputs * t / tiles;
    add_some_inputs<Vector, V, N>(s, input, s.inputs * (t + 1) / tiles - input);
  }
}

template <typename Value>
static inline void lay_some(Value value, int64_t from, int64_t width, float* out, int64_t lanes) {
  for (int64_t k = from; k < width; ++k) {
    for (int64_t r = 0; r < 8; ++r) out[k * lanes + r] = value(r * width + k);
  }
}

static inline void lay_rest(const void* values, bool half, int64_t from, int64_t width, float* out,
                            int64_t lanes) {
  const float* whole = static_cast<const float*>(values);
  const uint16_t* halves = static_cast<const uint16_t*>(values);
  if (!half) return lay_some([=](int64_t i) { return whole[i]; }, from, width, out, lanes);
  lay_some([=](int64_t i) {
    const uint32_t bits = uint32_t{halves[i]} << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }, from, width, out, lanes);
}

}  // namespace gossamer
