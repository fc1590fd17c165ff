"""A killed run goes on where it was, with bit-equal results; damaged files are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gossamer.core import StoreError
from gossamer.observe import Journal
from gossamer.prune import SparseGPT
from tests.zoo import ZOO, inputs

CHILD = """
import os, sys
import gossamer.core.atomic as atomic
import torch
torch.set_num_threads(1)
from gossamer.prune import SparseGPT
from tests.zoo import ZOO, inputs

die_at, folder = int(sys.argv[1]), sys.argv[2]
real, calls = os.replace, [0]
def replace(*args):
    calls[0] += 1
    if calls[0] == die_at:
        os._exit(9)
    real(*args)
os.replace = replace
model = ZOO["llama"]()
SparseGPT().run(model, inputs("llama", 8, 0)["input_ids"], workdir=folder)
torch.save(model.state_dict(), sys.argv[3])
"""


def tokens() -> torch.Tensor:
    return inputs("llama", 8, 0)["input_ids"]


def child(die_at: int, folder: Path, out: Path) -> int:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", CHILD, str(die_at), str(folder), str(out)],
                          env=environment, check=False).returncode


@pytest.mark.parametrize("die_at", [1, 2, 3, 5, 9])
def test_a_killed_run_resumes_bit_equal(tmp_path: Path, die_at: int) -> None:
    assert child(die_at, tmp_path / "work", tmp_path / "none.pt") == 9
    resumed = ZOO["llama"]()
    SparseGPT().run(resumed, tokens(), workdir=tmp_path / "work")
    whole = ZOO["llama"]()
    SparseGPT().run(whole, tokens())
    for (name, a), b in zip(resumed.state_dict().items(), whole.state_dict().values()):
        assert torch.equal(a, b), name


def test_a_finished_run_is_replayed_not_redone(tmp_path: Path) -> None:
    first, second = ZOO["llama"](), ZOO["llama"]()
    a = SparseGPT().run(first, tokens(), workdir=tmp_path / "work")
    steps: list[str] = []
    b = SparseGPT().run(second, tokens(), workdir=tmp_path / "work",
                        progress=lambda done, total, text: steps.append(text))
    assert not any("layers" in step for step in steps)
    assert a.supports == b.supports
    assert a.report["sites"] == b.report["sites"]
    assert all(torch.equal(x, y) for x, y in zip(first.state_dict().values(),
                                                 second.state_dict().values()))


@pytest.mark.parametrize("change", ["settings", "tokens", "model"])
def test_another_run_does_not_resume_in_the_folder(tmp_path: Path, change: str) -> None:
    SparseGPT().run(ZOO["llama"](), tokens(), workdir=tmp_path / "work")
    system = SparseGPT(damp=0.02) if change == "settings" else SparseGPT()
    data = tokens().flip(0) if change == "tokens" else tokens()
    model = ZOO["llama"]()
    if change == "model":
        with torch.no_grad():
            next(model.parameters()).add_(1)
    with pytest.raises(StoreError, match="other settings, model or calibration"):
        system.run(model, data, workdir=tmp_path / "work")


def test_damage_to_any_file_is_noticed(tmp_path: Path) -> None:
    SparseGPT().run(ZOO["llama"](), tokens(), workdir=tmp_path / "work")
    for path in sorted((tmp_path / "work").iterdir()):
        good = path.read_bytes()
        for damaged in (good[:-3], good[:40] + bytes([good[40] ^ 255]) + good[41:]):
            path.write_bytes(damaged)
            if path.name.startswith("hidden"):
                with pytest.raises(StoreError, match="damaged"):
                    Journal(tmp_path / "work", fingerprint_of(tmp_path / "work")).hidden()
            else:
                with pytest.raises(StoreError):
                    SparseGPT().run(ZOO["llama"](), tokens(), workdir=tmp_path / "work")
        path.write_bytes(good)


def fingerprint_of(folder: Path) -> str:
    import json

    return json.loads((folder / "walk.json").read_text())["fingerprint"]


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        SparseGPT().run(ZOO["llama"](), tokens(), workdir=tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
