// Weights on a grid: the codes of a row, and rows that the kernels' steps do not divide.
#pragma once

#include "linear.h"

namespace gossamer {

// Columns that share a scale.
static inline int64_t run_width(const Matrix& w) {
  return w.grid.runs > 0 ? w.cols / w.grid.runs : w.cols;
}

// True where a step of so many columns never holds two scales.
static inline bool runs_are_whole(const Matrix& w, int64_t step) {
  return w.grid.runs <= 1 || run_width(w) % step == 0;
}

static inline float weight_of(const Matrix& w, int64_t row, int64_t column, int code) {
  const int64_t at = row * w.grid.runs + (w.grid.runs > 1 ? column / run_width(w) : 0);
  return static_cast<float>(code - w.grid.zeros[at]) * w.grid.scales[at];
}

static inline int code_at(const Matrix& w, int64_t i) {
  const uint8_t* codes = static_cast<const uint8_t*>(w.values);
  return w.grid.bits == 8 ? codes[i] : codes[i / 2] >> (i % 2 * 4) & 15;
}

// The value with this number, of this row and column.
static inline float weight_at(const Matrix& w, int64_t row, int64_t column, int64_t i) {
  return w.grid.bits == 0 ? value_at(w, i) : weight_of(w, row, column, code_at(w, i));
}

// Half bytes from the begin-th to the end-th, a byte each.
static inline void spread_halves(const uint8_t* codes, int64_t begin, int64_t end, uint8_t* out) {
  if (begin % 2 != 0 && begin < end) *out++ = static_cast<uint8_t>(codes[begin++ / 2] >> 4);
  const uint8_t* from = codes + begin / 2;
  const int64_t pairs = begin < end ? (end - begin) / 2 : 0;
  for (int64_t i = 0; i < pairs; ++i) {
    out[2 * i] = from[i] & 15;
    out[2 * i + 1] = static_cast<uint8_t>(from[i] >> 4);
  }
  if (begin < end && (end - begin) % 2 != 0) out[2 * pairs] = from[pairs] & 15;
}

// The codes of a row, a byte each, readable kSlack bytes beyond either end.
static inline const char* row_codes(const Matrix& w, int64_t row, char* copy) {
  if (w.grid.bits == 8) return row_values(w, row, copy);
  const int64_t begin = first_value(w, row);
  const int64_t end = w.starts != nullptr ? w.starts[row + 1] : begin + w.kept;
  spread_halves(static_cast<const uint8_t*>(w.values), begin, end,
                reinterpret_cast<uint8_t*>(copy + kSlack));
  return copy + kSlack;
}

// One row as floats, from its codes and mask bits, for any width of runs.
static inline void expand_codes(const Matrix& w, int64_t row, const char* codes,
                                const uint8_t* bits, float* out) {
  std::memset(out, 0, padded(w.cols) * sizeof(float));
  for (int64_t j = 0; j < row_bytes(w); ++j) {
    for (unsigned rest = bits[j]; rest != 0; rest &= rest - 1) {
      const int64_t column = 8 * j + __builtin_ctz(rest);
      out[column] = weight_of(w, row, column, static_cast<uint8_t>(*codes++));
    }
  }
}

}  // namespace gossamer
