// Expanding packed rows with AVX2; part of linear_avx2.cpp and of no other file.
#pragma once

#include <immintrin.h>

#include "linear.h"
#include "tables.h"

namespace gossamer {

alignas(64) static constexpr ControlTables kMask = mask_controls();
alignas(64) static constexpr ControlTables kTwoFour = two_four_controls();
alignas(64) static constexpr LaneTable kMaskLanes = mask_lanes();
alignas(64) static constexpr LaneTable kTwoFourLanes = two_four_lanes();

static inline float sum8(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline __m256i load_twice(const char* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

static inline __m256i control(const uint8_t* table, uint64_t offset) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(table + offset));
}

// Eight bfloat16 as floats.
static inline __m256 widen(const void* p) {
  const __m128i packed = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(packed), 16));
}

static inline uint64_t next_field(uint64_t fields) {
  asm("shr $16, %0" : "+r"(fields));  // the compiler would rather copy and shift by 16, 32 and 48
  return fields;
}

// Scratch of one stream: a copy of a row's values, then a row's mask bits.
static int64_t stream_bytes(const Matrix& w) { return row_copy_bytes(w) + bits_bytes(w); }

// True where the index bytes of 2:4 are read as they are; others go by mask bits.
static bool is_two_four(const Matrix& w) {
  return w.layout == Layout::nm && w.n == 2 && w.m == 4 && w.cols % 8 == 0;
}

static inline const uint8_t* row_places(const Matrix& w, int64_t row) {
  return static_cast<const uint8_t*>(w.index) + row * (w.kept / 4);
}

// 2:4: each index byte holds two groups of two places; each nibble becomes four mask bits.
static inline void two_four_to_bits(const uint8_t* index, int64_t bytes, uint8_t* bits) {
  const __m128i masks = _mm_setr_epi8(1, 3, 5, 9, 3, 2, 6, 10, 5, 6, 4, 12, 9, 10, 12, 8);
  const __m128i low = _mm_set1_epi8(15);
  auto convert = [&](__m128i v) {
    const __m128i first = _mm_shuffle_epi8(masks, _mm_and_si128(v, low));
    const __m128i second = _mm_shuffle_epi8(masks, _mm_and_si128(_mm_srli_epi16(v, 4), low));
    return _mm_or_si128(first, _mm_slli_epi16(second, 4));
  };
  for (int64_t j = 0; j < bytes; j += 16) {
    const int64_t count = bytes - j < 16 ? bytes - j : 16;
    alignas(16) uint8_t part[16] = {};
    std::memcpy(part, index + j, count);
    _mm_store_si128(reinterpret_cast<__m128i*>(part),
                    convert(_mm_load_si128(reinterpret_cast<const __m128i*>(part))));
    std::memcpy(bits + j, part, count);
  }
}

static const uint8_t* row_bits(const Matrix& w, int64_t row, char* scratch) {
  if (w.layout == Layout::bitmask) {
    return static_cast<const uint8_t*>(w.index) + row * row_bytes(w);
  }
  uint8_t* bits = reinterpret_cast<uint8_t*>(scratch + row_copy_bytes(w));
  if (is_two_four(w)) two_four_to_bits(row_places(w, row), w.kept / 4, bits);
  else places_to_bits(w, row, bits);
  return bits;
}

// One row of each of S streams: rows row, row + stride, row + 2 * stride, …
struct Rows {
  int64_t row, stride;
};

// 32 columns of one row of bfloat16 values: expands them and moves p past them.
static inline void expand32(uint32_t word, const char*& p, const uint8_t* table, __m256 out[4]) {
  uint64_t fields = _pdep_u64(word, 0x1fe01fe01fe01fe0);  // four mask bytes, each times 32
  uint32_t half;
  asm("popcnt %1, %0" : "=r"(half) : "r"(static_cast<uint32_t>(fields)) : "cc");
  const char* middle = p + 2 * static_cast<uint64_t>(half);
  const __m256i v0 = _mm256_shuffle_epi8(load_twice(p), control(table, fields & 0xffff));
  fields = next_field(fields);
  const __m256i v1 =
      _mm256_shuffle_epi8(load_twice(middle - 16), control(table + kTable, fields & 0xffff));
  fields = next_field(fields);
  const __m256i v2 = _mm256_shuffle_epi8(load_twice(middle), control(table, fields & 0xffff));
  fields = next_field(fields);
  p += 2 * static_cast<uint64_t>(_mm_popcnt_u32(word));
  const __m256i v3 = _mm256_shuffle_epi8(load_twice(p - 16), control(table + kTable, fields));
  out[0] = _mm256_castsi256_ps(v0);
  out[1] = _mm256_castsi256_ps(v1);
  out[2] = _mm256_castsi256_ps(v2);
  out[3] = _mm256_castsi256_ps(v3);
}

