#include "grouped_rows.h"

#include "block_turn_avx2.h"

namespace gossamer {

typedef float Floats __attribute__((vector_size(32), may_alias));

const GroupedKernels& avx2_grouped() {
  static constexpr GroupedKernels kernels = {
      {{1, walk_chunk<float, 1>}, {8, walk_chunk<Floats, 1>}, {16, walk_chunk<Floats, 2>},
       {32, walk_chunk<Floats, 4>}},
      turn_avx2};
  return kernels;
}

}  // namespace gossamer
