#include "obs_rows.h"

namespace gossamer {

void obs_rows_avx2(const ObsBlock& block, std::int64_t first, std::int64_t last) {
  prune_rows(block, first, last);
}

}  // namespace gossamer
