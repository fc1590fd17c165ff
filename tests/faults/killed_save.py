"""A saving process that is killed at every step in turn; run by test_killed.py.

Every system call of a save that Python's audit hook or a patched function can see is one step.
A forked child is killed with SIGKILL at step k; what it leaves behind is then judged.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from gossamer import store
from gossamer.core import StoreError
from tests.store.pruned import mlp, prune, same, zoo

SEEN = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.chmod",
        "os.listdir", "os.scandir", "tempfile.mkdtemp", "tempfile.mkstemp"}


def die_at(step: int) -> None:
    """Kill this process at its ``step``-th call into the system that a save makes."""
    count = [0]

    def tick() -> None:
        count[0] += 1
        if count[0] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, _: tuple[object, ...]) -> None:
        if event in SEEN:
            tick()

    fsync, replace = os.fsync, os.replace
    os.fsync = lambda handle: (tick(), fsync(handle))[1]
    os.replace = lambda old, new: (tick(), replace(old, new), tick())[1]
    sys.addaudithook(hook)


def in_child(work: Callable[[], None]) -> int:
    """Run in a forked child; its exit status as `os.waitstatus_to_exitcode` gives it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def judge(folder: Path, old: nn.Module | None, new: nn.Module, hugging_face: bool) -> str:
    """What a killed save left: old, new or refused; anything else is an AssertionError."""
    into = None if hugging_face else mlp()
    try:
        found = store.load(folder, into=into)
    except StoreError as error:
        reason = str(error)
    else:
        reason = ""
    if reason:
        if old is not None:  # an overwrite may lose the name for a moment, never the model
            beside = list(folder.parent.glob(f".{folder.name}.old-*"))
            assert not folder.exists()
            assert len(beside) == 1
            assert str(beside[0]) in reason
            assert same(old, store.load(beside[0], into=None if hugging_face else mlp()))
        return "refused"
    if same(found, new):
        return "new"
    assert old is not None
    assert same(found, old)
    return "old"


def every_step(root: Path, hugging_face: bool, overwrite: bool, layout: str) -> dict[str, int]:
    """Kill a save at step 1, 2, 3, ... until it ends by itself; how often each outcome came."""
    old, new = (zoo("llama")[0], zoo("llama")[0]) if hugging_face else (mlp(1), mlp(2))
    prune(new, "rows", 0.25)
    outcomes: dict[str, int] = {}
    step = 0
    while True:
        step += 1
        folder = root / f"{hugging_face}-{overwrite}-{layout}-{step}" / "model"
        if overwrite:
            store.save(old, folder, layout=layout)

        def work(target: Path = folder, at: int = step) -> None:
            die_at(at)
            store.save(new, target, layout=layout, overwrite=overwrite)

        code = in_child(work)
        outcome = judge(folder, old if overwrite else None, new, hugging_face)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if code == 0:
            assert outcome == "new"
            return outcomes
        assert code == -signal.SIGKILL


def random_times(root: Path, count: int) -> dict[str, int]:
    """Kill overwriting saves after random delays."""
    old, new = mlp(1), mlp(2)
    generator = torch.Generator().manual_seed(0)
    outcomes: dict[str, int] = {}
    for number in range(count):
        folder = root / f"random-{number}" / "model"
        store.save(old, folder)
        pid = os.fork()
        if pid == 0:
            try:
                while True:
                    store.save(new, folder, overwrite=True)
            finally:
                os._exit(0)
        time.sleep(0.3 * float(torch.rand((), generator=generator)))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        outcome = judge_repeated(folder, old, new)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def judge_repeated(folder: Path, old: nn.Module, new: nn.Module) -> str:
    """Like `judge`, where the model set aside may already be the new one."""
    try:
        found = store.load(folder, into=mlp())
    except StoreError:
        beside = list(folder.parent.glob(f".{folder.name}.old-*"))
        assert beside
        found = store.load(beside[-1], into=mlp())
    assert same(found, old) or same(found, new)
    return "old" if same(found, old) else "new"


SCENARIOS = {
    "own, fresh": (False, False, "auto"), "own, overwrite": (False, True, "auto"),
    "transformers, fresh, dense": (True, False, "dense"),
}


def main() -> None:
    """Print the outcomes of every scenario as JSON."""
    root = Path(sys.argv[1])
    torch.set_num_threads(1)
    found = {name: every_step(root, *choice) for name, choice in SCENARIOS.items()}
    found["random times"] = random_times(root, 8)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
