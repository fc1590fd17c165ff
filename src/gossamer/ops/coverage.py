"""Which kernels read which layout, as a page: ``python -m gossamer.ops.coverage FILE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gossamer.core.atomic import write_text
from gossamer.layout import LAYOUTS, chosen_from
from gossamer.ops.conv.kernels import KERNELS as CONVOLUTIONS
from gossamer.ops.linear.kernels import KERNELS as PRODUCTS
from gossamer.ops.table import Entry

_ABOVE = """# What each layout and op supports

Written by `make docs` from the registries of layouts and kernels. A kernel covers an input by its
shape, dtype and device; `ops.explain(x, packed)` says whether it does, and why not.
"""
_BELOW = """
- Without a kernel an op unpacks the matrix and multiplies densely: right, and as slow as that. It
  is never silent: `explain` says it, `with ops.fallbacks() as seen:` counts it, and a measured
  point carries the count to its verdict and page.
- Every layout computes on the CPU for any float dtype of 16 bits and more, any stride and batch,
  in `torch.inference_mode`, under autocast (which leaves packed products in the dtype of their
  operands), compiled with `fullgraph=True`, deep-copied, and from a state dict. A state is taken
  whole or not at all.
- Gradients reach the input and the bias in every layout, the kept values where they are floats;
  codes of 8 and 4 bits are not trained. Where no kernel has them, they come from the unpacked
  matrix.
- `conv2d` clamps its output within bounds, so that a ReLU or ReLU6 behind it costs no pass.
  `linear` has no fused activation: apart from the product, ReLU takes 1 to 3 % more time (3072 x
  768, batch 1 and 64, one AVX2 thread), which is all that fusing could save; GELU takes more, but
  for its arithmetic, which fusing would not save.
- "decode" says whether the Decoder (`ops.decode`) reads the layout; `layout="decode"` chooses
  among those. Choosing "auto" takes the fewest bytes of all that hold any weight.
"""


def page() -> str:
    """The page, in Markdown."""
    lines = [
        "| layout | parts | kernels of linear | kernels of conv2d | decode | holds |",
        "|---|---|---|---|---|---|",
    ]
    for name, layout in LAYOUTS.items():
        lines.append("| " + " | ".join((
            name, ", ".join(layout.parts), _names(PRODUCTS.of(name)), _names(CONVOLUTIONS.of(name)),
            "yes" if name in chosen_from("decode") else "",
            "any weight" if layout.any_weight else "weights on even steps",
        )) + " |")
    return "\n".join((_ABOVE, *lines, _BELOW))


def _names(kernels: Sequence[Entry]) -> str:
    return "; ".join(kernel.name for kernel in kernels) or "none"


def main(arguments: list[str]) -> int:
    """Write the page into the file named on the command line; the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m gossamer.ops.coverage FILE\n")
        return 2
    write_text(Path(arguments[0]), page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
