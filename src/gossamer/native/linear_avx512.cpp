// The AVX-512 kernels without the bfloat16 dot product.
#include "linear_avx512.h"

namespace gossamer {

const Kernels& avx512_kernels() { return kKernels; }

}  // namespace gossamer
