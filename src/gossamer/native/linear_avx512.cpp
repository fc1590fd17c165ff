// The kernels for AVX-512 (F, BW, DQ, VL, VBMI2, VNNI).
//
// bfloat16 is widened to float by a shift and a mask. The dot instruction of AVX512-BF16 was tried
// in its place and is no quicker: it shares a port with the expand.
#include <immintrin.h>

#include "codes_avx512.h"
#include "columns_avx512.h"
#include "expand_avx512.h"
#include "linear.h"

namespace gossamer {

static int64_t scratch_bytes(const Matrix& w) {
  const bool sparse = w.layout == Layout::bitmask || w.layout == Layout::nm;
  const int64_t row = w.grid.bits != 0 ? padded(w.cols) * 4 : 0;
  return sparse ? kStreams * stream_bytes(w) + row : 0;
}

static Order x_order(const Matrix& w) {
  if (w.grid.bits != 0) return runs_are_whole(w, kCodeStep) ? Order::digits : Order::natural;
  if (!w.half || w.layout == Layout::csr || w.layout == Layout::condensed) return Order::natural;
  return Order::split;
}

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

static void product(const float* w, int64_t ldw, int64_t rows, const float* x, int64_t ldx,
                    int64_t batch, int64_t width, float* y, int64_t ldy);

// Codes whose scales change inside of a step, or inputs that are not finite.
static void expanded_row(const Matrix& w, const Input& x, Rows rows, float* y, char* scratch) {
  const int64_t width = padded(w.cols);
  float* row = reinterpret_cast<float*>(scratch + kStreams * stream_bytes(w));
  expand_grid(w, rows.row, row, scratch);
  y[rows.row] = 0.0f;
  product(row, width, 1, x.natural, width, 1, width, y + rows.row, 1);
}

static void gemv(const Matrix& w, const Input& x, int64_t r0, int64_t r1, float* y, char* t) {
  const bool bits = w.layout == Layout::bitmask || w.layout == Layout::nm;
  if (w.grid.bits != 0 && x.digits.places != nullptr) {
    walk<4, codes<4>, codes<1>>(w, x, r0, r1, y, t);
  } else if (w.grid.bits != 0) {
    walk<1, expanded_row, expanded_row>(w, x, r0, r1, y, t);
  } else if (w.layout == Layout::dense && w.half) {
    walk<4, dense_half<4>, dense_half<1>>(w, x, r0, r1, y, t);
  } else if (w.layout == Layout::dense) {
    walk<4, dense_float<4>, dense_float<1>>(w, x, r0, r1, y, t);
  } else if (bits && w.half) {
    walk<4, bitmask_half<4>, bitmask_half<1>>(w, x, r0, r1, y, t);
  } else if (bits) {
    walk<4, bitmask_float<4>, bitmask_float<1>>(w, x, r0, r1, y, t);
  } else {
    gemv_columns(w, x, r0, r1, y, t);
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
  if (w.grid.bits != 0) {
    expand_grid(w, row, out, scratch);
    return;
  }
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
