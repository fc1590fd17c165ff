#include "conv_rows.h"

namespace gossamer {

const StripKernels& avx2_strips() {
  static const StripKernels kernels = strip_kernels<32>();
  return kernels;
}

}  // namespace gossamer
