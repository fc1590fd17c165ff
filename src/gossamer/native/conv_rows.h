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
#pragma GCC unroll 12
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
#pragma GCC unroll 12
          for (int v = 0; v < V; ++v) {
            const Vector x = pixels(v);
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) to[r][v] += x * weight[r];
          }
        } else {
          Vector x[V];
#pragma GCC unroll 12
          for (int v = 0; v < V; ++v) x[v] = pixels(v);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            const Vector weight = values[r] - Vector{};
#pragma GCC unroll 12
            for (int v = 0; v < V; ++v) to[r][v] += x[v] * weight;
          }
        }
        ++i;
        values += w.group;
      };
      // Not unrolled further: a row ends at any weight; a remainder is one more branch to guess.
#pragma GCC unroll 1
      while (i + U <= end) {
#pragma GCC unroll 12
        for (int u = 0; u < U; ++u) add(sum[u]);
      }
      if constexpr (U > 1) {
#pragma GCC unroll 1
        while (i < end) add(sum[0]);
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        if (row + r >= w.rows) break;
        float* y = strip.y + (row + r) * strip.apart;
#pragma GCC unroll 12
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

// R rows whose windows lie S rows apart.
template <int kBytes, int S, int R>
static void band_rows(const DepthwiseBand& b, int64_t first) {
  using Vector = typename Floats<kBytes>::Vector;
  constexpr int kLanes = kBytes / sizeof(float);
  const Vector low = b.low - Vector{}, high = b.high - Vector{};
  Vector weights[9];
#pragma GCC unroll 9
  for (int t = 0; t < 9; ++t) weights[t] = b.weights[t] - Vector{};
  const int64_t last = b.width < kLanes ? 0 : b.width - kLanes;
  for (int64_t j = 0; j < b.width; j += kLanes) {
    const int64_t at = j < last ? j : last;  // the last vector may overlap the one before it
    const float* x = b.x + first * S * b.row + at;
    Vector sum[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sum[r] = b.bias - Vector{};
#pragma GCC unroll 9
    for (int line = 0; line < S * (R - 1) + 3; ++line, x += b.row) {
#pragma GCC unroll 3
      for (int t = 0; t < 3; ++t) {
        const Vector pixels = *reinterpret_cast<const Vector*>(x + b.taps[t]);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const int place = line - S * r;
          if (place >= 0 && place < 3) sum[r] += pixels * weights[3 * place + t];
        }
      }
    }
    float* y = b.y + first * b.width + at;
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r, y += b.width) {
      const Vector raised = sum[r] < low ? low : sum[r];  // in this order a NaN stays one
      const Vector total = raised > high ? high : raised;
      // Narrow rows spill over into the next ones, which are written after them.
      if (b.end - y >= kLanes) {
        *reinterpret_cast<Vector*>(y) = total;
      } else {
        for (int64_t i = 0; i < b.end - y; ++i) y[i] = total[i];
      }
    }
  }
}

template <int kBytes, int S>
static void depthwise_band(const DepthwiseBand& b, int64_t rows) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) band_rows<kBytes, S, 4>(b, r);
  if (rows - r == 3) band_rows<kBytes, S, 3>(b, r);
  else if (rows - r == 2) band_rows<kBytes, S, 2>(b, r);
  else if (rows - r == 1) band_rows<kBytes, S, 1>(b, r);
}

template <int kBytes>
static void pad_row(const float* x, int64_t width, const PaddedRow& to) {
  using Vector = typename Floats<kBytes>::Vector;
  constexpr int kLanes = kBytes / sizeof(float);
  float *__restrict first = to.run[0], *__restrict second = to.run[1];
  int64_t i = 0;
  if (to.runs == 1) {
    auto copy = [&](int64_t at) {
      *reinterpret_cast<Vector*>(first + at) = *reinterpret_cast<const Vector*>(x + at);
    };
    for (; i + kLanes <= width; i += kLanes) copy(i);
    if (width >= kLanes) {
      copy(width - kLanes);
    } else {
      for (; i < width; ++i) first[i] = x[i];
    }
    return;
  }
  for (; i < width / 2; ++i) {
    first[i] = x[2 * i];
    second[i] = x[2 * i + 1];
  }
  if (width % 2 != 0) first[i] = x[2 * i];
}

template <int kBytes, typename Index>
static void choose(StripKernel (&kernels)[kSharing][kStripVectors]) {
  const StripKernel all[kSharing][kStripVectors] = {
      {strip_rows<kBytes, Index, 1, 1, 8>, strip_rows<kBytes, Index, 1, 2, 4>,
       strip_rows<kBytes, Index, 1, 3, 3>, strip_rows<kBytes, Index, 1, 4, 2>,
       strip_rows<kBytes, Index, 1, 5, 2>, strip_rows<kBytes, Index, 1, 6, 2>,
       strip_rows<kBytes, Index, 1, 7, 1>, strip_rows<kBytes, Index, 1, 8, 1>,
       strip_rows<kBytes, Index, 1, 9, 1>, strip_rows<kBytes, Index, 1, 10, 1>,
       strip_rows<kBytes, Index, 1, 11, 1>, strip_rows<kBytes, Index, 1, 12, 1>},
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
  kernels.band[0] = depthwise_band<kBytes, 1>;
  kernels.band[1] = depthwise_band<kBytes, 2>;
  kernels.pad = pad_row<kBytes>;
  choose<kBytes, uint16_t>(kernels.narrow);
  choose<kBytes, int32_t>(kernels.wide);
  return kernels;
}

}  // namespace gossamer
