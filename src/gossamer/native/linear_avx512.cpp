// The kernels for AVX-512 (F, BW, DQ, VL, VBMI2).
//
// bfloat16 is widened to float by a shift and a mask. The dot instruction of AVX512-BF16 was tried
// in its place and is no quicker: it shares a port with the expand.
#include <immintrin.h>

#include "linear.h"

namespace gossamer {

// How far ahead of its loads a stream is fetched, in bytes. A row of packed values is about as long
// as a page, where the hardware's own prefetch stops.
constexpr int kAhead = 2048, kAheadDense = 1024;

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

static int64_t scratch_bytes(const Matrix& w) {
  const bool sparse = w.layout == Layout::bitmask || w.layout == Layout::nm;
  return sparse ? kStreams * stream_bytes(w) : 0;
}

static Order x_order(const Matrix& w) {
  if (!w.half || w.layout == Layout::csr || w.layout == Layout::condensed) return Order::natural;
  return Order::split;
}

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

template <int S>
struct Streams {
  const char* p[S];
  const uint8_t* bits[S];
  __m512 sum[S][2];
};

template <int S>
static inline void open(const Matrix& w, Rows rows, char* scratch, Streams<S>& all) {
  for (int s = 0; s < S; ++s) {
    const int64_t row = rows.row + s * rows.stride;
    char* mine = scratch + s * stream_bytes(w);
    all.p[s] = row_values(w, row, mine);
    all.bits[s] = row_bits(w, row, mine);
    all.sum[s][0] = all.sum[s][1] = _mm512_setzero_ps();
  }
}

template <int S>
static inline void close(Rows rows, const Streams<S>& all, float* y) {
  for (int s = 0; s < S; ++s) {
    y[rows.row + s * rows.stride] =
        _mm512_reduce_add_ps(_mm512_add_ps(all.sum[s][0], all.sum[s][1]));
  }
}

template <int S>
static inline void bitmask_half(const Matrix& w, const Input& x, Rows rows, float* y,
                                char* scratch) {
  Streams<S> all;
  open<S>(w, rows, scratch, all);
  const int64_t bytes = row_bytes(w);
  auto step = [&](int64_t j, auto mask_at) {
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      fetch(all.p[s], kAhead);
      const uint32_t mask = mask_at(all.bits[s] + j);
      const __m512i v = _mm512_maskz_expand_epi16(mask, load_apart(all.p[s]));
      all.p[s] += 2 * static_cast<uint64_t>(_mm_popcnt_u32(mask));
      multiply32(v, x.split + 8 * j, all.sum[s]);
    }
  };
  int64_t j = 0;
  for (; j + 4 <= bytes; j += 4) step(j, [](const uint8_t* b) { return word_at(b); });
  if (j < bytes) step(j, [&](const uint8_t* b) { return last_word(b, bytes - j); });
  close<S>(rows, all, y);
}

template <int S>
static inline void bitmask_float(const Matrix& w, const Input& x, Rows rows, float* y,
                                 char* scratch) {
  Streams<S> all;
  open<S>(w, rows, scratch, all);
  const int64_t bytes = row_bytes(w);
  auto step = [&](int64_t j, auto mask_at) {
    const __m512 xj = _mm512_load_ps(x.natural + 8 * j);
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      fetch(all.p[s], kAhead);
      const __mmask16 mask = mask_at(all.bits[s] + j);
      const __m512 packed = _mm512_castsi512_ps(load_apart(all.p[s]));
      all.p[s] += 4 * static_cast<uint64_t>(_mm_popcnt_u32(mask));
      all.sum[s][0] =
          _mm512_fmadd_ps(_mm512_maskz_expand_ps(mask, packed), xj, all.sum[s][0]);
    }
  };
  int64_t j = 0;
  auto two = [](const uint8_t* b) { return static_cast<__mmask16>(b[0] | b[1] << 8); };
  for (; j + 2 <= bytes; j += 2) step(j, two);
  if (j < bytes) step(j, [](const uint8_t* b) { return static_cast<__mmask16>(b[0]); });
  close<S>(rows, all, y);
}

