// The kernels for AVX2 and FMA.
//
// The read bandwidth of one core grows with the number of sequential streams that it follows, so
// gemv cuts its rows into a few segments and walks them side by side, one row of each at a time.
#include <immintrin.h>

#include "codes_avx2.h"
#include "expand_avx2.h"
#include "linear.h"

namespace gossamer {

static int64_t scratch_bytes(const Matrix& w) {
  const bool sparse = w.layout == Layout::bitmask || w.layout == Layout::nm;
  const int64_t row = w.grid.bits != 0 ? padded(w.cols) * 4 : 0;
  return sparse ? kStreams * stream_bytes(w) + row : 0;
}

static Order x_order(const Matrix& w) {
  return w.layout == Layout::dense && w.half ? Order::split : Order::natural;
}

using RowKernel = void (*)(const Matrix& w, const float* x, Rows rows, float* y, char* scratch);

// All rows of a range: S streams at a time, then what is left one by one.
template <int S, RowKernel many, RowKernel one>
static void walk(const Matrix& w, const float* x, int64_t r0, int64_t r1, float* y,
                 char* scratch) {
  const int64_t segment = (r1 - r0) / S;
  for (int64_t i = 0; i < segment; ++i) many(w, x, {r0 + i, segment}, y, scratch);
  for (int64_t row = r0 + S * segment; row < r1; ++row) one(w, x, {row, 0}, y, scratch);
}

// The hardware's own prefetch stops at the end of a page, which is soon in a row of weights. The
// kernels of packed layouts wait for instructions and not for memory: there it gains nothing.
static inline void fetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p) + 1024, _MM_HINT_T0);
}

template <int S>
static inline void dense_half(const Matrix& w, const float* x, Rows rows, float* y, char*) {
  const __m256i odd = _mm256_set1_epi32(static_cast<int>(0xffff0000));
  const uint16_t* p[S];
  __m256 sum[S][2];
  for (int s = 0; s < S; ++s) {
    p[s] = static_cast<const uint16_t*>(w.values) + (rows.row + s * rows.stride) * w.cols;
    sum[s][0] = sum[s][1] = _mm256_setzero_ps();
  }
  auto step = [&](int64_t c, auto load) {
    const __m256 even_x = _mm256_load_ps(x + c), odd_x = _mm256_load_ps(x + c + 8);
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      fetch(p[s] + c);
      const __m256i v = load(p[s] + c);
      const __m256 even_v = _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
      const __m256 odd_v = _mm256_castsi256_ps(_mm256_and_si256(v, odd));
      sum[s][0] = _mm256_fmadd_ps(even_v, even_x, sum[s][0]);
      sum[s][1] = _mm256_fmadd_ps(odd_v, odd_x, sum[s][1]);
    }
  };
  int64_t c = 0;
  for (; c + 16 <= w.cols; c += 16) {
    step(c, [](const uint16_t* q) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q));
    });
  }
  if (c < w.cols) {
    step(c, [&](const uint16_t* q) {
      alignas(32) uint16_t rest[16] = {};
      std::memcpy(rest, q, (w.cols - c) * 2);
      return _mm256_load_si256(reinterpret_cast<const __m256i*>(rest));
    });
  }
  for (int s = 0; s < S; ++s) {
    y[rows.row + s * rows.stride] = sum8(_mm256_add_ps(sum[s][0], sum[s][1]));
  }
}

template <int S>
static inline void dense_float(const Matrix& w, const float* x, Rows rows, float* y, char*) {
  const float* p[S];
  __m256 sum[S][2];
  for (int s = 0; s < S; ++s) {
    p[s] = static_cast<const float*>(w.values) + (rows.row + s * rows.stride) * w.cols;
    sum[s][0] = sum[s][1] = _mm256_setzero_ps();
  }
  int64_t c = 0;
  for (; c + 16 <= w.cols; c += 16) {
    const __m256 x0 = _mm256_load_ps(x + c), x1 = _mm256_load_ps(x + c + 8);
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      fetch(p[s] + c);
      sum[s][0] = _mm256_fmadd_ps(_mm256_loadu_ps(p[s] + c), x0, sum[s][0]);
      sum[s][1] = _mm256_fmadd_ps(_mm256_loadu_ps(p[s] + c + 8), x1, sum[s][1]);
    }
  }
  for (int s = 0; s < S; ++s) {
    float total = sum8(_mm256_add_ps(sum[s][0], sum[s][1]));
    for (int64_t rest = c; rest < w.cols; ++rest) total += p[s][rest] * x[rest];
    y[rows.row + s * rows.stride] = total;
  }
}

