// Rows that name their columns, with AVX-512; part of linear_avx512.cpp and of no other file.
#pragma once

#include "expand_avx512.h"

namespace gossamer {

// Sixteen values of a row with their columns, those outside the mask as zeros.
template <bool half, bool wide>
static inline __m512 sixteen_columns(const Matrix& w, int64_t i, __mmask16 m, const float* x,
                                     __m512 sum) {
  const __m512i at =
      wide ? _mm512_maskz_loadu_epi32(m, static_cast<const int32_t*>(w.index) + i)
           : _mm512_cvtepu16_epi32(
                 _mm256_maskz_loadu_epi16(m, static_cast<const uint16_t*>(w.index) + i));
  const __m512 values =
      half ? widen16(_mm256_maskz_loadu_epi16(m, static_cast<const uint16_t*>(w.values) + i))
           : _mm512_maskz_loadu_ps(m, static_cast<const float*>(w.values) + i);
  return _mm512_fmadd_ps(values, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), m, at, x, 4), sum);
}

// bfloat16 by 16-bit columns takes the even ones, then the odd ones: shifts and masks, where
// widening in order would wait for the port of the gathers.
static inline void even_and_odd(__m512i values, __m512i at, __mmask16 even, __mmask16 odd,
                                const float* x, __m512 sum[2]) {
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  const __m512 none = _mm512_setzero_ps();
  const __m512 even_x =
      _mm512_mask_i32gather_ps(none, even, _mm512_andnot_si512(high, at), x, 4);
  const __m512 odd_x = _mm512_mask_i32gather_ps(none, odd, _mm512_srli_epi32(at, 16), x, 4);
  sum[0] = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(values, 16)), even_x, sum[0]);
  sum[1] = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(values, high)), odd_x, sum[1]);
}

// Thirty-two values of a row with their columns.
template <bool half, bool wide>
static inline void whole_step(const Matrix& w, int64_t i, const float* x, __m512 sum[2]) {
  const char* values = static_cast<const char*>(w.values) + i * (half ? 2 : 4);
  const char* index = static_cast<const char*>(w.index) + i * (wide ? 4 : 2);
  fetch(index, kAheadColumns);
  fetch(values, kAheadColumns);
  if constexpr (!half) fetch(values + 64, kAheadColumns);
  if constexpr (half && !wide) {
    even_and_odd(_mm512_loadu_si512(values), _mm512_loadu_si512(index), 0xffff, 0xffff, x, sum);
  } else {
    sum[0] = sixteen_columns<half, wide>(w, i, 0xffff, x, sum[0]);
    sum[1] = sixteen_columns<half, wide>(w, i + 16, 0xffff, x, sum[1]);
  }
}

// The same of those values that the mask names. Each value meets the sum that whole_step adds it
// to, so that which rows are taken together changes no bit.
template <bool half, bool wide>
static inline void masked_step(const Matrix& w, int64_t i, uint32_t m, bool second, const float* x,
                               __m512 sum[2]) {
  if constexpr (half && !wide) {
    const __m512i v = _mm512_maskz_loadu_epi16(m, static_cast<const uint16_t*>(w.values) + i);
    const __m512i at = _mm512_maskz_loadu_epi16(m, static_cast<const uint16_t*>(w.index) + i);
    even_and_odd(v, at, static_cast<__mmask16>(_pext_u32(m, 0x55555555)),
                 static_cast<__mmask16>(_pext_u32(m, 0xaaaaaaaa)), x, sum);
  } else {
    sum[0] = sixteen_columns<half, wide>(w, i, static_cast<__mmask16>(m), x, sum[0]);
    if (!second) return;
    sum[1] = sixteen_columns<half, wide>(w, i + 16, static_cast<__mmask16>(m >> 16), x, sum[1]);
  }
}

// S rows together: their values and columns are streams that memory serves side by side, and how
// many steps a row takes is guessed wrong once for all of them.
template <bool half, bool wide, int S>
static inline void columns(const Matrix& w, const Input& x, Rows rows, float* y, char*) {
  int64_t at[S], left[S], least = INT64_MAX, most = 0;
  __m512 sum[S][2];
  for (int s = 0; s < S; ++s) {
    const int64_t row = rows.row + s * rows.stride;
    at[s] = first_value(w, row);
    left[s] = w.starts != nullptr ? w.starts[row + 1] - at[s] : w.kept;
    least = left[s] < least ? left[s] : least;
    most = left[s] > most ? left[s] : most;
    sum[s][0] = sum[s][1] = _mm512_setzero_ps();
  }
  int64_t i = 0;
  for (; i + 32 <= least; i += 32) {
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) whole_step<half, wide>(w, at[s] + i, x.natural, sum[s]);
  }
  for (; i < most; i += 32) {
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) {
      const int64_t count = left[s] - i < 0 ? 0 : left[s] - i < 32 ? left[s] - i : 32;
      const uint32_t m = _bzhi_u32(0xffffffff, static_cast<uint32_t>(count));
      masked_step<half, wide>(w, at[s] + i, m, most - i > 16, x.natural, sum[s]);
    }
  }
  for (int s = 0; s < S; ++s) {
    y[rows.row + s * rows.stride] = _mm512_reduce_add_ps(_mm512_add_ps(sum[s][0], sum[s][1]));
  }
}

template <bool half, bool wide>
static void walk_columns(const Matrix& w, const Input& x, int64_t r0, int64_t r1, float* y,
                         char* scratch) {
  constexpr int S = half ? 4 : 2;  // more streams of floats are slower
  walk<S, columns<half, wide, S>, columns<half, wide, 1>>(w, x, r0, r1, y, scratch);
}

static void gemv_columns(const Matrix& w, const Input& x, int64_t r0, int64_t r1, float* y,
                         char* scratch) {
  if (w.half && w.wide) walk_columns<true, true>(w, x, r0, r1, y, scratch);
  else if (w.half) walk_columns<true, false>(w, x, r0, r1, y, scratch);
  else if (w.wide) walk_columns<false, true>(w, x, r0, r1, y, scratch);
  else walk_columns<false, false>(w, x, r0, r1, y, scratch);
}

}  // namespace gossamer