template <int S>
static inline void dense_half(const Matrix& w, const Input& x, Rows rows, float* y, char*) {
  const uint16_t* p[S];
  __m512 sum[S][2];
  for (int s = 0; s < S; ++s) {
    p[s] = static_cast<const uint16_t*>(w.values) + (rows.row + s * rows.stride) * w.cols;
    sum[s][0] = sum[s][1] = _mm512_setzero_ps();
  }
  int64_t c = 0;
  for (; c + 32 <= w.cols; c += 32) {
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      fetch(p[s] + c, kAheadDense);
      multiply32(_mm512_loadu_si512(p[s] + c), x.split + c, sum[s]);
    }
  }
  const __mmask32 rest = (uint32_t{1} << (w.cols - c)) - 1;
  for (int s = 0; s < S; ++s) {
    if (rest != 0) {
      multiply32(_mm512_maskz_loadu_epi16(rest, p[s] + c), x.split + c, sum[s]);
    }
    y[rows.row + s * rows.stride] = _mm512_reduce_add_ps(_mm512_add_ps(sum[s][0], sum[s][1]));
  }
}

template <int S>
static inline void dense_float(const Matrix& w, const Input& x, Rows rows, float* y, char*) {
  const float* p[S];
  __m512 sum[S];
  for (int s = 0; s < S; ++s) {
    p[s] = static_cast<const float*>(w.values) + (rows.row + s * rows.stride) * w.cols;
    sum[s] = _mm512_setzero_ps();
  }
  int64_t c = 0;
  for (; c + 16 <= w.cols; c += 16) {
    const __m512 xc = _mm512_load_ps(x.natural + c);
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      fetch(p[s] + c, kAheadDense);
      sum[s] = _mm512_fmadd_ps(_mm512_loadu_ps(p[s] + c), xc, sum[s]);
    }
  }
  const __mmask16 rest = static_cast<__mmask16>((1u << (w.cols - c)) - 1);
  for (int s = 0; s < S; ++s) {
    if (rest != 0) {
      const __m512 last = _mm512_maskz_loadu_ps(rest, p[s] + c);
      sum[s] = _mm512_fmadd_ps(last, _mm512_load_ps(x.natural + c), sum[s]);
    }
    y[rows.row + s * rows.stride] = _mm512_reduce_add_ps(sum[s]);
  }
}

// Sixteen values of a row with their columns, those outside the mask as zeros.
static inline __m512 sixteen_columns(const Matrix& w, int64_t i, __mmask16 m, const float* x,
                                     __m512 sum) {
  const __m512i at =
      w.wide ? _mm512_maskz_loadu_epi32(m, static_cast<const int32_t*>(w.index) + i)
             : _mm512_cvtepu16_epi32(
                   _mm256_maskz_loadu_epi16(m, static_cast<const uint16_t*>(w.index) + i));
  const __m512 values =
      w.half ? widen16(_mm256_maskz_loadu_epi16(m, static_cast<const uint16_t*>(w.values) + i))
             : _mm512_maskz_loadu_ps(m, static_cast<const float*>(w.values) + i);
  return _mm512_fmadd_ps(values, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), m, at, x, 4), sum);
}

// Thirty-two bfloat16 values of a row with their 16-bit columns: the even ones, then the odd ones,
// which takes shifts and masks where widening in order would wait for the port of the gathers.
static inline void thirty_two_columns(const void* values, const void* index, const float* x,
                                      __m512 sum[2]) {
  const __m512i v = _mm512_loadu_si512(values), at = _mm512_loadu_si512(index);
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  const __m512 even_x = _mm512_i32gather_ps(_mm512_andnot_si512(high, at), x, 4);
  const __m512 odd_x = _mm512_i32gather_ps(_mm512_srli_epi32(at, 16), x, 4);
  sum[0] = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(v, 16)), even_x, sum[0]);
  sum[1] = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(v, high)), odd_x, sum[1]);
}

