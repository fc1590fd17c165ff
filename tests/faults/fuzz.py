"""Many damaged matrices and folders in processes of their own: ``python -m tests.faults.fuzz``.

A process that dies, hangs or finds something is a finding; its case is named by number, and
``--parts 0 --folders 0 --only parts:17`` runs that one again.
"""

from __future__ import annotations

import argparse
import faulthandler
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from tests.faults import fuzz_folders, fuzz_parts

_AT_ONCE = 500      # cases of a process
_SECONDS = 600      # until a process counts as hanging
Case = Callable[[int], str | None]


def findings(kind: str, first: int, count: int) -> Iterator[str]:
    """One line for each case of a kind, numbered from the first on, that goes wrong."""
    end = first + count
    while first < end:
        size = min(_AT_ONCE, end - first)
        command = [sys.executable, "-m", "tests.faults.fuzz", "--child", kind, str(first),
                   str(size)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        lines = run.stdout.splitlines()
        at = [line for line in lines if line.startswith("at ")]
        yield from (line for line in lines if not line.startswith("at "))
        if run.returncode == 0:
            first += size
            continue
        last = int(at[-1].removeprefix("at ")) if at else first
        trace = " | ".join(run.stderr.strip().splitlines()[:3])
        yield f"{kind}:{last} ended the process with {run.returncode}: {trace}"
        first = last + 1


def _child(kind: str, first: int, count: int) -> None:
    faulthandler.enable()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        case = fuzz_parts.run if kind == "parts" else _folders(Path(root))
        for number in range(first, first + count):
            print(f"at {number}", flush=True)
            wrong = case(number)
            if wrong is not None:
                print(f"{kind}:{number} {wrong}".encode("ascii", "replace").decode(), flush=True)


def _folders(root: Path) -> Case:
    known = [fuzz_folders.saved_net(root), fuzz_folders.saved_llama(root, "auto"),
             fuzz_folders.saved_llama(root, "dense")]
    return lambda number: fuzz_folders.run(number, known, root)


def main() -> int:
    """Run as many cases of both kinds as asked for; 1 where there was a finding."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--parts", type=int, default=20_000, help="damaged matrices")
    asked.add_argument("--folders", type=int, default=4_000, help="damaged folders")
    asked.add_argument("--seed", type=int, default=0, help="number of the first case")
    asked.add_argument("--only", help="one case: parts:17 or folders:3")
    asked.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.child:
        _child(given.child[0], int(given.child[1]), int(given.child[2]))
        return 0
    wanted = [("parts", given.seed, given.parts), ("folders", given.seed, given.folders)]
    if given.only:
        kind, _, number = given.only.partition(":")
        wanted = [(kind, int(number), 1)]
    found = 0
    for kind, first, count in wanted:
        for line in findings(kind, first, count):
            found += 1
            print(line, flush=True)
    print(f"{found} findings in {' and '.join(f'{count} {kind}' for kind, _, count in wanted)}")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
