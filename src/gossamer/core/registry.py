"""Registry: named values that users can add to, and take out again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from gossamer.core.errors import ConfigError


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """The key under which it is found."""


T = TypeVar("T", bound=Named)


@dataclass(frozen=True)
class Registration:
    """What was added to a registry; as a context manager it takes it out again at the end.

    Args:
        remove: takes it out; a second call does nothing.
    """

    remove: Callable[[], None]

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Registry(Mapping[str, T]):
    """Values by name, in the order in which they are tried; each name once.

    Args:
        what: what the values are, for the error's sentence.
        items: the first of them, in order.
        changed: called after something was added or removed.
    """

    def __init__(
        self, what: str, items: Iterable[T], changed: Callable[[], None] | None = None
    ) -> None:
        self._what = what
        self._items = {item.name: item for item in items}
        self._changed = changed
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> T:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def register(self, item: T, *, first: bool = False) -> Registration:
        """Add a value at the end, or before all others.

        Raises:
            ConfigError: the name is taken.
        """
        with self._lock:
            if item.name in self._items:
                raise ConfigError(
                    f"There is a {self._what} {item.name!r} already; choose another name, or "
                    "remove that one first."
                )
            one = {item.name: item}
            # Readers in other threads see the old mapping or the new one, never half of it.
            self._items = {**one, **self._items} if first else {**self._items, **one}
        self._tell()
        return Registration(lambda: self._remove(item))

    def _remove(self, item: T) -> None:
        with self._lock:
            self._items = {n: known for n, known in self._items.items() if known is not item}
        self._tell()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed()
