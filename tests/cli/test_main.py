"""Dispatch, exit codes, and the one sentence that a failure becomes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
import torch

from gossamer.cli import main
from gossamer.cli import main as entry
from gossamer.cli.failures import describe
from gossamer.core.errors import PatternError


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def command(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(sys.modules["gossamer.cli.main"], "_dispatch", command)


def test_alone_it_prints_an_overview_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry([]) == 0
    printed = capsys.readouterr().out
    for command in ("frontier", "prune", "inspect", "pack", "index", "systems", "show", "evidence"):
        assert f"\n  {command}" in printed


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("gossamer 0")


def test_an_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fronteer"]) == 2
    seen = capsys.readouterr()
    assert seen.err == "gossamer: Unknown command 'fronteer': did you mean 'frontier'?\n"
    assert seen.out == ""


def test_an_unknown_option_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["systems", "--famly", "prune"])
    assert stop.value.code == 2
    assert "--family" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code", "words"), [
    (PatternError("Cannot keep 5 of 4."), 2, "Cannot keep 5 of 4."),
    (OSError(errno.ENOSPC, "full", "out/model.safetensors"), 2, "no space is left"),
    (PermissionError(errno.EACCES, "denied", "/root/x"), 2, "/root/x: permission denied"),
    (FileNotFoundError(errno.ENOENT, "none", "a.txt"), 2, "a.txt: no such file"),
    (MemoryError(), 2, "out of memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 2, "out of memory"),
    (torch.OutOfMemoryError("CUDA out of memory"), 2, "out of memory"),
    (KeyboardInterrupt(), 130, "interrupted"),
])
def test_failures_are_one_sentence_and_a_code(
    error: BaseException, code: int, words: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(monkeypatch, error)
    assert main(["systems"]) == code
    seen = capsys.readouterr().err
    assert words in seen
    assert seen.count("\n") == 1
    assert "Traceback" not in seen


@pytest.mark.parametrize("error", [PatternError("no"), RuntimeError("a defect")])
def test_debug_lets_the_traceback_through(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, error)
    with pytest.raises(type(error)):
        main(["systems", "--debug"])
    monkeypatch.setenv("GOSSAMER_DEBUG", "1")
    with pytest.raises(type(error)):
        main(["systems"])


def test_a_defect_is_not_dressed_up_as_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe(RuntimeError("shapes do not match")) is None
    fail_with(monkeypatch, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError):
        main(["systems"])


def test_a_pipe_gets_plain_text_and_may_close_early() -> None:
    code = "import sys; from gossamer.cli import main; sys.exit(main())"
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", code]
    listed = subprocess.run(
        [*command, "systems"], capture_output=True, env=environment, check=True, timeout=120
    )
    assert b"\x1b" not in listed.stdout + listed.stderr
    assert b"sparsegpt" in listed.stdout
    reader, writer = os.pipe()
    os.close(reader)
    closed = subprocess.run(
        [*command, "systems"], stdout=writer, stderr=subprocess.PIPE, env=environment,
        check=False, timeout=120,
    )
    os.close(writer)
    assert closed.returncode in (0, 1)  # rich stops by itself with 1, plain writes with 0
    assert closed.stderr == b""
