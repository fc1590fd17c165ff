"""SpladeEncoder: each text a weight for every token that a masked language model expects in it.

w_j = max over positions i of log(1 + relu(logit_ij)). Formal, Lassance, Piwowarski and Clinchant,
"SPLADE v2", arXiv 2109.10086, equation 6.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch

from gossamer.core import DataError, StoreError, UnsupportedError
from gossamer.layout.rows import Rows, as_rows
from gossamer.models import load
from gossamer.retrieval.exchange import Lexicon

_BATCH = 16
_LENGTH = 256


class SpladeEncoder:
    """Encode with a masked language model, documents and queries alike.

    Args:
        name: ``splade-tiny``, a folder that transformers saved, or the id of a model on the hub.

    Raises:
        UnsupportedError: the model does not give a logit for every token of its vocabulary.
        StoreError: there is no such model, or it has no tokenizer.
        NeedsError: transformers is not installed.
    """

    kind: ClassVar[str] = "splade"

    def __init__(self, name: str) -> None:
        loaded = load(name)
        if loaded.tokenizer is None:
            raise StoreError(f"{loaded.source} has no tokenizer.")
        self.name = name
        self._tokenizer = cast(Any, loaded.tokenizer)
        self._model = cast(Any, loaded.model)
        # A tokenizer changes its own truncation while it encodes.
        self._lock = threading.Lock()
        size = int(getattr(self._model.config, "vocab_size", 0))
        if self._model.get_output_embeddings() is None or not size:
            raise UnsupportedError(
                f"{loaded.source} is no masked language model: it gives no logits of tokens.")
        tokens = self._tokenizer.convert_ids_to_tokens(list(range(len(self._tokenizer))))
        spare = range(len(tokens), size)
        self.lexicon = Lexicon([*tokens, *(f"[spare {i}]" for i in spare)][:size])

    @classmethod
    def restore(cls, found: Mapping[str, Any]) -> SpladeEncoder:
        """From what `describe` gave."""
        return cls(str(found["model"]))

    def documents(self, texts: Sequence[str]) -> Rows:
        """A row a text, of its first 256 tokens.

        Raises:
            DataError: a text is not a string.
        """
        wrong = next((text for text in texts if not isinstance(text, str)), None)
        if wrong is not None:
            raise DataError(f"A text is a string, not {type(wrong).__name__}.")
        lengths = [np.zeros(1, np.int64)]
        terms: list[np.ndarray[Any, Any]] = [np.empty(0, np.int64)]
        weights: list[np.ndarray[Any, Any]] = [np.empty(0, np.float32)]
        for first in range(0, len(texts), _BATCH):
            found = self._weights(list(texts[first:first + _BATCH]))
            row, term = np.nonzero(found)
            lengths.append(np.bincount(row, minlength=len(found)))
            terms.append(term)
            weights.append(found[row, term])
        starts = np.cumsum(np.concatenate(lengths))
        size = self.lexicon.size
        return as_rows((starts, np.concatenate(terms), np.concatenate(weights)), size)

    queries = documents

    def describe(self) -> dict[str, Any]:
        """The model's name."""
        return {"model": self.name}

    def _weights(self, texts: list[str]) -> np.ndarray[Any, Any]:
        """Weights ``[texts, vocabulary]``, most of them zero."""
        with self._lock:
            tokens = self._tokenizer(
                texts, padding=True, truncation=True, max_length=_LENGTH, return_tensors="pt")
        with torch.inference_mode():
            logits = self._model(**tokens).logits  # [texts, length, vocabulary]
            kept = logits.relu().log1p() * tokens["attention_mask"].unsqueeze(-1)
            weights: np.ndarray[Any, Any] = kept.amax(1).float().numpy()
        return weights
