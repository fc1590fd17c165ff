"""Where sparse begins to pay on this machine: shapes of two language models; writes JSON, a PNG.

    python benchmarks/crossover.py --out benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import torch

from gossamer import native
from gossamer.measure import Crossover, crossover

# The main shapes of SmolLM2-135M and of a layer that is larger than the cache.
SHAPES = ((1536, 576), (4096, 4096))


def report(found: Crossover) -> None:
    """The answers of one shape, on stderr."""
    for batch in found.batches:
        cells = [found.cell(batch, density) for density in found.densities]
        row = "  ".join(f"{c.density:g}: {c.speedup:.2f} {c.layout}" for c in cells if c)
        print(f"{found.shape} batch {batch} pays below {found.pays_below(batch)}: {row}",
              file=sys.stderr)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=90.0, help="seconds for each shape")
    parser.add_argument("--out", type=Path, help="folder for the JSON file")
    parser.add_argument("--picture", type=Path, help="file for the picture of the first shape")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    load = os.getloadavg()[0]
    found = {}
    for shape in SHAPES:
        made = crossover("linear", shape, budget=args.budget)
        report(made)
        found["x".join(map(str, shape))] = made.to_json()
        if args.picture and shape == SHAPES[0]:
            made.plot(args.picture)
    result = {"load average": [load, os.getloadavg()[0]], "shapes": found}
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"crossover-{native.isa()}-{args.threads}-thread.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
