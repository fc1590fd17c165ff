"""Text to words: lower case, words of two letters or more, stems and stop words where asked."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from gossamer.core import ConfigError, DataError, NeedsError, validate
from gossamer.core.errors import unknown

__all__ = ["Tokeniser"]

_WORD = re.compile(r"\w\w+")


@dataclass(frozen=True)
class Tokeniser:
    """Lower-cased words of two or more letters or digits; the same for documents and queries.

    Args:
        stem: language of the Snowball stemmer that words go through, such as "english"; None
            leaves them whole.
        stop: words that are left out, compared before stemming.

    Raises:
        ConfigError: there is no stemmer of that language.
        NeedsError: stems are asked for and PyStemmer is not installed.

    >>> Tokeniser(stop=frozenset({"the"})).words("The flow past a flat plate, 1962")
    ['flow', 'past', 'flat', 'plate', '1962']
    """

    stem: Annotated[str | None, "language of the Snowball stemmer; None: none"] = None
    stop: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        validate(self)
        if self.stem is not None:
            _stemmer(self.stem)

    def words(self, text: str) -> list[str]:
        """The words of one text, in order, with repetitions."""
        return self.reader()(text)

    def reader(self) -> Callable[[str], list[str]]:
        """A function from a text to its words, for many texts.

        It raises a DataError for what is not a string.
        """
        stems = _stemmer(self.stem) if self.stem is not None else None

        def read(text: str) -> list[str]:
            if not isinstance(text, str):
                raise DataError(f"A text is a string, not {type(text).__name__}.")
            words = _WORD.findall(text.lower())
            if self.stop:
                words = [word for word in words if word not in self.stop]
            return words if stems is None else stems(words)

        return read


def _stemmer(language: str) -> Callable[[list[str]], list[str]]:
    if importlib.util.find_spec("Stemmer") is None:
        raise NeedsError('Stems need PyStemmer: pip install "gossamer[retrieval]".')
    import Stemmer
    if language not in Stemmer.algorithms():
        raise ConfigError(unknown("stemmer", language, Stemmer.algorithms()))
    stems: Callable[[list[str]], list[str]] = Stemmer.Stemmer(language).stemWords
    return stems
