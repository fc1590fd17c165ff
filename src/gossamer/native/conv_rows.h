// The strip kernel for one kind of vector; part of the files of single instruction sets.
#pragma once

#include "conv.h"

namespace gossamer {

// Vectors at any address; attributes of a type do not pass through template arguments, members do.
template <int kBytes>
struct Floats {
  typedef float Vector __attribute__((vector_size(kBytes), aligned(4), may_alias));
};

// Some columns of the next strip.
template <int kWidth>
static void fetch_ahead(const Strip& strip, int64_t from, int64_t count) {
  for (int64_t c = from; c < from + count && c < strip.cols; ++c) {
    const float* ahead = strip.next + c * strip.gap;
    for (int v = 0; v < kWidth; v += 16) __builtin_prefetch(ahead + v);
  }
}

// V vectors make a strip, R rows are summed at a time. U weights of a row are added up apart, for an
// addition waits for the one before it on the same sum.
template <int kBytes, typename Index, int R, int V, int U>
static void strip_rows(const WeightLists& w, int64_t g0, int64_t g1, const Strip& strip) {
  using Vector = typename Floats<kBytes>::Vector;
  constexpr int kLanes = kBytes / sizeof(float);
  const Index* columns = static_cast<const Index*>(w.columns);
  const float* last = strip.x + strip.last;
  const Vector low = w.low - Vector{}, high = w.high - Vector{};
  const int64_t share = (strip.cols + g1 - g0 - 1) / (g1 - g0);
  for (int64_t g = g0; g < g1; ++g) {
    if (strip.next != nullptr) fetch_ahead<V * kLanes>(strip, (g - g0) * share, share);
    const int64_t begin = w.starts[g], end = w.starts[g + 1];
    for (int64_t r0 = 0; r0 < w.group && g * w.group + r0 < w.rows; r0 += R) {
      const int64_t row = g * w.group + r0;
      Vector sum[U][R][V];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const float bias = w.bias != nullptr && row + r < w.rows ? w.bias[row + r] : 0.0f;
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          sum[0][r][v] = bias - Vector{};
          for (int u = 1; u < U; ++u) sum[u][r][v] = Vector{};
        }
      }
      const float* values = w.values + begin * w.group + r0;
      int64_t i = begin;
      auto add = [&](Vector (&to)[R][V]) __attribute__((always_inline)) {
        const int64_t at = static_cast<int64_t>(columns[i]) * strip.gap;
        auto pixels = [&](int v) __attribute__((always_inline)) {
          const float* place = v + 1 < V ? strip.x + at + v * kLanes : last + at;
          return *reinterpret_cast<const Vector*>(place);
        };
        // Weights or pixels stay in registers, whichever are fewer, and the others pass by. Less a
        // zero a number keeps every bit, so that it is loaded into all lanes and nothing else.
        if constexpr (R <= V) {
          Vector weight[R];
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) weight[r] = values[r] - Vector{};
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) {
            const Vector x = pixels(v);
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) to[r][v] += x * weight[r];
          }
        } else {
          Vector x[V];
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) x[v] = pixels(v);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            const Vector weight = values[r] - Vector{};
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) to[r][v] += x[v] * weight;
          }
        }
        ++i;
        values += w.group;
      };
      while (i + U <= end) {
#pragma GCC unroll 8
        for (int u = 0; u < U; ++u) add(sum[u]);
      }
      while (i < end) add(sum[0]);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        if (row + r >= w.rows) break;
        float* y = strip.y + (row + r) * strip.apart;
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          for (int u = 1; u < U; ++u) sum[0][r][v] += sum[u][r][v];
          const Vector total = sum[0][r][v];
          const Vector raised = total < low ? low : total;  // in this order a NaN stays one
          *reinterpret_cast<Vector*>(y + (v + 1 < V ? v * kLanes : strip.last)) =
              raised > high ? high : raised;
        }
      }
    }
  }
}

// Taps are nine where K is; any number where it is 0.
template <int kBytes, int K>
static void depthwise_taps(const DepthwiseRow& row, int64_t from, int64_t to, float* y) {
  using Vector = typename Floats<kBytes>::Vector;
  constexpr int kLanes = kBytes / sizeof(float);
  const int64_t count = K > 0 ? K : row.count;
  const Vector low = row.low - Vector{}, high = row.high - Vector{};
  for (int64_t j = from; j < to; j += kLanes) {
    Vector sum = row.bias - Vector{};
#pragma GCC unroll 9
    for (int64_t t = 0; t < count; ++t) {
      sum += *reinterpret_cast<const Vector*>(row.taps[t] + j) * row.weights[t];
    }
    const Vector raised = sum < low ? low : sum;  // in this order a NaN stays one
    *reinterpret_cast<Vector*>(y + j) = raised > high ? high : raised;
  }
}

template <int kBytes>
static void depthwise_row(const DepthwiseRow& row, int64_t from, int64_t to, float* y) {
  if (row.count == 9) depthwise_taps<kBytes, 9>(row, from, to, y);
  else depthwise_taps<kBytes, 0>(row, from, to, y);
}

template <int kBytes, typename Index>
static void choose(StripKernel (&kernels)[kSharing][kStripVectors]) {
  const StripKernel all[kSharing][kStripVectors] = {
      {strip_rows<kBytes, Index, 1, 1, 8>, strip_rows<kBytes, Index, 1, 2, 4>,
       strip_rows<kBytes, Index, 1, 3, 3>, strip_rows<kBytes, Index, 1, 4, 2>,
       strip_rows<kBytes, Index, 1, 5, 2>, strip_rows<kBytes, Index, 1, 6, 2>,
       strip_rows<kBytes, Index, 1, 7, 1>, strip_rows<kBytes, Index, 1, 8, 1>},
      {strip_rows<kBytes, Index, 2, 1, 4>, strip_rows<kBytes, Index, 2, 2, 2>,
       strip_rows<kBytes, Index, 2, 3, 2>, strip_rows<kBytes, Index, 2, 4, 1>,
       strip_rows<kBytes, Index, 2, 5, 1>, strip_rows<kBytes, Index, 2, 6, 1>},
      {strip_rows<kBytes, Index, 4, 1, 2>, strip_rows<kBytes, Index, 4, 2, 1>,
       strip_rows<kBytes, Index, 4, 3, 1>},
  };
  for (int s = 0; s < kSharing; ++s) {
    for (int v = 0; v < kStripVectors; ++v) kernels[s][v] = all[s][v];
  }
}

template <int kBytes>
static StripKernels strip_kernels() {
  StripKernels kernels{};
  kernels.lanes = kBytes / sizeof(float);
  kernels.depthwise = depthwise_row<kBytes>;
  choose<kBytes, uint16_t>(kernels.narrow);
  choose<kBytes, int32_t>(kernels.wide);
  return kernels;
}

}  // namespace gossamer
