// Weights of eight rows of a block turned, so that the rows lie side by side. For files with AVX2.
#pragma once

#include "block_strip.h"
#include "block_turn_avx2.h"

namespace gossamer {

static void lay_avx2(const void* values, bool half, int64_t width, float* out, int64_t lanes) {
  const float* whole = static_cast<const float*>(values);
  const uint16_t* halves = static_cast<const uint16_t*>(values);
  int64_t k = 0;
  for (; k + 8 <= width; k += 8) {
    if (!half) {
      turn_eight(whole + k, width, out + k * lanes, lanes);
      continue;
    }
    __m256 rows[8];
    for (int r = 0; r < 8; ++r) {
      const __m128i* from = reinterpret_cast<const __m128i*>(halves + r * width + k);
      const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from));
      rows[r] = _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }
    turn_vectors(rows, out + k * lanes, lanes);
  }
  lay_rest(values, half, k, width, out, lanes);
}

}  // namespace gossamer
