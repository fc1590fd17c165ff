#include "panel_rows.h"

namespace gossamer {

typedef float Floats __attribute__((vector_size(64), may_alias));
typedef float Eight __attribute__((vector_size(32), may_alias));

const PanelKernel* avx512_panels() {
  static constexpr PanelKernel kernels[kPanelWidths] = {
      panel_rows<Eight, 1, 4>, panel_rows<Floats, 1, 4>, panel_rows<Floats, 2, 4>,
      panel_rows<Floats, 4, 2>};
  return kernels;
}

}  // namespace gossamer