template <int S>
static inline void bitmask_half(const Matrix& w, const float* x, Rows rows, float* y,
                                char* scratch) {
  const uint8_t* table = kMask.bytes;
  asm("" : "+r"(table));  // keeps both tables on one base register
  const char* p[S];
  const uint8_t* bits[S];
  __m256 sum[S][2];
  for (int s = 0; s < S; ++s) {
    const int64_t row = rows.row + s * rows.stride;
    char* mine = scratch + s * stream_bytes(w);
    p[s] = row_values(w, row, mine);
    bits[s] = row_bits(w, row, mine);
    sum[s][0] = sum[s][1] = _mm256_setzero_ps();
  }
  const int64_t bytes = row_bytes(w);
  auto step = [&](int64_t j, auto word_of) {
    const __m256 x0 = _mm256_load_ps(x + 8 * j), x1 = _mm256_load_ps(x + 8 * j + 8);
    const __m256 x2 = _mm256_load_ps(x + 8 * j + 16), x3 = _mm256_load_ps(x + 8 * j + 24);
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      __m256 v[4];
      expand32(word_of(bits[s] + j), p[s], table, v);
      sum[s][0] = _mm256_fmadd_ps(v[0], x0, sum[s][0]);
      sum[s][1] = _mm256_fmadd_ps(v[1], x1, sum[s][1]);
      sum[s][0] = _mm256_fmadd_ps(v[2], x2, sum[s][0]);
      sum[s][1] = _mm256_fmadd_ps(v[3], x3, sum[s][1]);
    }
  };
  int64_t j = 0;
  for (; j + 4 <= bytes; j += 4) step(j, [](const uint8_t* b) { return word_at(b); });
  if (j < bytes) step(j, [&](const uint8_t* b) { return last_word(b, bytes - j); });
  for (int s = 0; s < S; ++s) {
    y[rows.row + s * rows.stride] = sum8(_mm256_add_ps(sum[s][0], sum[s][1]));
  }
}

// Eight columns of float values by the lanes of a table.
static inline __m256 expand8(const char* p, const int32_t* lanes) {
  const __m256i places = _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes));
  const __m256 packed = _mm256_loadu_ps(reinterpret_cast<const float*>(p));
  const __m256 spread = _mm256_permutevar8x32_ps(packed, places);
  return _mm256_blendv_ps(spread, _mm256_setzero_ps(), _mm256_castsi256_ps(places));
}

template <int S>
static inline void bitmask_float(const Matrix& w, const float* x, Rows rows, float* y,
                                 char* scratch) {
  const char* p[S];
  const uint8_t* bits[S];
  __m256 sum[S];
  for (int s = 0; s < S; ++s) {
    const int64_t row = rows.row + s * rows.stride;
    char* mine = scratch + s * stream_bytes(w);
    p[s] = row_values(w, row, mine);
    bits[s] = row_bits(w, row, mine);
    sum[s] = _mm256_setzero_ps();
  }
  for (int64_t j = 0; j < row_bytes(w); ++j) {
    const __m256 xj = _mm256_load_ps(x + 8 * j);
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      const uint32_t mask = bits[s][j];
      sum[s] = _mm256_fmadd_ps(expand8(p[s], kMaskLanes.lanes + 8 * mask), xj, sum[s]);
      p[s] += 4 * _mm_popcnt_u32(mask);
    }
  }
  for (int s = 0; s < S; ++s) y[rows.row + s * rows.stride] = sum8(sum[s]);
}

// 2:4 in bfloat16: two index bytes, eight values, sixteen columns a step.
template <int S>
static inline void two_four_half(const Matrix& w, const float* x, Rows rows, float* y,
                                 char* scratch) {
  const uint8_t* table = kTwoFour.bytes;
  asm("" : "+r"(table));
  const char* p[S];
  const uint8_t* places[S];
  __m256 sum[S][2];
  for (int s = 0; s < S; ++s) {
    const int64_t row = rows.row + s * rows.stride;
    p[s] = row_values(w, row, scratch + s * stream_bytes(w));
    places[s] = row_places(w, row);
    sum[s][0] = sum[s][1] = _mm256_setzero_ps();
  }
  const int64_t bytes = w.kept / 4;
  int64_t j = 0;
  for (; j + 2 <= bytes; j += 2) {
    const __m256 x0 = _mm256_load_ps(x + 8 * j), x1 = _mm256_load_ps(x + 8 * j + 8);
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      const __m256i values = load_twice(p[s] + 8 * j);
      const __m256i c0 = control(table, places[s][j] * kControl);
      const __m256i c1 = control(table + kTable, places[s][j + 1] * kControl);
      const __m256 v0 = _mm256_castsi256_ps(_mm256_shuffle_epi8(values, c0));
      const __m256 v1 = _mm256_castsi256_ps(_mm256_shuffle_epi8(values, c1));
      sum[s][0] = _mm256_fmadd_ps(v0, x0, sum[s][0]);
      sum[s][1] = _mm256_fmadd_ps(v1, x1, sum[s][1]);
    }
  }
  for (int s = 0; s < S; ++s) {
    if (j < bytes) {
      const __m256i c = control(table, places[s][j] * kControl);
      const __m256i v = _mm256_shuffle_epi8(load_twice(p[s] + 8 * j), c);
      sum[s][0] = _mm256_fmadd_ps(_mm256_castsi256_ps(v), _mm256_load_ps(x + 8 * j), sum[s][0]);
    }
    y[rows.row + s * rows.stride] = sum8(_mm256_add_ps(sum[s][0], sum[s][1]));
  }
}

// 2:4 in floats: one index byte, four values, eight columns a step.
template <int S>
static inline void two_four_float(const Matrix& w, const float* x, Rows rows, float* y,
                                  char* scratch) {
  const char* p[S];
  const uint8_t* places[S];
  __m256 sum[S];
  for (int s = 0; s < S; ++s) {
    const int64_t row = rows.row + s * rows.stride;
    p[s] = row_values(w, row, scratch + s * stream_bytes(w));
    places[s] = row_places(w, row);
    sum[s] = _mm256_setzero_ps();
  }
  for (int64_t j = 0; j < w.kept / 4; ++j) {
    const __m256 xj = _mm256_load_ps(x + 8 * j);
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      const int32_t* lanes = kTwoFourLanes.lanes + 8 * places[s][j];
      sum[s] = _mm256_fmadd_ps(expand8(p[s] + 16 * j, lanes), xj, sum[s]);
    }
  }
  for (int s = 0; s < S; ++s) y[rows.row + s * rows.stride] = sum8(sum[s]);
}

}  // namespace gossamer
