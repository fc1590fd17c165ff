// The kernels in plain C++: right everywhere, and the only ones on CPUs without AVX2.
#include "codes.h"
#include "linear.h"

namespace gossamer {

static int64_t scratch_bytes(const Matrix&) { return 0; }

static Order x_order(const Matrix&) { return Order::natural; }

// Calls visit(value index, column) for every stored value of a row, in order.
template <typename Visit>
static void each_value(const Matrix& w, int64_t row, Visit visit) {
  int64_t value = first_value(w, row);
  switch (w.layout) {
    case Layout::dense:
      for (int64_t c = 0; c < w.cols; ++c) visit(value + c, c);
      break;
    case Layout::bitmask: {
      const uint8_t* bits = static_cast<const uint8_t*>(w.index) + row * row_bytes(w);
      for (int64_t j = 0; j < row_bytes(w); ++j) {
        for (unsigned rest = bits[j]; rest != 0; rest &= rest - 1) {
          visit(value++, 8 * j + __builtin_ctz(rest));
        }
      }
      break;
    }
    case Layout::nm:
      each_place(w, row, 0, visit);
      break;
    default: {
      const int64_t end = w.starts != nullptr ? w.starts[row + 1] : value + w.kept;
      for (; value < end; ++value) visit(value, column_at(w, value));
    }
  }
}

static void gemv(const Matrix& w, const Input& x, int64_t r0, int64_t r1, float* y, char*) {
  for (int64_t row = r0; row < r1; ++row) {
    float sum[2] = {0, 0};
    each_value(w, row, [&](int64_t value, int64_t column) {
      sum[value & 1] += weight_at(w, row, column, value) * x.natural[column];
    });
    y[row] = sum[0] + sum[1];
  }
}

static void expand(const Matrix& w, int64_t row, float* out, char*) {
  std::memset(out, 0, padded(w.cols) * sizeof(float));
  each_value(w, row, [&](int64_t value, int64_t column) {
    out[column] = weight_at(w, row, column, value);
  });
}

static void product(const float* w, int64_t ldw, int64_t rows, const float* x, int64_t ldx,
                    int64_t batch, int64_t width, float* y, int64_t ldy) {
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t r = 0; r < rows; ++r) {
      float sum[8] = {};
      for (int64_t c = 0; c < width; c += 8) {
        for (int64_t i = 0; i < 8; ++i) sum[i] += w[r * ldw + c + i] * x[b * ldx + c + i];
      }
      y[b * ldy + r] += ((sum[0] + sum[4]) + (sum[1] + sum[5])) +
                        ((sum[2] + sum[6]) + (sum[3] + sum[7]));
    }
  }
}

static uint64_t read(const char* bytes, int64_t count) {
  uint64_t all = 0;
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes + i, 8);
    all |= word;
  }
  for (; i < count; ++i) all |= static_cast<uint8_t>(bytes[i]);
  return all;
}

const Kernels& plain_kernels() {
  static constexpr Kernels kernels = {8, scratch_bytes, x_order, gemv, expand, product, read};
  return kernels;
}

}  // namespace gossamer
