"""Table: the kernels of one op in the order in which they are tried, and a count of fallbacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from gossamer.core.registry import Registry


class Entry(Protocol):
    """A kernel: its name, the layouts that it reads, and why it does not cover an input."""

    @property
    def name(self) -> str:
        """Its key among the op's kernels."""

    @property
    def layouts(self) -> tuple[str, ...]:
        """Names of the layouts that it reads."""

    @property
    def where(self) -> Callable[..., str | None]:
        """None where it covers an input, else why not; by metadata alone."""


K = TypeVar("K", bound=Entry)


class Table(Generic[K]):
    """An ordered registry of kernels, and a count of the inputs that none of them covered.

    Args:
        what: what the kernels are, for the sentence of an error.
        kernels: the first of them, in order.
    """

    def __init__(self, what: str, kernels: tuple[K, ...]) -> None:
        self._by_layout: dict[str, tuple[K, ...]] = {}
        self._watching: tuple[Counter[str], ...] = ()
        self.all: Registry[K] = Registry(what, kernels, self._forget)

    def of(self, layout: str) -> tuple[K, ...]:
        """The kernels that read this layout, in order."""
        found = self._by_layout.get(layout)
        if found is None:
            found = tuple(kernel for kernel in self.all.values() if layout in kernel.layouts)
            self._by_layout[layout] = found
        return found

    def plan(self, layout: str, *given: Any) -> tuple[K | None, str]:
        """``(kernel, why not the ones before it)``; None where the reference has to do."""
        reasons: list[str] = []
        for kernel in self.of(layout):
            refused = kernel.where(*given)
            if refused is None:
                return kernel, "; ".join(reasons)
            if refused not in reasons:
                reasons.append(refused)
        return None, "; ".join(reasons) or f"there is no kernel for layout {layout}"

    def count(self, layout: str, *given: Any) -> None:
        """Tell everyone who watches that no kernel covered this."""
        for counter in self._watching:
            counter[f"{layout}: {self.plan(layout, *given)[1]}"] += 1

    @contextmanager
    def watch(self, counter: Counter[str] | None = None) -> Iterator[Counter[str]]:
        """Counts, inside ``with``, what no kernel covered: ``{"layout: why": times}``.

        Args:
            counter: to add to; None makes a new one.
        """
        counter = Counter() if counter is None else counter
        self._watching = (*self._watching, counter)
        try:
            yield counter
        finally:
            self._watching = tuple(known for known in self._watching if known is not counter)

    def _forget(self) -> None:
        self._by_layout = {}
