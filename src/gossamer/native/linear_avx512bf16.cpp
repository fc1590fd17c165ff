// The AVX-512 kernels with the bfloat16 dot product.
#include "linear_avx512.h"

namespace gossamer {

const Kernels& avx512bf16_kernels() { return kKernels; }

}  // namespace gossamer
