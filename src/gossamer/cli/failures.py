"""What the user is told when a command fails: one sentence and an exit code."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import torch

from gossamer.core.errors import GossamerError

_BAD_INPUT = 2
_INTERRUPTED = 130
_REASONS = {
    errno.ENOSPC: "no space is left on the device; free some, or choose another folder.",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose another folder.",
    errno.EACCES: "permission denied; choose a place that you may read and write.",
    errno.EPERM: "the operation is not permitted; choose a place that you may read and write.",
    errno.EROFS: "the file system is read-only; choose another folder.",
    errno.ENOENT: "no such file or folder.",
    errno.EISDIR: "this is a folder, and a file is needed.",
    errno.ENOTDIR: "this is a file, and a folder is needed.",
}


@dataclass(frozen=True)
class Failure:
    """A sentence for stderr and the exit code that goes with it."""

    sentence: str
    code: int


def describe(error: BaseException) -> Failure | None:
    """The failure that an exception stands for, or None for a defect of the program itself."""
    if isinstance(error, GossamerError):
        return Failure(" ".join(str(error).split()), _BAD_INPUT)
    if isinstance(error, KeyboardInterrupt):
        return Failure(
            "interrupted. Nothing half-written is kept; run the same command again to go on.",
            _INTERRUPTED,
        )
    if isinstance(error, OSError) and error.errno in _REASONS:
        place = error.filename if error.filename is not None else "writing"
        return Failure(f"{place}: {_REASONS[error.errno]}", _BAD_INPUT)
    if _is_out_of_memory(error):
        return Failure(
            "out of memory; use fewer or shorter calibration sequences, or a smaller model.",
            _BAD_INPUT,
        )
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's CPU allocator raises a plain RuntimeError, known by its text alone.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
