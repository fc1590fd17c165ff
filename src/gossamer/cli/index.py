"""``gossamer index``: build, change, search and serve an index of sparse vectors."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import tyro
from rich.table import Table
from rich.text import Text

from gossamer.cli import index_files as files
from gossamer.cli.index_bench import measured
from gossamer.cli.terminal import console, progress, quiet_libraries
from gossamer.core import ConfigError
from gossamer.core.errors import unknown
from gossamer.retrieval import SparseIndex
from gossamer.retrieval.encoders import Encoder, keep, open_encoder, read_queries
from gossamer.retrieval.exchange import FORMATS, Options, documents_of, write_documents
from gossamer.retrieval.index import check_folder, recover_folder

_SHOWN = 100  # characters of a document's text


def _arg(metavar: str | None, help: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help=help)


Folder = Annotated[tyro.conf.Positional[Path], _arg("DIR", "folder of the index")]
File = Annotated[tyro.conf.Positional[Path], _arg("FILE", "JSON lines (also .gz), .npz or .ciff")]
Form = Annotated[str, _arg("NAME", f"auto, texts, {', '.join(FORMATS)}")]
Scale = Annotated[float | None, _arg("X", "anserini and ciff: impact of a weight of 1")]
Field = Annotated[str | None, _arg("NAME", "opensearch and qdrant: field of the vector")]
K = Annotated[int, _arg("N", "hits of a query")]
Flag = tyro.conf.FlagCreatePairsOff[bool]


@dataclass(frozen=True)
class Build:
    """A new index of texts, or of vectors in any format that is known."""

    folder: Folder
    file: File
    format: Form = files.AUTO
    encoder: Annotated[
        str, _arg("NAME", "for texts: bm25, splade-tiny, a folder or a hub id of a SPLADE model")
    ] = "bm25"
    stem: Annotated[str | None, _arg("LANGUAGE", "bm25: stem words of, such as english")] = None
    scale: Scale = None
    field: Field = None


@dataclass(frozen=True)
class Import:
    """A new index of vectors from another engine; names of terms are kept."""

    file: File
    folder: Folder
    format: Form = files.AUTO
    scale: Scale = None
    field: Field = None


@dataclass(frozen=True)
class Add:
    """Add the documents of a file; they are durable when the command ends."""

    folder: Folder
    file: File
    format: Form = files.AUTO
    scale: Scale = None
    field: Field = None


@dataclass(frozen=True)
class Delete:
    """Delete documents by their ids."""

    folder: Folder
    ids: Annotated[tyro.conf.Positional[tuple[str, ...]], _arg("ID", "ids of documents")]


@dataclass(frozen=True)
class Search:
    """The best documents for a query: a text, or words of the form term:weight."""

    folder: Folder
    query: Annotated[tyro.conf.Positional[tuple[str, ...]], _arg("WORD", "the query")]
    k: K = 10
    recall: Annotated[float, _arg("SHARE", "of the true best hits to aim at")] = 0.95
    exact: Annotated[Flag, _arg(None, "answer as a scan of all documents would")] = False
    explain: Annotated[Flag, _arg(None, "show what each term brings")] = False


@dataclass(frozen=True)
class Serve:
    """Serve the index over HTTP, with a search page; the key comes from GOSSAMER_KEY."""

    folder: Folder
    host: Annotated[str, _arg("HOST", "address to listen at")] = "127.0.0.1"
    port: Annotated[int, _arg("PORT", "port to listen at")] = 8080
    threads: Annotated[int, _arg("N", "threads that search")] = 2
    read_only: Annotated[Flag, _arg(None, "answer no changes, follow another writer's")] = False


@dataclass(frozen=True)
class Tune:
    """Find the least work that reaches each recall on sample queries, and keep it."""

    folder: Folder
    file: File
    recall: Annotated[float, _arg("SHARE", "a recall to reach, besides the usual ones")] = 0.95
    k: K = 10
    format: Form = files.AUTO


@dataclass(frozen=True)
class Check:
    """Read every byte of an index and compare all checksums; 1 where something is wrong."""

    folder: Folder


@dataclass(frozen=True)
class Recover:
    """Build a new index of every document of a damaged one that can still be read."""

    folder: Folder
    out: Annotated[tyro.conf.Positional[Path], _arg("NEW", "new folder")]


@dataclass(frozen=True)
class Bench:
    """Time and recall of searches on this machine, against the exact answers."""

    folder: Folder
    file: File
    k: K = 10
    seconds: Annotated[float, _arg("S", "for each line of the table")] = 2.0
    format: Form = files.AUTO
    json: Annotated[Path | None, _arg("FILE", "also write everything here")] = None


@dataclass(frozen=True)
class Export:
    """Write all documents for another engine."""

    folder: Folder
    out: Annotated[Path, _arg("FILE", "file to write; .gz is compressed where it is JSON")]
    format: Annotated[str, _arg("NAME", ", ".join(FORMATS))]
    scale: Scale = None
    field: Field = None


def run(arguments: list[str]) -> int:
    """Run one verb of ``gossamer index``."""
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  {name:<7} {(kind.__doc__ or '').splitlines()[0]}"
                 for name, (kind, _) in VERBS.items()]
        sys.stdout.write("\n".join([
            "usage: gossamer index VERB ...      gossamer index VERB --help", "", *lines, ""]))
        return 0
    verb = arguments[0]
    if verb not in VERBS:
        raise ConfigError(unknown("verb", verb, VERBS))
    kind, work = VERBS[verb]
    options: Any = tyro.cli(kind, args=arguments[1:], prog=f"gossamer index {verb}")
    quiet_libraries()
    return work(options)


def _build(options: Build) -> int:
    source = files.Source.of(options.file, options.format, options.scale, options.field)
    with progress() as report, files.build(
            source, options.folder, options.encoder, options.stem, report) as index:
        _say(_summary(index))
    return 0


def _import(options: Import) -> int:
    source = files.Source.of(options.file, options.format, options.scale, options.field)
    if source.format == files.TEXTS:
        raise ConfigError(f"{options.file} holds texts: use gossamer index build.")
    with progress() as report, files.build(
            source, options.folder, files.NONE, None, report) as index:
        _say(_summary(index))
    return 0


def _add(options: Add) -> int:
    source = files.Source.of(options.file, options.format, options.scale, options.field)
    with progress() as report, SparseIndex.load(options.folder, writable=True) as index:
        count = files.add(source, index, open_encoder(options.folder), report)
        _say(f"{count:,} documents added. {_summary(index)}")
    return 0


def _delete(options: Delete) -> int:
    with SparseIndex.load(options.folder, writable=True) as index:
        count = index.delete(_typed(index, options.ids))
        _say(f"{count:,} of {len(options.ids):,} documents deleted. {_summary(index)}")
    return 0


def _typed(index: SparseIndex, ids: Sequence[str]) -> list[Any]:
    """Ids as the index has them: a command line knows only strings."""
    if index.search([], k=1).snapshot.kind != "int":
        return list(ids)
    wrong = next((id for id in ids if not re.fullmatch(r"-?\d+", id)), None)
    if wrong is not None:
        raise ConfigError(f"The ids of this index are integers, not {wrong!r}.")
    return [int(id) for id in ids]


def _search(options: Search) -> int:
    with SparseIndex.load(options.folder) as index:
        encoder = open_encoder(options.folder)
        query = read_queries([" ".join(options.query)], encoder)
        hits = index.search(query, options.k, options.recall, exact=options.exact)
        table = Table()
        for name in ("id", "score", "document"):
            table.add_column(name, justify="right" if name == "score" else "left")
        for id, score in zip(hits.ids[0], hits.scores[0].tolist()):
            text = " ".join(str(index.payload(id) or "").split())[:_SHOWN]
            if options.explain:
                text += "\n" + _terms(index, encoder, query, id)
            table.add_row(Text(str(id)), f"{score:.4f}", Text(text))
        console().print(table)
    return 0


def _terms(index: SparseIndex, encoder: Encoder | None, query: Any, id: Any) -> str:
    parts = []
    for term, left, right, product in index.explain(query, id).terms:
        name = str(term) if encoder is None else encoder.lexicon.token(term)
        parts.append(f"{name} {left:.3g} x {right:.3g} = {product:.3g}")
    return ", ".join(parts)


def _serve(options: Serve) -> int:
    from gossamer.retrieval.serve import Limits, create_app, serve
    limits = Limits(threads=options.threads)
    with SparseIndex.load(options.folder, writable=not options.read_only) as index:
        app = create_app(index, key=os.environ.get("GOSSAMER_KEY"), limits=limits)
        where = f"http://{options.host}:{options.port}/"
        sys.stderr.write(f"{_summary(index)} The search page: {where} (Ctrl-C stops)\n")
        serve(app, options.host, options.port, limits)
    return 0


def _tune(options: Tune) -> int:
    source = files.Source.of(options.file, options.format, None, None)
    with SparseIndex.load(options.folder, writable=True) as index, progress() as report:
        queries = source.queries(open_encoder(options.folder))
        knobs = index.tune(queries, options.recall, options.k, report)
    _say(f"A recall of {options.recall:g} at {options.k} takes "
         + ("an exact search." if knobs.exact else
            f"{knobs.budget:,} postings and {knobs.candidates} candidates a query."))
    return 0


def _check(options: Check) -> int:
    report = check_folder(options.folder)
    for line in report.problems:
        _say(line)
    _say("Everything is as it was written." if report.sound else "The index is damaged.")
    return 0 if report.sound else 1


def _recover(options: Recover) -> int:
    told = recover_folder(options.folder, options.out)
    encoder = open_encoder(options.folder)
    if encoder is not None:
        keep(encoder, options.out)
    for line in told.problems:
        _say(line)
    _say(f"{told.documents:,} documents are in {options.out}.")
    return 0


def _bench(options: Bench) -> int:
    source = files.Source.of(options.file, options.format, None, None)
    with SparseIndex.load(options.folder) as index, progress() as report:
        queries = source.queries(open_encoder(options.folder))
        table = measured(index, queries, options.k, options.seconds, report, options.json)
    console().print(table)
    return 0


def _export(options: Export) -> int:
    with SparseIndex.load(options.folder) as index, progress() as report:
        encoder, total, done = open_encoder(options.folder), len(index), 0

        def batches() -> Any:
            nonlocal done
            for batch in documents_of(index):
                yield batch
                done += len(batch.ids)
                report(done, total, "documents written")

        count = write_documents(
            options.out, batches(), options.format,
            None if encoder is None else encoder.lexicon, Options(
                scale=options.scale, field=options.field))
    _say(f"{count:,} documents written to {options.out}.")
    return 0


def _summary(index: SparseIndex) -> str:
    stats = index.stats()
    return f"{stats['documents']:,} documents in {stats['bytes'] / 1e6:,.1f} MB."


def _say(line: str) -> None:
    console().print(line, markup=False, soft_wrap=True)


VERBS: MappingProxyType[str, tuple[type, Callable[[Any], int]]] = MappingProxyType({
    "build": (Build, _build), "import": (Import, _import), "add": (Add, _add),
    "delete": (Delete, _delete), "search": (Search, _search), "serve": (Serve, _serve),
    "tune": (Tune, _tune), "check": (Check, _check), "recover": (Recover, _recover),
    "bench": (Bench, _bench), "export": (Export, _export),
})
