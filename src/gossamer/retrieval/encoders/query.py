"""Queries as they are typed: a text, or terms with weights."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gossamer.core import DataError
from gossamer.layout.rows import Rows, as_rows
from gossamer.retrieval.encoders.encoder import Encoder, Names
from gossamer.retrieval.exchange import Numbers

_WEIGHTED = re.compile(r"(.+):(\d*\.?\d+)")


def read_queries(typed: Sequence[str], encoder: Encoder | None) -> Rows:
    """A row each: ``term:weight`` words as they stand, anything else through the encoder.

    Without an encoder, or with one that only has names, a word without a weight has the weight 1.

    Raises:
        DataError: a term is not known.

    >>> read_queries(["3:0.5 7"], None).row(0)[0].tolist()
    [3, 7]
    """
    rows: list[list[tuple[int, float]]] = []
    for text in typed:
        found = [_WEIGHTED.fullmatch(word) for word in text.split()]
        raw = encoder is None or encoder.kind == Names.kind
        if encoder is None or raw or (found and all(found)):
            terms = Numbers() if encoder is None else encoder.lexicon
            rows.append([
                (terms.number(match[1] if match else word), float(match[2]) if match else 1.0)
                for word, match in zip(text.split(), found)])
        else:
            one = encoder.queries([text])
            rows.append(list(zip(*(part.tolist() for part in one.row(0)))))
    if not rows:
        raise DataError("There is no query.")
    return as_rows(rows, None if encoder is None else encoder.lexicon.size)
