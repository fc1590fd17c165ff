#include "block_lay_avx2.h"

namespace gossamer {

typedef float Floats __attribute__((vector_size(64), may_alias));
typedef float Eight __attribute__((vector_size(32), may_alias));

const BlockKernels& avx512_blocks() {
  static constexpr BlockKernels kernels = {
      32,
      {add_tile<Eight, 8, 1, 8>, add_tile<Floats, 16, 1, 8>, add_tile<Floats, 32, 2, 8>,
       add_tile<Floats, 64, 2, 8>},
      turn_avx2,
      {add_strip<Eight, 1, 12>, add_strip<Floats, 1, 12>},
      lay_avx2};
  return kernels;
}

}  // namespace gossamer
