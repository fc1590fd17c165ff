"""Dispatch to one command, and one sentence for everything that goes wrong."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from types import MappingProxyType

from gossamer import __version__
from gossamer.cli.failures import Failure, describe
from gossamer.core.errors import ConfigError, GossamerError, unknown

# name: (module, function, what it does). A module is imported when its command is called.
COMMANDS = MappingProxyType({
    "frontier": ("frontier", "run", "which sparsity buys what on this model, on this machine"),
    "prune": ("prune", "run", "prune a model with one system and save it packed"),
    "predict": ("predict", "run", "what a model would cost on a device, dense and sparse"),
    "inspect": ("folders", "run_inspect", "bits a weight, patterns and lints of a saved model"),
    "pack": ("folders", "run_pack", "save a model folder again in another layout"),
    "export": ("export", "run", "a language model as an ONNX file, with dense zeros"),
    "index": ("index", "run", "build, change, search and serve an index of sparse vectors"),
    "systems": ("systems", "run_systems", "list the systems: what each keeps, and its paper"),
    "show": ("systems", "run_show", "everything known of one system"),
    "evidence": ("evidence", "run", "measure the claims of systems against their baselines"),
})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 a claim failed, 2 bad input, 130 Ctrl-C.

    Args:
        arguments: words after ``gossamer``; None takes those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or bool(os.environ.get("GOSSAMER_DEBUG"))
    words = [word for word in given if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A console without Unicode shows ? instead of failing; a log grows line by line.
            stream.reconfigure(errors="replace", line_buffering=True)
    try:
        code = _dispatch(words)
        sys.stdout.flush()  # a closed pipe shows here, not at interpreter exit
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (GossamerError, OSError, MemoryError, RuntimeError, KeyboardInterrupt) as error:
        failure = None if debug else describe(error)
        if failure is None:
            raise
        return _report(failure)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if words[0] in ("-V", "--version", "version"):
        sys.stdout.write(f"gossamer {__version__}\n")
        return 0
    if words[0] not in COMMANDS:
        raise ConfigError(unknown("command", words[0], COMMANDS))
    module, function, _ = COMMANDS[words[0]]
    run = getattr(importlib.import_module(f"gossamer.cli.{module}"), function)
    return int(run(words[1:]))


def overview() -> str:
    """What ``gossamer`` alone prints."""
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {summary}" for name, (_, _, summary) in COMMANDS.items()]
    return "\n".join([
        f"gossamer {__version__}: keep a few of the weights, store and compute only those,",
        "and measure what that bought.", "",
        "usage: gossamer COMMAND ...      gossamer COMMAND --help", "", *lines, "",
        "Start with   gossamer frontier smollm2",
        "then         gossamer prune smollm2 --system sparsegpt --pattern 2:4 --out pruned",
        "and          gossamer inspect pruned", "",
        "--debug (or GOSSAMER_DEBUG=1) shows the traceback of an error; --version the version.",
    ]) + "\n"


def _report(failure: Failure) -> int:
    sys.stderr.write(f"gossamer: {failure.sentence}\n")
    return failure.code
