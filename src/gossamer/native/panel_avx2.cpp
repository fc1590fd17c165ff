#include "panel_rows.h"

namespace gossamer {

typedef float Floats __attribute__((vector_size(32), may_alias));

const PanelKernel* avx2_panels() {
  static constexpr PanelKernel kernels[kPanelWidths] = {
      panel_rows<Floats, 1, 4>, panel_rows<Floats, 2, 4>, panel_rows<Floats, 4, 2>,
      panel_rows<Floats, 8, 1>};
  return kernels;
}

}  // namespace gossamer