// Four floats of x at the columns i, i + 1, …; quicker on most CPUs than a gather.
template <bool wide>
static inline __m128 pick4(const Matrix& w, int64_t i, const float* x) {
  if constexpr (wide) {
    const int32_t* c = static_cast<const int32_t*>(w.index) + i;
    const __m128 low = _mm_insert_ps(_mm_load_ss(x + c[0]), _mm_load_ss(x + c[1]), 0x10);
    const __m128 high = _mm_insert_ps(_mm_load_ss(x + c[2]), _mm_load_ss(x + c[3]), 0x10);
    return _mm_movelh_ps(low, high);
  } else {
    uint64_t c;
    std::memcpy(&c, static_cast<const uint16_t*>(w.index) + i, 8);
    __m128 v = _mm_load_ss(x + (c & 0xffff));
    c = next_field(c);
    v = _mm_insert_ps(v, _mm_load_ss(x + (c & 0xffff)), 0x10);
    c = next_field(c);
    v = _mm_insert_ps(v, _mm_load_ss(x + (c & 0xffff)), 0x20);
    c = next_field(c);
    return _mm_insert_ps(v, _mm_load_ss(x + c), 0x30);
  }
}

template <bool half, bool wide>
static inline __m256 eight_columns(const Matrix& w, int64_t i, const float* x, __m256 sum) {
  const __m256 picked = _mm256_set_m128(pick4<wide>(w, i + 4, x), pick4<wide>(w, i, x));
  const __m256 values = half ? widen(static_cast<const uint16_t*>(w.values) + i)
                             : _mm256_loadu_ps(static_cast<const float*>(w.values) + i);
  return _mm256_fmadd_ps(values, picked, sum);
}

template <bool half, bool wide, int S>
static inline void columns(const Matrix& w, const float* x, Rows rows, float* y, char*) {
  int64_t at[S], end[S], common = INT64_MAX;
  __m256 sum[S];
  for (int s = 0; s < S; ++s) {
    const int64_t row = rows.row + s * rows.stride;
    at[s] = first_value(w, row);
    end[s] = w.starts != nullptr ? w.starts[row + 1] : at[s] + w.kept;
    const int64_t steps = (end[s] - at[s]) / 8;
    common = steps < common ? steps : common;
    sum[s] = _mm256_setzero_ps();
  }
  for (; common > 0; --common) {
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      sum[s] = eight_columns<half, wide>(w, at[s], x, sum[s]);
      at[s] += 8;
    }
  }
  for (int s = 0; s < S; ++s) {
    for (; at[s] + 8 <= end[s]; at[s] += 8) {
      sum[s] = eight_columns<half, wide>(w, at[s], x, sum[s]);
    }
    float total = sum8(sum[s]);
    for (; at[s] < end[s]; ++at[s]) total += value_at(w, at[s]) * x[column_at(w, at[s])];
    y[rows.row + s * rows.stride] = total;
  }
}

template <bool half>
static void gemv_of(const Matrix& w, const Input& x, int64_t r0, int64_t r1, float* y, char* s) {
  if (w.layout == Layout::dense) {
    if constexpr (half) walk<6, dense_half<6>, dense_half<1>>(w, x.split, r0, r1, y, s);
    else walk<6, dense_float<6>, dense_float<1>>(w, x.natural, r0, r1, y, s);
  } else if (is_two_four(w)) {
    if constexpr (half) walk<4, two_four_half<4>, two_four_half<1>>(w, x.natural, r0, r1, y, s);
    else walk<4, two_four_float<4>, two_four_float<1>>(w, x.natural, r0, r1, y, s);
  } else if (w.layout == Layout::bitmask || w.layout == Layout::nm) {
    if constexpr (half) walk<4, bitmask_half<4>, bitmask_half<1>>(w, x.natural, r0, r1, y, s);
    else walk<4, bitmask_float<4>, bitmask_float<1>>(w, x.natural, r0, r1, y, s);
  } else if (w.wide) {
    walk<2, columns<half, true, 2>, columns<half, true, 1>>(w, x.natural, r0, r1, y, s);
  } else {
    walk<2, columns<half, false, 2>, columns<half, false, 1>>(w, x.natural, r0, r1, y, s);
  }
}

static void product(const float* w, int64_t ldw, int64_t rows, const float* x, int64_t ldx,
                    int64_t batch, int64_t width, float* y, int64_t ldy);

// Codes whose scales change inside of a step.
static void expanded_row(const Matrix& w, const float* x, Rows rows, float* y, char* scratch) {
  const int64_t width = padded(w.cols);
  float* row = reinterpret_cast<float*>(scratch + kStreams * stream_bytes(w));
  expand_grid(w, rows.row, row, scratch);
  y[rows.row] = 0.0f;
  product(row, width, 1, x, width, 1, width, y + rows.row, 1);
}

static void gemv(const Matrix& w, const Input& x, int64_t r0, int64_t r1, float* y, char* scratch) {
  if (w.grid.bits != 0 && runs_are_whole(w, kCodeStep)) {
    walk<4, codes<4>, codes<1>>(w, x.natural, r0, r1, y, scratch);
  } else if (w.grid.bits != 0) {
    walk<1, expanded_row, expanded_row>(w, x.natural, r0, r1, y, scratch);
  } else if (w.half) {
    gemv_of<true>(w, x, r0, r1, y, scratch);
  } else {
    gemv_of<false>(w, x, r0, r1, y, scratch);
  }
}

