// Weights on a grid with AVX2; part of linear_avx2.cpp and of no other file.
//
// A code becomes the float 2^23 + code by placing its byte into one whose other bytes are there
// already, so that one subtraction of 2^23 + zero gives code - zero exactly.
#pragma once

#include <immintrin.h>

#include "codes.h"
#include "expand_avx2.h"

namespace gossamer {

alignas(64) static constexpr CodeTable kCodes = code_controls();

constexpr int kCodeStep = 32;  // columns

static inline __m256 magic(int zero) {
  return _mm256_castsi256_ps(_mm256_set1_epi32(0x4b000000 | zero));
}

// Eight columns: code - zero where the mask is set, 0 elsewhere. The field is the mask times 32; p
// moves past the codes.
static inline __m256 place8(const char*& p, const uint8_t* table, uint64_t field, __m256 zero) {
  int64_t eight;
  std::memcpy(&eight, p, 8);
  const __m256 twice = _mm256_castsi256_ps(_mm256_set1_epi64x(eight));
  const __m256i source = _mm256_castps_si256(_mm256_blend_ps(twice, zero, 0xcc));
  p += static_cast<uint64_t>(_mm_popcnt_u64(field));
  const __m256i placed = _mm256_shuffle_epi8(source, control(table, field));
  return _mm256_sub_ps(_mm256_castsi256_ps(placed), zero);
}

// 32 columns of one row of codes.
static inline void place32(uint32_t word, const char*& p, const uint8_t* table, __m256 zero,
                           __m256 out[4]) {
  uint64_t fields = _pdep_u64(word, 0x1fe01fe01fe01fe0);  // four mask bytes, each times 32
  out[0] = place8(p, table, fields & 0xffff, zero);
  fields = next_field(fields);
  out[1] = place8(p, table, fields & 0xffff, zero);
  fields = next_field(fields);
  out[2] = place8(p, table, fields & 0xffff, zero);
  fields = next_field(fields);
  out[3] = place8(p, table, fields, zero);
}

template <int S>
static inline void codes(const Matrix& w, const float* x, Rows rows, float* y, char* scratch) {
  const uint8_t* table = kCodes.bytes;
  asm("" : "+r"(table));
  const int64_t width = run_width(w), bytes = (width + 7) / 8;
  const char* p[S];
  const uint8_t* bits[S];
  __m256 total[S];
  for (int s = 0; s < S; ++s) {
    char* mine = scratch + s * stream_bytes(w);
    p[s] = row_codes(w, rows.row + s * rows.stride, mine);
    bits[s] = row_bits(w, rows.row + s * rows.stride, mine);
    total[s] = _mm256_setzero_ps();
  }
  for (int64_t run = 0; run < w.grid.runs; ++run) {
    __m256 zero[S], sum[S];
    for (int s = 0; s < S; ++s) {
      zero[s] = magic(w.grid.zeros[(rows.row + s * rows.stride) * w.grid.runs + run]);
      sum[s] = _mm256_setzero_ps();
    }
    auto step = [&](int64_t j, auto word_of) {
      const __m256 x0 = _mm256_load_ps(x + 8 * j), x1 = _mm256_load_ps(x + 8 * j + 8);
      const __m256 x2 = _mm256_load_ps(x + 8 * j + 16), x3 = _mm256_load_ps(x + 8 * j + 24);
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) {
        __m256 v[4];
        place32(word_of(bits[s] + j), p[s], table, zero[s], v);
        sum[s] = _mm256_fmadd_ps(v[0], x0, sum[s]);
        sum[s] = _mm256_fmadd_ps(v[1], x1, sum[s]);
        sum[s] = _mm256_fmadd_ps(v[2], x2, sum[s]);
        sum[s] = _mm256_fmadd_ps(v[3], x3, sum[s]);
      }
    };
    int64_t j = run * bytes;
    const int64_t end = j + bytes;
    for (; j + 4 <= end; j += 4) step(j, [](const uint8_t* b) { return word_at(b); });
    if (j < end) step(j, [&](const uint8_t* b) { return last_word(b, end - j); });
    for (int s = 0; s < S; ++s) {
      const float scale = w.grid.scales[(rows.row + s * rows.stride) * w.grid.runs + run];
      total[s] = _mm256_fmadd_ps(sum[s], _mm256_set1_ps(scale), total[s]);
    }
  }
  for (int s = 0; s < S; ++s) y[rows.row + s * rows.stride] = sum8(total[s]);
}

static void expand_grid(const Matrix& w, int64_t row, float* out, char* scratch) {
  const char* p = row_codes(w, row, scratch);
  const uint8_t* bits = row_bits(w, row, scratch);
  if (!runs_are_whole(w, kCodeStep)) {
    expand_codes(w, row, p, bits, out);
    return;
  }
  const int64_t bytes = row_bytes(w);
  const int64_t done = (bytes + 3) / 4 * 32;
  std::memset(out + done, 0, (padded(w.cols) - done) * sizeof(float));
  for (int64_t j = 0; j < bytes; j += 4) {
    const int64_t at = row * w.grid.runs + (w.grid.runs > 1 ? 8 * j / run_width(w) : 0);
    const uint32_t word = bytes - j >= 4 ? word_at(bits + j) : last_word(bits + j, bytes - j);
    const __m256 scale = _mm256_set1_ps(w.grid.scales[at]);
    __m256 v[4];
    place32(word, p, kCodes.bytes, magic(w.grid.zeros[at]), v);
    for (int k = 0; k < 4; ++k) _mm256_store_ps(out + 8 * (j + k), _mm256_mul_ps(v[k], scale));
  }
}

}  // namespace gossamer
