"""What gossamer adds on top of torch: megabytes on disk, and seconds of import.

    python benchmarks/install_weight.py --out benchmarks/results/install-weight.json

Weighs the distributions that the core needs and torch does not, as they lie in the running
environment, without byte code; times ``import gossamer`` in fresh processes after torch.
"""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import json
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path

import torch

import gossamer

LIMITS = {"megabytes": 60.0, "import_seconds": 0.3}
_TIMED = (
    "import time, torch; start = time.perf_counter(); import gossamer; "
    "print(time.perf_counter() - start)"
)


def needs(name: str) -> set[str]:
    """A distribution and all that it requires here, extras left out, in normal form."""
    found: set[str] = set()
    waiting = [normal(name)]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        for line in metadata.requires(current) or []:
            required, _, marker = line.partition(";")
            if "extra" not in marker and applies(marker):
                waiting.append(normal(re.split(r"[^A-Za-z0-9._-]", required.strip())[0]))
    return found


def applies(marker: str) -> bool:
    """True for a requirement of this platform: one without a marker, or one that is installed."""
    # No marker names another system in the closure of torch or gossamer but these.
    return not re.search(r"win32|Windows|darwin|python_version\s*<", marker)


def normal(name: str) -> str:
    """A distribution's name as metadata compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_bytes(name: str) -> int:
    """Bytes of a distribution's files on disk, byte code left out."""
    files = metadata.files(name) or []
    paths = {Path(str(file.locate())) for file in files if file.suffix != ".pyc"}
    if name == "gossamer":  # an editable install lists no sources
        paths |= {path for path in Path(gossamer.__path__[0]).rglob("*") if path.suffix != ".pyc"}
    return sum(path.stat().st_size for path in paths if path.is_file())


def import_seconds(times: int) -> list[float]:
    """Seconds of ``import gossamer`` after ``import torch``, once a fresh process."""
    command = [sys.executable, "-c", _TIMED]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True)
            for _ in range(times)]
    return [float(run.stdout) for run in runs]


def measure(times: int) -> dict[str, object]:
    """Every figure of the benchmark as JSON values."""
    added = {name: installed_bytes(name) / 1e6 for name in needs("gossamer") - needs("torch")}
    seconds = import_seconds(times)
    ordered = dict(sorted(added.items(), key=lambda item: -item[1]))
    total = sum(added.values())
    return {
        "megabytes": round(total, 1),
        "megabytes_without_numpy": round(total - added.get("numpy", 0.0), 1),
        "by_distribution": {name: round(size, 2) for name, size in ordered.items()},
        "import_seconds": round(statistics.median(seconds), 3),
        "import_seconds_runs": [round(second, 3) for second in seconds],
        "limits": LIMITS,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Print the figures and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args()
    text = json.dumps(measure(options.times), indent=1)
    sys.stdout.write(text + "\n")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
