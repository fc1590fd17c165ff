// The optimal brain surgeon step over one block of columns, for a range of rows. Included by one
// file for each instruction set; everything has internal linkage, so that no instruction set's
// code can be taken for another's.
#pragma once

#include <cmath>
#include <cstdint>

#include "obs.h"

namespace {

// Keep the n best of w^2 / u_jj^2 in columns j..j+m-1 of one row; ties go to the lower column.
void choose_group(const float* w, const float* inverse, std::uint8_t* kept, std::int64_t n,
                  std::int64_t m) {
  float score[gossamer::kMaxGroup];
  for (std::int64_t i = 0; i < m; ++i) {
    const float value = w[i] * inverse[i];
    score[i] = value * value;
  }
  for (std::int64_t i = 0; i < m; ++i) {
    std::int64_t better = 0;
    for (std::int64_t k = 0; k < m; ++k) {
      better += score[k] > score[i] || (score[k] == score[i] && k < i);
    }
    kept[i] = better < n;
  }
}

void prune_rows(const gossamer::ObsBlock& b, std::int64_t first, std::int64_t last) {
  for (std::int64_t r = first; r < last; ++r) {
    float* __restrict w = b.weight + r * b.width;
    float* __restrict error = b.error + r * b.width;
    std::uint8_t* kept = b.kept + r * b.width;
    const float scale = b.scale ? b.scale[r] : 1.0f;
    const float zero = b.zero ? b.zero[r] : 0.0f;
    for (std::int64_t j = 0; j < b.width; ++j) {
      if (b.m > 0 && j % b.m == 0) choose_group(w + j, b.inverse + j, kept + j, b.n, b.m);
      float value = 0.0f;
      if (kept[j]) {
        value = w[j];
        if (b.scale) {
          const float code = std::nearbyintf(value / scale) + zero;
          value = scale * (std::fmin(std::fmax(code, 0.0f), b.levels) - zero);
        }
      }
      const float e = (w[j] - value) * b.inverse[j];
      error[j] = e;
      w[j] = value;
      if (e == 0.0f) continue;  // kept as it is: nothing to make good
      const float* __restrict u = b.factor + j * b.width;
      for (std::int64_t t = j + 1; t < b.width; ++t) w[t] -= e * u[t];
    }
  }
}

}  // namespace
