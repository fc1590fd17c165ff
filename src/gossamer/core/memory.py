"""Peak memory of a stretch of code, above what was in use when it began."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from types import TracebackType

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Context manager whose ``bytes`` is the greatest extra memory that was in use inside it.

    On a CUDA device it is the caching allocator's peak; otherwise the process's resident set
    (the kernel's high-water mark on Linux, samples every 10 ms elsewhere). Both are marks of the
    whole process, which entering resets: an outer one sees nothing from before an inner one.

    >>> with PeakMemory() as peak:
    ...     block = torch.ones(25_000_000)
    >>> peak.bytes > 90_000_000
    True
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.bytes = 0
        self._start = 0
        self._sampler: _Sampler | None = None

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._start = torch.cuda.memory_allocated(self.device)
        elif _reset_mark():
            self._start = resident()
        else:
            self._start = resident()
            self._sampler = _Sampler()
            self._sampler.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            peak = torch.cuda.max_memory_allocated(self.device)
        elif self._sampler is not None:
            peak = self._sampler.stop()
        else:
            peak = _status("VmHWM")
        self.bytes = max(0, peak - self._start)


class _Sampler(threading.Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.running = True

    def run(self) -> None:
        while self.running:
            self.peak = max(self.peak, resident())
            time.sleep(0.01)

    def stop(self) -> int:
        self.running = False
        self.join()
        return max(self.peak, resident())


def resident() -> int:
    """Bytes of this process that are in memory now; 0 where the system does not say."""
    if _STATUS.exists():
        return _status("VmRSS")
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(field: str) -> int:
    match = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))
    return int(match[1]) * 1024 if match else 0


def _reset_mark() -> bool:
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:  # not Linux, or a sandbox that forbids it
        return False
    return True
