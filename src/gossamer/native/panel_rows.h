// The panel kernel for one kind of vector; part of the files of single instruction sets.
#pragma once

#include "panel.h"

namespace gossamer {

// V vectors make a panel's width. U entries are added up apart, for an addition waits for the one
// before it on the same sum.
template <typename Vector, int V, int U>
static void panel_rows(const Lists& lists, int32_t limit, const float* panel, float* sums) {
  constexpr int kLanes = sizeof(Vector) / sizeof(float), kWidth = V * kLanes;
  for (int64_t r = 0; r < lists.rows; ++r) {
    const int64_t end = lists.end[r];
    int64_t i = lists.at[r];
    if (i == end || lists.columns[i] >= limit) continue;
    float* out = sums + r * kWidth;
    Vector sum[U][V];
    for (int v = 0; v < V; ++v) sum[0][v] = *reinterpret_cast<const Vector*>(out + v * kLanes);
    for (int u = 1; u < U; ++u) {
      for (int v = 0; v < V; ++v) sum[u][v] = Vector{};
    }
    for (; i + U <= end && lists.columns[i + U - 1] < limit; i += U) {
#pragma GCC unroll 8
      for (int u = 0; u < U; ++u) {
        const float* x = panel + int64_t{lists.columns[i + u]} * kWidth;
        const float value = lists.values[i + u];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          sum[u][v] += *reinterpret_cast<const Vector*>(x + v * kLanes) * value;
        }
      }
    }
    for (; i < end && lists.columns[i] < limit; ++i) {
      const float* x = panel + int64_t{lists.columns[i]} * kWidth;
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        sum[0][v] += *reinterpret_cast<const Vector*>(x + v * kLanes) * lists.values[i];
      }
    }
    for (int v = 0; v < V; ++v) {
      for (int u = 1; u < U; ++u) sum[0][v] += sum[u][v];
      *reinterpret_cast<Vector*>(out + v * kLanes) = sum[0][v];
    }
    lists.at[r] = i;
  }
}

}  // namespace gossamer
