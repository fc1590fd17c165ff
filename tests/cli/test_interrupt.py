"""Ctrl-C in the middle of a run: one sentence, nothing half-written, and the next run goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from gossamer import store
from gossamer.cli import main
from tests.zoo import llama, tiny_tokenizer

CODE = "import sys; from gossamer.cli import main; sys.exit(main())"


def words(model: Path, out: Path) -> list[str]:
    return ["prune", str(model), "--pattern", "2:4", "--out", str(out),
            "--sequences", "300", "--length", "128"]


def test_an_interrupted_run_goes_on_with_the_same_result(tmp_path: Path) -> None:
    model, out, again = tmp_path / "model", tmp_path / "out", tmp_path / "again"
    torch.manual_seed(0)
    llama().save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    command = [sys.executable, "-c", CODE, *words(model, out)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    state = tmp_path / "out.work" / "walk.json"
    while run.poll() is None and not state.exists():
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    _, error = run.communicate(timeout=120)
    assert run.returncode == 130, error
    assert error.splitlines()[-1].startswith("gossamer: interrupted.")
    assert "Traceback" not in error
    assert not out.exists()
    assert main(words(model, out)) == 0
    assert main(words(model, again)) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "model", "out"]
    resumed, straight = store.load(out).state_dict(), store.load(again).state_dict()
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
