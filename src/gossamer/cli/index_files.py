"""Files that an index is built from and asked with: texts, or vectors in any known format."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.core import ConfigError, DataError
from gossamer.core.errors import unknown
from gossamer.layout.rows import Rows, as_rows
from gossamer.retrieval import Batch, SparseIndex
from gossamer.retrieval.encoders import Encoder, Names, WordEncoder, keep
from gossamer.retrieval.exchange import FORMATS, Lexicon, Options, guess, read_documents
from gossamer.retrieval.exchange.lines import read_lines

AUTO, TEXTS, NONE = "auto", "texts", "none"
_TEXT_BATCH = 256


@dataclass(frozen=True)
class Source:
    """A file of documents or queries, and the format that it is in."""

    path: Path
    format: str
    options: Options

    @classmethod
    def of(cls, path: Path, format: str, scale: float | None, field: str | None) -> Source:
        """With the format seen from the file where it is "auto"."""
        if format == AUTO:
            format = TEXTS if _holds_texts(path) else guess(path)
        elif format not in (TEXTS, *FORMATS):
            raise ConfigError(unknown("format", format, (AUTO, TEXTS, *FORMATS)))
        return cls(path, format, Options(scale=scale, field=field))

    @property
    def named(self) -> bool:
        """Whether its terms have names."""
        return self.format != TEXTS and FORMATS[self.format].named

    def batches(self, encoder: Encoder | None, lexicon: Lexicon | None) -> Iterator[Batch]:
        """Its documents as rows: texts through the encoder, tokens by the names given."""
        if self.format != TEXTS:
            found = read_documents(self.path, self.format, lexicon, self.options)
            for batch in found:
                yield Batch(batch.rows, batch.ids, batch.payloads)
            return
        if encoder is None:
            raise DataError(f"{self.path} holds texts, and the index has no encoder: give vectors, "
                            "or build it with --encoder.")
        read = read_texts(self.path)
        while some := list(itertools.islice(read, _TEXT_BATCH)):
            rows = encoder.documents([text for _, text, _ in some])
            yield Batch(rows, _ids([id for id, _, _ in some]), [kept for *_, kept in some])

    def queries(self, encoder: Encoder | None) -> Rows:
        """All of it as queries."""
        if self.format == TEXTS and encoder is not None:
            return encoder.queries([text for _, text, _ in read_texts(self.path)])
        names = None if encoder is None or not self.named else encoder.lexicon
        found = [batch.rows for batch in self.batches(encoder, names)]
        if not found:
            raise DataError(f"{self.path} holds no query.")
        pairs = [list(zip(*(part.tolist() for part in rows.row(i))))
                 for rows in found for i in range(rows.count)]
        return as_rows(pairs, max(rows.vocabulary for rows in found))


def read_texts(path: Path) -> Iterator[tuple[Any, str, Any]]:
    """Id, text and payload of every line ``{"id": ..., "text": ..., ...}``.

    The payload is the line without its id, or only the text where there is nothing else.

    Raises:
        DataError: a line has no text.
    """
    for where, item in read_lines(path):
        id, text = item.pop("id", None), item.get("text")
        if not isinstance(text, str):
            raise DataError(f'{where} has no "text".')
        yield id, text, text if len(item) == 1 else item


def build(source: Source, folder: Path, encoder_name: str, stem: str | None, progress: Any
          ) -> SparseIndex:
    """A new index of a file, with its encoder beside it.

    Args:
        source: documents.
        folder: new folder.
        encoder_name: for texts, "bm25" or the name of a masked language model.
        stem: language of BM25's stemmer.
        progress: called with documents done, total and a text.
    """
    if source.format == TEXTS:
        encoder, stream = _encoded(source, encoder_name, stem)
        index = SparseIndex.build(stream, folder=folder, progress=progress)
        keep(encoder, folder)
        return index
    lexicon = Lexicon(grows=True) if source.named else None
    index = SparseIndex.build(source.batches(None, lexicon), folder=folder, progress=progress)
    if lexicon is not None:
        keep(Names(lexicon.tokens), folder)
    return index


def _encoded(
    source: Source, name: str, stem: str | None,
) -> tuple[Encoder, Iterable[Batch]]:
    if name != WordEncoder.kind:
        from gossamer.retrieval.encoders.splade import SpladeEncoder  # loads transformers
        encoder = SpladeEncoder(name)
        return encoder, source.batches(encoder, None)
    documents = list(read_texts(source.path))
    words, rows = WordEncoder.fit([text for _, text, _ in documents], stem)
    ids = _ids([id for id, *_ in documents])
    return words, iter([Batch(rows, ids, [kept for *_, kept in documents])])


def add(source: Source, index: SparseIndex, encoder: Encoder | None, progress: Any) -> int:
    """Add the documents of a file; how many there were. New tokens get names as they come."""
    lexicon = None
    if source.named:
        if encoder is None:
            raise DataError("The terms of this index have no names, and those of "
                            f"{source.path} have nothing but names.")
        lexicon = Lexicon(encoder.lexicon.tokens, grows=encoder.kind == Names.kind)
    count, named = 0, 0 if lexicon is None else len(lexicon.tokens)
    for batch in source.batches(encoder, lexicon):
        if lexicon is not None and len(lexicon.tokens) > named and index.folder is not None:
            # Names come first: a name too many does no harm, one too few loses a document's.
            keep(Names(lexicon.tokens), index.folder)
            named = len(lexicon.tokens)
        count += len(index.add(batch.rows, batch.ids, batch.payloads))
        progress(count, count, "documents added")
    return count


def _ids(ids: list[Any]) -> list[Any] | None:
    without = sum(id is None for id in ids)
    if without not in (0, len(ids)):
        raise DataError(f"{without} of {len(ids)} texts have no id: give all of them one, or none.")
    return None if without else ids


def _holds_texts(path: Path) -> bool:
    if path.name.endswith((".npz", ".ciff")):
        return False
    _, first = next(read_lines(path), ("", {}))
    return isinstance(first.get("text"), str) and "vector" not in first and "terms" not in first
