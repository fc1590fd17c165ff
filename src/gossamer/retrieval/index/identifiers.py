"""Identifiers: what the user calls documents, found again by sorted keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gossamer.core import DataError, StoreError

Id = int | str
Kind = Literal["int", "str"]
NAMES = ("ids", "id_text", "id_starts", "id_keys", "id_order")
_LEAST, _MOST = -(2**63), 2**63 - 1


@dataclass(frozen=True, eq=False)
class Ids:
    """Identifiers of consecutive documents, with what finds a document by its identifier.

    Integers are their own keys; the key of a string is 64 bits of its BLAKE2 digest.

    Args:
        kind: "int" or "str".
        ids: int64 ``[documents]`` of integers; None for strings.
        text: uint8, the UTF-8 of all strings in a row; None for integers.
        starts: int64 ``[documents + 1]``, where each string begins; None for integers.
        keys: int64 ``[documents]``, rising.
        order: uint32 ``[documents]``, the document of each key; None where that is the key's place.
    """

    kind: Kind
    ids: NDArray[np.int64] | None
    text: NDArray[np.uint8] | None
    starts: NDArray[np.int64] | None
    keys: NDArray[np.int64]
    order: NDArray[np.uint32] | None

    @classmethod
    def of(cls, ids: Sequence[Id] | NDArray[np.int64], kind: Kind) -> Ids:
        """Identifiers that `checked` has let through."""
        if kind == "int":
            return cls._of_integers(np.ascontiguousarray(ids, np.int64))
        encoded = [str(one).encode() for one in ids]
        starts = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(one) for one in encoded], out=starts[1:])
        text = np.frombuffer(b"".join(encoded), np.uint8)
        keys, order = _sorted(keys_of(ids, kind))
        return cls(kind, None, text, starts, keys, order)

    @classmethod
    def _of_integers(cls, ids: NDArray[np.int64]) -> Ids:
        keys, order = _sorted(ids)
        return cls("int", ids, None, None, keys, order)

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[Any]], documents: int) -> Ids:
        """Identifiers from the arrays that `arrays` gave.

        Raises:
            StoreError: they do not fit together.
        """
        keys, order = arrays.get("id_keys"), arrays.get("id_order")
        if "ids" in arrays:
            ids = arrays["ids"]
            found = cls("int", ids, None, None, ids if keys is None else keys, order)
            sound = ids.dtype == np.int64 and len(ids) == documents
        elif keys is not None and {"id_text", "id_starts"} <= arrays.keys():
            starts, text = arrays["id_starts"], arrays["id_text"]
            found = cls("str", None, text, starts, keys, order)
            sound = len(starts) == documents + 1 and starts.dtype == np.int64
            sound = sound and text.dtype == np.uint8 and int(starts[-1]) == len(text)
        else:
            raise StoreError("A segment lacks the identifiers of its documents.")
        sound = sound and len(found.keys) == documents and found.keys.dtype == np.int64
        sound = sound and (order is None or (
            order.dtype == np.uint32 and len(order) == documents
            and (documents == 0 or int(order.max()) < documents)))
        if not sound:
            raise StoreError("The identifiers of a segment do not fit its documents.")
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored, by name."""
        values = (self.ids, self.text, self.starts, self.keys, self.order)
        named = {name: value for name, value in zip(NAMES, values) if value is not None}
        if self.kind == "int" and self.order is None:
            del named["id_keys"]
        return named

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: NDArray[np.integer[Any]]) -> list[Any]:
        """Identifiers of the documents at ``rows``."""
        if self.ids is not None:
            found: list[Any] = self.ids[rows].tolist()
            return found
        text, starts = self.text, self.starts
        if text is None or starts is None:
            raise StoreError("Identifiers of strings lack their text.")
        return [bytes(text[a:b]).decode()
                for a, b in zip(starts[rows].tolist(), starts[rows + 1].tolist())]

    def select(self, rows: NDArray[np.int64]) -> Ids:
        """Identifiers of some of the documents, in their order."""
        if self.ids is not None:
            return Ids._of_integers(self.ids[rows])
        return Ids.of(self.take(rows), "str")

    def find(self, wanted: Sequence[Id], keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The last document of each wanted identifier, -1 where there is none.

        Where one was deleted and added again it is there twice, and the last can be alive.

        Args:
            wanted: identifiers of this kind.
            keys: their `keys_of`.
        """
        at = np.searchsorted(self.keys, keys, side="right") - 1
        rows = self._rows_at(at, keys)
        if self.kind == "int":
            return rows
        open_ = np.flatnonzero(rows >= 0)
        while len(open_):  # one round, but where the keys of two strings are the same
            asked = [wanted[i] for i in open_.tolist()]
            same = np.array([a == b for a, b in zip(self.take(rows[open_]), asked)], np.bool_)
            open_ = open_[~same]
            at[open_] -= 1
            rows[open_] = self._rows_at(at[open_], keys[open_])
            open_ = open_[rows[open_] >= 0]
        return rows

    def _rows_at(self, at: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
        if len(self.keys) == 0:
            return np.full(len(keys), -1, np.int64)
        inside = np.maximum(at, 0)
        rows = inside if self.order is None else self.order[inside].astype(np.int64)
        return np.where((self.keys[inside] == keys) & (at >= 0), rows, -1)


def concatenated(parts: Sequence[Ids]) -> Ids:
    """Identifiers of several sets of documents as those of one."""
    if len(parts) == 1:
        return parts[0]
    whole = [part.ids for part in parts if part.ids is not None]
    if len(whole) == len(parts):
        return Ids.of(np.concatenate(whole), "int")
    return Ids.of([one for part in parts for one in part.take(np.arange(len(part)))], "str")


def keys_of(ids: Sequence[Id] | NDArray[np.int64], kind: Kind) -> NDArray[np.int64]:
    """The key of each identifier, int64."""
    if kind == "int":
        return np.ascontiguousarray(ids, np.int64)
    digests = [hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in ids]
    return np.frombuffer(b"".join(digests), np.int64)


def checked(ids: Iterable[Any], kind: Kind | None) -> tuple[list[Any], Kind]:
    """Identifiers as a list, all integers or all strings, and which of the two.

    Raises:
        DataError: one is of another type than the rest, or out of range.
    """
    found: list[Any] = ids.tolist() if isinstance(ids, np.ndarray) else _listed(ids)
    if not found:
        return found, kind or "int"
    first: Kind = "str" if isinstance(found[0], str) else "int"
    kind = kind or first
    wanted = str if kind == "str" else int
    for i, one in enumerate(found):
        if type(one) is wanted:
            continue
        if kind == "int" and isinstance(one, np.integer):
            found[i] = int(one)
        elif kind == "str" and isinstance(one, str):
            found[i] = str(one)
        else:
            name = "integers" if kind == "int" else "strings"
            raise DataError(f"The ids of this index are {name}, but one is {one!r}.")
    _check_range(found, kind)
    return found, kind


def _listed(ids: Iterable[Any]) -> list[Any]:
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise DataError(f"Ids are a list of integers or of strings, not {ids!r}.")
    return list(ids)


def _check_range(ids: list[Any], kind: Kind) -> None:
    if kind == "int":
        for one in (min(ids), max(ids)):
            if not _LEAST <= one <= _MOST:
                raise DataError(f"The id {one} does not fit 64 bits.")
        return
    for text in ids:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"The id {text!r} cannot be written as UTF-8.") from None


def _sorted(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint32] | None]:
    if len(keys) < 2 or bool((keys[1:] > keys[:-1]).all()):
        return keys, None
    order = np.argsort(keys, kind="stable").astype(np.uint32)
    return keys[order], order
