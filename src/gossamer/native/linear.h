// y = W x with packed W: what the driver (linear.cpp) asks of the kernels of one instruction set.
//
// The kernel files are compiled for different CPUs, so everything shared here is a plain struct or
// has internal linkage: an inline function with external linkage could be taken by the linker from
// the file with the widest instructions.
#pragma once

#include <cstdint>
#include <cstring>

namespace gossamer {

enum class Layout { dense = 0, bitmask = 1, nm = 2, csr = 3, condensed = 4 };

// Layout nm read by chunks of 8 or 12 index bits: the mask bits of each possible chunk.
struct Places {
  const uint32_t* masks;  // null where groups do not fill chunks
  int bits, columns;      // of one chunk
};

// Weights on a grid: values are codes of a few bits, and a weight is (code - zero) * scale, with one
// scale and zero for each run of columns of each row.
struct Grid {
  int bits;             // of a code, 8 or 4; 0 where values are weights
  const float* scales;  // [rows, runs]
  const uint8_t* zeros;
  int64_t runs;
};

struct Matrix {
  Layout layout;
  int64_t rows, cols;
  const void* values;     // float or bfloat16, row-major
  bool half;              // values are bfloat16
  const void* index;      // bits, places or columns
  bool wide;              // columns are int32, not uint16
  const int64_t* starts;  // [rows + 1] first value of each row; null where rows are equally long
  int64_t kept;           // values a row, where starts is null
  int64_t nnz;            // values in all
  int64_t n, m;           // N:M of layout nm
  Places places;          // of layout nm, where its groups fill whole chunks
  Grid grid;
};

// x as multiples of a step: four digits of a whole number in base 256, each a signed byte. Each 64
// columns are four runs of 64, one for each digit, the lowest first.
struct Digits {
  const int8_t* places;  // null where there are none
  // For every part of kPart columns (fewer at the end of a run of the grid), for each digit: the
  // digits added up by the lane of 4 columns that multiplies them, 16 lanes.
  const int32_t* sums;
  float step;
};

// One input vector in the orders that kernels ask for; each is padded with zeros to a multiple of
// kPad columns, and those not asked for are null.
struct Input {
  const float* natural;   // as it is
  const float* split;     // in runs of 2 * lanes: first the even, then the odd columns
  Digits digits;          // as whole numbers, where x is finite
};

enum class Order { natural, split, digits };

constexpr int64_t kPad = 64;      // columns
constexpr int64_t kPart = 16384;  // columns of which products of a code and a digit fit 32 bits
constexpr int64_t kStreams = 8;   // most row streams that a kernel reads at once
constexpr int64_t kSlack = 64;    // bytes that kernels may read on either side of a row's values

struct Kernels {
  int lanes;  // of the split order
  // Bytes of scratch that one thread needs for this matrix.
  int64_t (*scratch)(const Matrix& w);
  // The order of x that gemv wants.
  Order (*order)(const Matrix& w);
  // y[r] = sum over c of W[r, c] x[c], for r0 <= r < r1.
  void (*gemv)(const Matrix& w, const Input& x, int64_t r0, int64_t r1, float* y, char* scratch);
  // One row as floats in natural order, zeros up to the padded width.
  void (*expand)(const Matrix& w, int64_t row, float* out, char* scratch);
  // y[b * ldy + r] += sum over c < width of w[r * ldw + c] x[b * ldx + c]; width a multiple of 16.
  void (*product)(const float* w, int64_t ldw, int64_t rows, const float* x, int64_t ldx,
                  int64_t batch, int64_t width, float* y, int64_t ldy);
  // Reads every byte once; the result only keeps the compiler from dropping the reads.
  uint64_t (*read)(const char* bytes, int64_t count);
};

const Kernels& plain_kernels();
#if GOSSAMER_X86
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
#endif

static inline int64_t padded(int64_t cols) { return (cols + kPad - 1) / kPad * kPad; }

static inline int64_t row_bytes(const Matrix& w) { return (w.cols + 7) / 8; }

static inline int64_t first_value(const Matrix& w, int64_t row) {
  return w.starts != nullptr ? w.starts[row] : row * w.kept;
}

static inline int64_t value_bytes(const Matrix& w) {
  return w.grid.bits != 0 ? 1 : w.half ? 2 : 4;
}

static inline float as_float(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

static inline float value_at(const Matrix& w, int64_t i) {
  return w.half ? as_float(static_cast<const uint16_t*>(w.values)[i])
                : static_cast<const float*>(w.values)[i];
}

static inline int64_t column_at(const Matrix& w, int64_t i) {
  return w.wide ? static_cast<const int32_t*>(w.index)[i]
                : static_cast<const uint16_t*>(w.index)[i];
}

// Scratch for one padded copy of a row's values.
static inline int64_t row_copy_bytes(const Matrix& w) {
  return (w.cols * 4 + 2 * kSlack + 63) / 64 * 64;
}

// The values of a row, readable kSlack bytes beyond either end: in place where the whole buffer
// allows it, else a copy. Only the first and last few rows of a matrix are ever copied.
static inline const char* row_values(const Matrix& w, int64_t row, char* copy) {
  const int64_t size = value_bytes(w), begin = first_value(w, row) * size;
  const int64_t end = w.starts != nullptr ? w.starts[row + 1] * size : begin + w.kept * size;
  const char* values = static_cast<const char*>(w.values);
  if (begin >= kSlack && end + kSlack <= w.nnz * size) return values + begin;
  std::memset(copy, 0, kSlack);
  if (end > begin) std::memcpy(copy + kSlack, values + begin, end - begin);
  std::memset(copy + kSlack + (end - begin), 0, kSlack);
  return copy + kSlack;
}

// Four bytes of mask bits.
static inline uint32_t word_at(const uint8_t* bits) {
  uint32_t word;
  std::memcpy(&word, bits, 4);
  return word;
}

// The last bytes of a row, fewer than four; zeros follow.
static inline uint32_t last_word(const uint8_t* bits, int64_t count) {
  uint32_t word = 0;
  for (int64_t i = 0; i < count; ++i) word |= static_cast<uint32_t>(bits[i]) << (8 * i);
  return word;
}

// Bits that name one of m places.
static inline int place_bits(int64_t m) {
  int bits = 0;
  while ((int64_t{1} << bits) < m) ++bits;
  return bits;
}

// Layout nm: calls visit(value index, column) for every value of a row from a group on, in order.
template <typename Visit>
static inline void each_place(const Matrix& w, int64_t row, int64_t group, Visit visit) {
  const int width = place_bits(w.m);
  const int64_t stride = (w.kept * width + 7) / 8, skipped = group * w.n * width;
  const uint8_t* stream = static_cast<const uint8_t*>(w.index) + row * stride;
  int64_t next = skipped / 8, value = row * w.kept + group * w.n;
  uint64_t window = 0;
  int ready = 0;
  if (skipped % 8 != 0) {
    ready = 8 - static_cast<int>(skipped % 8);
    window = static_cast<uint64_t>(stream[next++]) >> (8 - ready);
  }
  for (int64_t column = group * w.m; column < w.cols; column += w.m) {
    for (int64_t i = 0; i < w.n; ++i, ++value) {
      while (ready < width) {
        window |= static_cast<uint64_t>(stream[next++]) << ready;
        ready += 8;
      }
      visit(value, column + static_cast<int64_t>(window & ((uint64_t{1} << width) - 1)));
      window >>= width;
      ready -= width;
    }
  }
}

// Scratch for the mask bits of one row; chunks are written four bytes at a time.
static inline int64_t bits_bytes(const Matrix& w) { return padded(w.cols) / 8 + 64; }

// Layout nm: the row's places as mask bits, least significant first.
static inline void places_to_bits(const Matrix& w, int64_t row, uint8_t* bits) {
  const Places& places = w.places;
  const int64_t group_bits = w.n * place_bits(w.m), groups = w.cols / w.m;
  int64_t done = 0;  // groups
  if (places.masks != nullptr) {
    const uint8_t* stream =
        static_cast<const uint8_t*>(w.index) + row * ((groups * group_bits + 7) / 8);
    const int64_t chunks = groups * group_bits / places.bits, bytes = places.columns / 8;
    if (places.bits == 8) {
      for (int64_t i = 0; i < chunks; ++i) {
        std::memcpy(bits + i * bytes, places.masks + stream[i], 4);
      }
    } else {
      for (int64_t i = 0; i < chunks; ++i) {
        const uint8_t* at = stream + i * 12 / 8;
        const uint32_t two = at[0] | static_cast<uint32_t>(at[1]) << 8;
        std::memcpy(bits + i * bytes, places.masks + (two >> (i % 2 * 4) & 0xfff), 4);
      }
    }
    done = chunks * places.bits / (group_bits > 0 ? group_bits : 1);
  }
  const int64_t first = done * w.m / 8;
  std::memset(bits + first, 0, padded(w.cols) / 8 - first);
  each_place(w, row, done, [bits](int64_t, int64_t column) {
    bits[column >> 3] = static_cast<uint8_t>(bits[column >> 3] | 1u << (column & 7));
  });
}

}  // namespace gossamer
