// Sums of eight rows by eight inputs at a time turned into rows of y. For files with AVX2.
#pragma once

#include <immintrin.h>

#include "block_rows.h"

namespace gossamer {

static inline void turn_vectors(__m256* a, float* y, int64_t rows_of_y) {
  __m256 b[8];
  for (int r = 0; r < 8; r += 2) {
    b[r] = _mm256_unpacklo_ps(a[r], a[r + 1]);
    b[r + 1] = _mm256_unpackhi_ps(a[r], a[r + 1]);
  }
  for (int r = 0; r < 8; r += 4) {
    a[r] = _mm256_shuffle_ps(b[r], b[r + 2], 0x44);
    a[r + 1] = _mm256_shuffle_ps(b[r], b[r + 2], 0xee);
    a[r + 2] = _mm256_shuffle_ps(b[r + 1], b[r + 3], 0x44);
    a[r + 3] = _mm256_shuffle_ps(b[r + 1], b[r + 3], 0xee);
  }
  for (int r = 0; r < 4; ++r) {
    _mm256_storeu_ps(y + r * rows_of_y, _mm256_permute2f128_ps(a[r], a[r + 4], 0x20));
    _mm256_storeu_ps(y + (r + 4) * rows_of_y, _mm256_permute2f128_ps(a[r], a[r + 4], 0x31));
  }
}

static inline void turn_eight(const float* sums, int64_t width, float* y, int64_t rows_of_y) {
  __m256 a[8];
  for (int r = 0; r < 8; ++r) a[r] = _mm256_loadu_ps(sums + r * width);
  turn_vectors(a, y, rows_of_y);
}

static void turn_avx2(const float* sums, int64_t width, int64_t rows, int64_t inputs, float* y,
                      int64_t rows_of_y) {
  const int64_t whole = inputs / 8 * 8;
  int64_t r = 0;
  for (; r + 8 <= rows; r += 8) {
    for (int64_t i = 0; i < whole; i += 8) {
      turn_eight(sums + r * width + i, width, y + i * rows_of_y + r, rows_of_y);
    }
    turn_some(sums + r * width, width, 8, whole, inputs, y + r, rows_of_y);
  }
  turn_some(sums + r * width, width, rows - r, 0, inputs, y + r, rows_of_y);
}

}  // namespace gossamer
