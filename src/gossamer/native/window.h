// How a kernel goes over an image. Only files of the baseline instruction set include it.
#pragma once

#include <cstdint>

#include "conv.h"

namespace gossamer {

// The columns of a weight are channels x kernel rows x kernel columns.
struct Window {
  int64_t height, width;  // of the image
  int64_t down, along;    // kernel
  int64_t step_down, step_along, pad_down, pad_along, gap_down, gap_along;
  int64_t out_width;

  bool is_point() const {
    return down * along * step_down * step_along == 1 && pad_down + pad_along == 0;
  }
};

// The kernels of the instruction set in force.
const StripKernels& current_strips();

}  // namespace gossamer