static void expand_bits(const Matrix& w, int64_t row, float* out, char* scratch) {
  const char* p = row_values(w, row, scratch);
  const uint8_t* bits = row_bits(w, row, scratch);
  const int64_t bytes = row_bytes(w);
  auto store = [&](int64_t j, uint32_t word) {
    __m256 v[4];
    if (w.half) expand32(word, p, kMask.bytes, v);
    for (int k = 0; k < 4; ++k) {
      if (!w.half) {
        const uint32_t mask = word >> (8 * k) & 0xff;
        v[k] = expand8(p, kMaskLanes.lanes + 8 * mask);
        p += 4 * _mm_popcnt_u32(mask);
      }
      _mm256_store_ps(out + 8 * (j + k), v[k]);
    }
  };
  int64_t j = 0;
  for (; j + 4 <= bytes; j += 4) store(j, word_at(bits + j));
  if (j < bytes) store(j, last_word(bits + j, bytes - j));
  const int64_t done = 8 * ((bytes + 3) / 4 * 4);
  std::memset(out + done, 0, (padded(w.cols) - done) * sizeof(float));
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
  const int64_t begin = first_value(w, row);
  if (w.layout == Layout::dense) {
    int64_t c = 0;
    for (; w.half && c + 8 <= w.cols; c += 8) {
      _mm256_store_ps(out + c, widen(static_cast<const uint16_t*>(w.values) + begin + c));
    }
    for (; c < w.cols; ++c) out[c] = value_at(w, begin + c);
    std::memset(out + c, 0, (padded(w.cols) - c) * sizeof(float));
    return;
  }
  std::memset(out, 0, padded(w.cols) * sizeof(float));
  const int64_t end = w.starts != nullptr ? w.starts[row + 1] : begin + w.kept;
  for (int64_t i = begin; i < end; ++i) out[column_at(w, i)] = value_at(w, i);
}

// R rows of W times B inputs: R * B sums in registers.
template <int R, int B>
static void tile(const float* w, int64_t ldw, const float* x, int64_t ldx, int64_t width, float* y,
                 int64_t ldy) {
  __m256 sum[R][B];
  for (int r = 0; r < R; ++r) {
    for (int b = 0; b < B; ++b) sum[r][b] = _mm256_setzero_ps();
  }
  for (int64_t c = 0; c < width; c += 8) {
    __m256 xb[B];
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) xb[b] = _mm256_load_ps(x + b * ldx + c);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const __m256 wr = _mm256_load_ps(w + r * ldw + c);
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) sum[r][b] = _mm256_fmadd_ps(wr, xb[b], sum[r][b]);
    }
  }
  for (int b = 0; b < B; ++b) {
    for (int r = 0; r < R; ++r) y[b * ldy + r] += sum8(sum[r][b]);
  }
}

template <int R>
static void tiles(const float* w, int64_t ldw, const float* x, int64_t ldx, int64_t batch,
                  int64_t width, float* y, int64_t ldy) {
  int64_t b = 0;
  for (; b + 3 <= batch; b += 3) tile<R, 3>(w, ldw, x + b * ldx, ldx, width, y + b * ldy, ldy);
  if (batch - b == 2) tile<R, 2>(w, ldw, x + b * ldx, ldx, width, y + b * ldy, ldy);
  if (batch - b == 1) tile<R, 1>(w, ldw, x + b * ldx, ldx, width, y + b * ldy, ldy);
}

static void product(const float* w, int64_t ldw, int64_t rows, const float* x, int64_t ldx,
                    int64_t batch, int64_t width, float* y, int64_t ldy) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) tiles<4>(w + r * ldw, ldw, x, ldx, batch, width, y + r, ldy);
  for (; r < rows; ++r) tiles<1>(w + r * ldw, ldw, x, ldx, batch, width, y + r, ldy);
}

// Six streams of whole cache lines, then the rest.
static uint64_t read(const char* bytes, int64_t count) {
  constexpr int kSegments = 6;
  const int64_t segment = count / kSegments / 64 * 64;
  __m256i all[kSegments];
  for (int s = 0; s < kSegments; ++s) all[s] = _mm256_setzero_si256();
  for (int64_t i = 0; i < segment; i += 64) {
#pragma GCC unroll 8
    for (int s = 0; s < kSegments; ++s) {
      const char* p = bytes + s * segment + i;
      fetch(p);
      all[s] = _mm256_or_si256(all[s], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
      all[s] =
          _mm256_or_si256(all[s], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32)));
    }
  }
  for (int s = 1; s < kSegments; ++s) all[0] = _mm256_or_si256(all[0], all[s]);
  uint64_t result = static_cast<uint64_t>(_mm256_extract_epi64(all[0], 0)) |
                    static_cast<uint64_t>(_mm256_extract_epi64(all[0], 2));
  for (int64_t i = kSegments * segment; i < count; ++i) result |= static_cast<uint8_t>(bytes[i]);
  return result;
}

const Kernels& avx2_kernels() {
  static constexpr Kernels kernels = {8, scratch_bytes, x_order, gemv, expand, product, read};
  return kernels;
}

}  // namespace gossamer
