// What the drivers of linear, panel and decode share. Only files of the baseline instruction set include it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <tuple>

#include "linear.h"

namespace gossamer {

struct Array {
  const void* data;
  bool half;

  float operator[](int64_t i) const {
    return half ? as_float(static_cast<const uint16_t*>(data)[i])
                : static_cast<const float*>(data)[i];
  }
};

constexpr int64_t kCacheLine = 64;

// Memory of one thread that grows and is kept for the next call.
class Scratch {
 public:
  template <typename T>
  T* get(int64_t count) {
    const int64_t bytes = (count * static_cast<int64_t>(sizeof(T)) + kCacheLine - 1) /
                          kCacheLine * kCacheLine;
    if (bytes > size_) {
      memory_.reset(static_cast<char*>(std::aligned_alloc(kCacheLine, bytes)));
      size_ = memory_ != nullptr ? bytes : 0;
      if (memory_ == nullptr) throw std::bad_alloc();
    }
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  struct Free {
    void operator()(char* p) const { std::free(p); }
  };
  std::unique_ptr<char, Free> memory_;
  int64_t size_ = 0;
};

inline uint16_t round_to_half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // NaN
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The kernels of the instruction set in force.
const Kernels& kernels();

// First row of a part, where rows are shared out by their bytes.
int64_t split_row(const Matrix& w, int64_t part, int64_t parts);

// One row of x, padded with zeros, in the order of columns for this many lanes; 0 is natural order.
void arrange(const Array& x, int64_t from, int64_t cols, int lanes, float* out);

// One row of x as digits in memory of so many floats; false where it has no such form.
int64_t digit_floats(int64_t cols);
bool arrange_digits(const Array& x, const Matrix& w, float* memory, Digits* out);

// rows, cols, values a row (where equal), values in all, N and M of layout nm
using Shape = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;
// addresses of values, index and row starts; 0 for those that the layout lacks
using Parts = std::tuple<uintptr_t, uintptr_t, uintptr_t>;

Matrix matrix(int layout, const Shape& shape, const Parts& parts, bool half, bool wide);

}  // namespace gossamer
