#include "conv_rows.h"

namespace gossamer {

const StripKernels& avx512_strips() {
  static const StripKernels kernels = strip_kernels<64>();
  return kernels;
}

}  // namespace gossamer
