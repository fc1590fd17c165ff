"""Names of terms: engines speak of tokens, an index of numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from gossamer.core import DataError


class Terms(Protocol):
    """Tokens to numbers and back."""

    def number(self, token: str) -> int:
        """Number of a token."""

    def token(self, number: int) -> str:
        """Token of a number."""

    @property
    def size(self) -> int | None:
        """How many terms there are; None where any number may come."""


class Numbers:
    """Terms that have no names: the token of term 42 is "42"."""

    @property
    def size(self) -> int | None:
        """None: any number may come."""
        return None

    def number(self, token: str) -> int:
        """The number that a token spells."""
        if not (token.isascii() and token.isdigit()):
            raise DataError(
                f"Term {token!r} is not a number: give the list of tokens, or let the import make "
                "one."
            )
        return int(token)

    def token(self, number: int) -> str:
        """The number in digits."""
        return str(number)


class Lexicon:
    """A list of tokens; the place of a token is its number.

    Args:
        tokens: those known already.
        grows: a token that is not known gets the next number, instead of being refused.
    """

    def __init__(self, tokens: Iterable[str] = (), grows: bool = False) -> None:
        self.tokens = list(tokens)
        self.grows = grows
        self._numbers = {token: i for i, token in enumerate(self.tokens)}
        if len(self._numbers) != len(self.tokens):
            raise DataError(f"{len(self.tokens) - len(self._numbers)} tokens come twice.")

    @property
    def size(self) -> int | None:
        """Number of tokens."""
        return len(self.tokens) or None

    def number(self, token: str) -> int:
        """Number of a token.

        Raises:
            DataError: the token is not known and the list does not grow.
        """
        known = self._numbers.get(token)
        if known is not None:
            return known
        if not self.grows:
            raise DataError(f"Token {token!r} is not among the {len(self.tokens)} known ones.")
        self._numbers[token] = len(self.tokens)
        self.tokens.append(token)
        return len(self.tokens) - 1

    def token(self, number: int) -> str:
        """Token of a number.

        Raises:
            DataError: there is no such number.
        """
        if not 0 <= number < len(self.tokens):
            raise DataError(
                f"Term {number} has no name: there are {len(self.tokens)} tokens, so give the list "
                "that belongs to these vectors."
            )
        return self.tokens[number]
