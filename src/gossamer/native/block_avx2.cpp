#include "block_lay_avx2.h"

namespace gossamer {

typedef float Floats __attribute__((vector_size(32), may_alias));

const BlockKernels& avx2_blocks() {
  static constexpr BlockKernels kernels = {
      16,
      {add_tile<Floats, 8, 1, 8>, add_tile<Floats, 16, 2, 6>, add_tile<Floats, 32, 2, 6>,
       add_tile<Floats, 64, 2, 6>},
      turn_avx2,
      {add_strip<Floats, 1, 12>, add_strip<Floats, 2, 6>},
      lay_avx2};
  return kernels;
}

}  // namespace gossamer
