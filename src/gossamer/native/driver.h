// What the drivers of linear and decode share. Only files of the baseline instruction set include it.
#pragma once

#include <cstdint>
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

// The kernels of the instruction set in force.
const Kernels& kernels();

// First row of a part, where rows are shared out by their bytes.
int64_t split_row(const Matrix& w, int64_t part, int64_t parts);

// One row of x, padded with zeros, in the order of columns for this many lanes; 0 is natural order.
void arrange(const Array& x, int64_t from, int64_t cols, int lanes, float* out);

// rows, cols, values a row (where equal), values in all, N and M of layout nm
using Shape = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;
// addresses of values, index and row starts; 0 for those that the layout lacks
using Parts = std::tuple<uintptr_t, uintptr_t, uintptr_t>;

Matrix matrix(int layout, const Shape& shape, const Parts& parts, bool half, bool wide);

}  // namespace gossamer
