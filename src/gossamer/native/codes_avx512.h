// Weights on a grid with AVX-512; part of linear_avx512.cpp and of no other file.
//
// x is taken as whole numbers of four digits (Digits), so that sums of products with codes are
// exact and 64 columns take four multiplications. Absent columns get the code that means zero.
#pragma once

#include <immintrin.h>

#include "codes.h"
#include "expand_avx512.h"

namespace gossamer {

constexpr int kCodeStep = 64;  // columns

static inline uint64_t mask64(const uint8_t* bits, int64_t bytes) {
  uint64_t mask = 0;
  if (bytes >= 8) {
    std::memcpy(&mask, bits, 8);
    return mask;
  }
  for (int64_t i = 0; i < bytes; ++i) mask |= static_cast<uint64_t>(bits[i]) << (8 * i);
  return mask;
}

// The codes of 64 columns, the given one where the mask is not set; moves p past them.
static inline __m512i place64(uint64_t mask, const char*& p, __m512i absent) {
  const __m512i v = _mm512_mask_expand_epi8(absent, mask, load_apart(p));
  p += static_cast<uint64_t>(_mm_popcnt_u64(mask));
  return v;
}

// The intrinsic makes GCC copy every sum there and back.
static inline __m512i add_products(__m512i sum, __m512i codes, __m512i digits) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(digits));
  return sum;
}

template <int S>
struct CodeStreams {
  const char* p[S];
  const uint8_t* bits[S];
  __m512 total[S];
};

// Columns of one part, from byte `from` of the mask on: adds their product to the totals.
template <int S>
static inline void add_part(const Matrix& w, const Input& x, Rows rows, int64_t run, int64_t from,
                            int64_t bytes, const int32_t* sums, CodeStreams<S>& all) {
  __m512i absent[S], product[S][4];
  for (int s = 0; s < S; ++s) {
    const int64_t at = (rows.row + s * rows.stride) * w.grid.runs + run;
    absent[s] = _mm512_set1_epi8(static_cast<char>(w.grid.zeros[at]));
    for (int k = 0; k < 4; ++k) product[s][k] = _mm512_setzero_si512();
  }
  auto step = [&](int64_t j, auto mask_at) {
    const int8_t* places = x.digits.places + 32 * j;
    const __m512i digits[4] = {_mm512_load_si512(places), _mm512_load_si512(places + 64),
                               _mm512_load_si512(places + 128), _mm512_load_si512(places + 192)};
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) {
      fetch(all.p[s], kAhead);
      const __m512i v = place64(mask_at(all.bits[s] + j), all.p[s], absent[s]);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) product[s][k] = add_products(product[s][k], v, digits[k]);
    }
  };
  int64_t j = from;
  for (; j + 8 <= from + bytes; j += 8) step(j, [](const uint8_t* b) { return mask64(b, 8); });
  if (j < from + bytes) step(j, [&](const uint8_t* b) { return mask64(b, from + bytes - j); });
  for (int s = 0; s < S; ++s) {
    const int64_t at = (rows.row + s * rows.stride) * w.grid.runs + run;
    const __m512i zero = _mm512_set1_epi32(w.grid.zeros[at]);
    float unit = w.grid.scales[at] * x.digits.step;
    for (int k = 0; k < 4; ++k, unit *= 256.0f) {
      const __m512i past = _mm512_mullo_epi32(zero, _mm512_loadu_si512(sums + 16 * k));
      const __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(product[s][k], past));
      all.total[s] = _mm512_fmadd_ps(exact, _mm512_set1_ps(unit), all.total[s]);
    }
  }
}

template <int S>
static inline void codes(const Matrix& w, const Input& x, Rows rows, float* y, char* scratch) {
  CodeStreams<S> all;
  for (int s = 0; s < S; ++s) {
    char* mine = scratch + s * stream_bytes(w);
    all.p[s] = row_codes(w, rows.row + s * rows.stride, mine);
    all.bits[s] = row_bits(w, rows.row + s * rows.stride, mine);
    all.total[s] = _mm512_setzero_ps();
  }
  const int64_t width = (run_width(w) + 7) / 8;  // bytes
  const int32_t* sums = x.digits.sums;
  for (int64_t run = 0; run < w.grid.runs; ++run) {
    for (int64_t done = 0; done < width; done += kPart / 8, sums += 64) {
      const int64_t bytes = width - done < kPart / 8 ? width - done : kPart / 8;
      add_part<S>(w, x, rows, run, run * width + done, bytes, sums, all);
    }
  }
  for (int s = 0; s < S; ++s) {
    y[rows.row + s * rows.stride] = _mm512_reduce_add_ps(all.total[s]);
  }
}

static void expand_grid(const Matrix& w, int64_t row, float* out, char* scratch) {
  const char* p = row_codes(w, row, scratch);
  const uint8_t* bits = row_bits(w, row, scratch);
  if (!runs_are_whole(w, kCodeStep)) {
    expand_codes(w, row, p, bits, out);
    return;
  }
  for (int64_t c = 0; c < padded(w.cols); c += 64) {
    const int64_t at = row * w.grid.runs + (w.grid.runs > 1 ? c / run_width(w) : 0);
    const __m512i zero = _mm512_set1_epi32(w.grid.zeros[at]);
    const __m512 scale = _mm512_set1_ps(w.grid.scales[at]);
    const uint64_t mask = mask64(bits + c / 8, row_bytes(w) - c / 8);
    alignas(64) uint8_t placed[64];
    _mm512_store_si512(placed, place64(mask, p, _mm512_set1_epi8(static_cast<char>(
                                                    w.grid.zeros[at]))));
    for (int k = 0; k < 4; ++k) {
      const __m512i code = _mm512_cvtepu8_epi32(
          _mm_load_si128(reinterpret_cast<const __m128i*>(placed + 16 * k)));
      const __m512 whole = _mm512_cvtepi32_ps(_mm512_sub_epi32(code, zero));
      _mm512_store_ps(out + c + 16 * k, _mm512_mul_ps(whole, scale));
    }
  }
}

}  // namespace gossamer
