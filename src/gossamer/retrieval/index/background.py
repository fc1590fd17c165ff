"""Merging in a thread of its own, which ends when nothing is left to merge."""

from __future__ import annotations

import threading

from gossamer.core import GossamerError
from gossamer.retrieval.index.merge import due
from gossamer.retrieval.index.writer import Writer

# With so many times the segments that are merged at once, whoever writes helps to merge.
_BEHIND = 4


class Merger:
    """Merges segments of a writer when its settings say that it is time."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = False

    @property
    def running(self) -> bool:
        """Whether a merge is going on."""
        return self._thread is not None

    def after_write(self) -> None:
        """Start merging if it is due; merge here and now where it has fallen behind."""
        writer = self._writer
        if not writer.config.background or not due(writer.parts, writer.config):
            return
        with self._lock:
            if self._thread is None and not self._stop:
                self._thread = threading.Thread(target=self._work, name="gossamer-merge")
                self._thread.start()
        stored = sum(part.stored for part in writer.parts)
        if stored > _BEHIND * writer.config.merge_segments:
            with writer.merging:
                pass

    def stop(self) -> None:
        """Wait until a merge that runs has ended, and start no other."""
        with self._lock:
            self._stop = True
            thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        writer = self._writer
        while True:
            with self._lock:
                if self._stop or not due(writer.parts, writer.config):
                    self._thread = None
                    return
            try:
                with writer.merging:
                    if chosen := due(writer.parts, writer.config):
                        writer.merge(chosen)
            except (GossamerError, OSError, MemoryError) as error:
                writer.trouble = str(error)
                with self._lock:
                    self._thread = None
                return
