// Inputs as whole numbers, for products with weights on a grid.
#include "codes.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "driver.h"

namespace gossamer {

namespace {

constexpr int kBits = 30;       // of a whole number, beside its sign
constexpr int kSmallest = -60;  // exponent of inputs whose step could fall below the floats

// The exponent e with every |x| < 2^e; false where some x is not finite, or all are too small.
bool exponent_of(const Array& x, int64_t cols, int* exponent) {
  uint32_t most = 0;  // floats without their sign are in the order of their bits
  for (int64_t c = 0; c < cols; ++c) {
    const float value = x[c];
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    most = std::max(most, bits & 0x7fffffffu);
  }
  *exponent = most == 0 ? 0 : static_cast<int>(most >> 23) - 126;
  return most < 0x7f800000u && *exponent >= kSmallest;
}

// Writes up to 64 columns as digits, and adds these to the sums by lane.
void write_digits(const Array& x, int64_t from, int64_t count, float units, int8_t* out,
                  int32_t* sums) {
  int32_t whole[64] = {};
  for (int64_t i = 0; i < count; ++i) {
    const float value = x[from + i] * units;
    whole[i] = static_cast<int32_t>(value + (value < 0.0f ? -0.5f : 0.5f));
  }
  for (int digit = 0; digit < 4; ++digit) {
    for (int i = 0; i < 64; ++i) {
      const int8_t low = static_cast<int8_t>(whole[i]);
      out[64 * digit + i] = low;
      whole[i] = (whole[i] - low) >> 8;
      sums[16 * digit + i / 4] += low;
    }
  }
}

}  // namespace

int64_t digit_floats(int64_t cols) { return padded(cols) * 2 + kCacheLine; }

bool arrange_digits(const Array& x, const Matrix& w, float* memory, Digits* out) {
  int exponent = 0;
  if (!exponent_of(x, w.cols, &exponent)) return false;
  const int64_t run = run_width(w);
  const float units = std::ldexp(1.0f, kBits - exponent);
  int8_t* places = reinterpret_cast<int8_t*>(memory);
  int32_t* sums = reinterpret_cast<int32_t*>(memory + padded(w.cols));
  *out = {places, sums, std::ldexp(1.0f, exponent - kBits)};
  for (int64_t first = 0; first < w.cols;) {
    const int64_t last = std::min(first + kPart, (first / run + 1) * run);
    std::fill_n(sums, 64, 0);
    for (int64_t c = first; c < last; c += 64) {
      write_digits(x, c, std::min<int64_t>(64, last - c), units, places + 4 * c, sums);
    }
    sums += 64;
    first = last;
  }
  return true;
}

}  // namespace gossamer