static void columns(const Matrix& w, const Input& x, Rows rows, float* y, char*) {
  const int64_t begin = first_value(w, rows.row), step = w.wide ? 4 : 2;
  const int64_t end = w.starts != nullptr ? w.starts[rows.row + 1] : begin + w.kept;
  const char* index = static_cast<const char*>(w.index);
  const char* values = static_cast<const char*>(w.values);
  __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  int64_t i = begin;
  for (; i + 32 <= end; i += 32) {
    fetch(index + i * step, kAheadDense);
    fetch(values + i * value_bytes(w), kAheadDense);
    if (!w.half) fetch(values + i * 4 + 64, kAheadDense);
    if (w.half && !w.wide) {
      thirty_two_columns(values + i * 2, index + i * 2, x.natural, sum);
      continue;
    }
    sum[0] = sixteen_columns(w, i, 0xffff, x.natural, sum[0]);
    sum[1] = sixteen_columns(w, i + 16, 0xffff, x.natural, sum[1]);
  }
  for (; i < end; i += 16) {
    const __mmask16 m =
        end - i < 16 ? static_cast<__mmask16>((1u << (end - i)) - 1) : __mmask16{0xffff};
    sum[0] = sixteen_columns(w, i, m, x.natural, sum[0]);
  }
  y[rows.row] = _mm512_reduce_add_ps(_mm512_add_ps(sum[0], sum[1]));
}

using RowKernel = void (*)(const Matrix& w, const Input& x, Rows rows, float* y, char* scratch);

// All rows of a range: S streams at a time, then what is left one by one.
template <int S, RowKernel many, RowKernel one>
static void walk(const Matrix& w, const Input& x, int64_t r0, int64_t r1, float* y,
                 char* scratch) {
  const int64_t segment = (r1 - r0) / S;
  for (int64_t i = 0; i < segment; ++i) many(w, x, {r0 + i, segment}, y, scratch);
  for (int64_t row = r0 + S * segment; row < r1; ++row) one(w, x, {row, 0}, y, scratch);
}

static void gemv(const Matrix& w, const Input& x, int64_t r0, int64_t r1, float* y, char* t) {
  const bool bits = w.layout == Layout::bitmask || w.layout == Layout::nm;
  if (w.layout == Layout::dense && w.half) {
    walk<4, dense_half<4>, dense_half<1>>(w, x, r0, r1, y, t);
  } else if (w.layout == Layout::dense) {
    walk<4, dense_float<4>, dense_float<1>>(w, x, r0, r1, y, t);
  } else if (bits && w.half) {
    walk<4, bitmask_half<4>, bitmask_half<1>>(w, x, r0, r1, y, t);
  } else if (bits) {
    walk<4, bitmask_float<4>, bitmask_float<1>>(w, x, r0, r1, y, t);
  } else {
    walk<1, columns, columns>(w, x, r0, r1, y, t);
  }
}

static void expand_bits(const Matrix& w, int64_t row, float* out, char* scratch) {
  const char* p = row_values(w, row, scratch);
  const uint8_t* bits = row_bits(w, row, scratch);
  const int64_t bytes = row_bytes(w);
  for (int64_t c = 0; c < padded(w.cols); c += 32) {
    const int64_t left = bytes - c / 8;
    const uint32_t mask = left >= 4 ? word_at(bits + c / 8) : last_word(bits + c / 8, left);
    if (w.half) {
      const __m512i v = _mm512_maskz_expand_epi16(mask, load_apart(p));
      p += 2 * static_cast<uint64_t>(_mm_popcnt_u32(mask));
      _mm512_store_ps(out + c, widen16(_mm512_castsi512_si256(v)));
      _mm512_store_ps(out + c + 16, widen16(_mm512_extracti64x4_epi64(v, 1)));
      continue;
    }
    for (int half = 0; half < 2; ++half) {
      const __mmask16 m = static_cast<__mmask16>(mask >> (16 * half));
      const __m512 packed = _mm512_castsi512_ps(load_apart(p));
      _mm512_store_ps(out + c + 16 * half, _mm512_maskz_expand_ps(m, packed));
      p += 4 * static_cast<uint64_t>(_mm_popcnt_u32(m));
    }
  }
}

