// What the AVX-512 kernels share; part of linear_avx512.cpp and of no other file.
#pragma once

#include <immintrin.h>

#include "linear.h"

namespace gossamer {

// How far ahead of its loads a stream is fetched, in bytes. A row of packed values is about as long
// as a page, where the hardware's own prefetch stops.
constexpr int kAhead = 2048, kAheadDense = 1024, kAheadColumns = 1024;

static inline void fetch(const void* p, int ahead) {
  _mm_prefetch(static_cast<const char*>(p) + ahead, _MM_HINT_T0);
}

// The load must stay apart from the expand that follows: folded into one instruction it is run
// from microcode on Zen 4 and 5, eight to ten times slower.
static inline __m512i load_apart(const void* p) {
  __m512i v = _mm512_loadu_si512(p);
  asm("" : "+v"(v));
  return v;
}

static inline __m512 widen16(__m256i packed) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(packed), 16));
}

// Sums of products of 32 bfloat16 with x, whose even columns stand before the odd ones.
static inline void multiply32(__m512i v, const float* x, __m512 sum[2]) {
  const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
  const __m512 odd =
      _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
  sum[0] = _mm512_fmadd_ps(even, _mm512_load_ps(x), sum[0]);
  sum[1] = _mm512_fmadd_ps(odd, _mm512_load_ps(x + 16), sum[1]);
}

// Scratch of one stream: a copy of a row's values, then a row's mask bits.
static int64_t stream_bytes(const Matrix& w) { return row_copy_bytes(w) + bits_bytes(w); }

// 2:4: each index byte holds two groups of two places; each nibble becomes four mask bits.
static void two_four_to_bits(const uint8_t* index, int64_t bytes, uint8_t* bits) {
  const __m512i masks = _mm512_broadcast_i32x4(
      _mm_setr_epi8(1, 3, 5, 9, 3, 2, 6, 10, 5, 6, 4, 12, 9, 10, 12, 8));
  const __m512i low = _mm512_set1_epi8(15);
  for (int64_t j = 0; j < bytes; j += 64) {
    const int64_t left = bytes - j;
    const __mmask64 there = left < 64 ? (uint64_t{1} << left) - 1 : ~uint64_t{0};
    const __m512i v = _mm512_maskz_loadu_epi8(there, index + j);
    const __m512i first = _mm512_shuffle_epi8(masks, _mm512_and_si512(v, low));
    const __m512i second =
        _mm512_shuffle_epi8(masks, _mm512_and_si512(_mm512_srli_epi16(v, 4), low));
    const __m512i both = _mm512_or_si512(first, _mm512_slli_epi16(second, 4));
    _mm512_mask_storeu_epi8(bits + j, there, both);
  }
}

static const uint8_t* row_bits(const Matrix& w, int64_t row, char* scratch) {
  if (w.layout == Layout::bitmask) {
    return static_cast<const uint8_t*>(w.index) + row * row_bytes(w);
  }
  uint8_t* bits = reinterpret_cast<uint8_t*>(scratch + row_copy_bytes(w));
  if (w.n == 2 && w.m == 4 && w.cols % 8 == 0) {
    const int64_t bytes = w.kept / 4;
    two_four_to_bits(static_cast<const uint8_t*>(w.index) + row * bytes, bytes, bits);
  } else {
    places_to_bits(w, row, bits);
  }
  return bits;
}

struct Rows {
  int64_t row, stride;
};

using RowKernel = void (*)(const Matrix& w, const Input& x, Rows rows, float* y, char* scratch);

// All rows of a range: S streams at a time, then what is left one by one.
template <int S, RowKernel many, RowKernel one>
static void walk(const Matrix& w, const Input& x, int64_t r0, int64_t r1, float* y,
                 char* scratch) {
  const int64_t segment = (r1 - r0) / S;
  for (int64_t i = 0; i < segment; ++i) many(w, x, {r0 + i, segment}, y, scratch);
  for (int64_t row = r0 + S * segment; row < r1; ++row) one(w, x, {row, 0}, y, scratch);
}

}  // namespace gossamer