static void expand(const Matrix& w, int64_t row, float* out, char* scratch) {
  if (w.layout == Layout::bitmask || w.layout == Layout::nm) {
    expand_bits(w, row, out, scratch);
    return;
  }
  std::memset(out, 0, padded(w.cols) * sizeof(float));
  const int64_t begin = first_value(w, row);
  if (w.layout == Layout::dense) {
    for (int64_t c = 0; c < w.cols; ++c) out[c] = value_at(w, begin + c);
    return;
  }
  const int64_t end = w.starts != nullptr ? w.starts[row + 1] : begin + w.kept;
  for (int64_t i = begin; i < end; ++i) out[column_at(w, i)] = value_at(w, i);
}

// R rows of W times B inputs: R * B sums in registers.
template <int R, int B>
static void tile(const float* w, int64_t ldw, const float* x, int64_t ldx, int64_t width, float* y,
                 int64_t ldy) {
  __m512 sum[R][B];
  for (int r = 0; r < R; ++r) {
    for (int b = 0; b < B; ++b) sum[r][b] = _mm512_setzero_ps();
  }
  for (int64_t c = 0; c < width; c += 16) {
    __m512 wr[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) wr[r] = _mm512_load_ps(w + r * ldw + c);
#pragma GCC unroll 6
    for (int b = 0; b < B; ++b) {
      const __m512 xb = _mm512_load_ps(x + b * ldx + c);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[r][b] = _mm512_fmadd_ps(wr[r], xb, sum[r][b]);
    }
  }
  for (int b = 0; b < B; ++b) {
    for (int r = 0; r < R; ++r) y[b * ldy + r] += _mm512_reduce_add_ps(sum[r][b]);
  }
}

template <int R>
static void tiles(const float* w, int64_t ldw, const float* x, int64_t ldx, int64_t batch,
                  int64_t width, float* y, int64_t ldy) {
  int64_t b = 0;
  for (; b + 6 <= batch; b += 6) tile<R, 6>(w, ldw, x + b * ldx, ldx, width, y + b * ldy, ldy);
  for (; b + 2 <= batch; b += 2) tile<R, 2>(w, ldw, x + b * ldx, ldx, width, y + b * ldy, ldy);
  if (b < batch) tile<R, 1>(w, ldw, x + b * ldx, ldx, width, y + b * ldy, ldy);
}

static void product(const float* w, int64_t ldw, int64_t rows, const float* x, int64_t ldx,
                    int64_t batch, int64_t width, float* y, int64_t ldy) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) tiles<4>(w + r * ldw, ldw, x, ldx, batch, width, y + r, ldy);
  for (; r < rows; ++r) tiles<1>(w + r * ldw, ldw, x, ldx, batch, width, y + r, ldy);
}

// Four streams of whole cache lines, then the rest.
static uint64_t read(const char* bytes, int64_t count) {
  constexpr int kSegments = 4;
  const int64_t segment = count / kSegments / 64 * 64;
  __m512i all[kSegments];
  for (int s = 0; s < kSegments; ++s) all[s] = _mm512_setzero_si512();
  for (int64_t i = 0; i < segment; i += 64) {
#pragma GCC unroll 4
    for (int s = 0; s < kSegments; ++s) {
      fetch(bytes + s * segment + i, kAheadDense);
      all[s] = _mm512_or_si512(all[s], _mm512_loadu_si512(bytes + s * segment + i));
    }
  }
  for (int s = 1; s < kSegments; ++s) all[0] = _mm512_or_si512(all[0], all[s]);
  uint64_t result = static_cast<uint64_t>(_mm512_reduce_or_epi64(all[0]));
  for (int64_t i = kSegments * segment; i < count; ++i) result |= static_cast<uint8_t>(bytes[i]);
  return result;
}

const Kernels& avx512_kernels() {
  static constexpr Kernels kernels = {16, scratch_bytes, x_order, gemv, expand, product, read};
  return kernels;
}

}  // namespace gossamer
