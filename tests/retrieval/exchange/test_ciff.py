"""CIFF against an independent encoder: protocol buffers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.core import DataError
from gossamer.layout.rows import as_rows
from gossamer.retrieval.exchange import Batch, Lexicon, Options, read_documents, write_documents

# Two documents, "d0" {flow: 3, plate: 300} and "d1" {plate: 1}, serialised by protobuf 7.36 (upb)
# from the published schema.
GOLDEN = bytes.fromhex(
    "1e0801100218022002280230b0023900000000000063404206676f6c64656e0e0a04666c6f771001"
    "180322021003170a05706c617465100218ad02220310ac02220408011001071202643018af020808"
    "01120264311801")

FIELDS = {
    "Header": [("version", 1, "INT32"), ("num_postings_lists", 2, "INT32"),
               ("num_doc_records", 3, "INT32"), ("total_postings_lists", 4, "INT32"),
               ("total_docs", 5, "INT32"), ("total_terms_in_collection", 6, "INT64"),
               ("average_doclength", 7, "DOUBLE"), ("description", 8, "STRING")],
    "Posting": [("docid", 1, "INT32"), ("tf", 2, "INT32")],
    "PostingsList": [("term", 1, "STRING"), ("df", 2, "INT64"), ("cf", 3, "INT64"),
                     ("postings", 4, "Posting")],
    "DocRecord": [("docid", 1, "INT32"), ("collection_docid", 2, "STRING"),
                  ("doclength", 3, "INT32")],
}


@pytest.fixture(scope="module")
def messages() -> dict[str, Any]:
    """Classes that protobuf makes of the schema."""
    descriptors = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory
    file = descriptors.FileDescriptorProto(name="ciff.proto", package="ciff", syntax="proto3")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            made = message.field.add(name=field, number=number)
            made.label = 3 if kind == "Posting" else 1
            if kind == "Posting":
                made.type, made.type_name = 11, ".ciff.Posting"
            else:
                made.type = descriptors.FieldDescriptorProto.Type.Value(f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ciff.{name}"))
            for name in FIELDS}


def delimited(message: Any) -> bytes:
    data = message.SerializeToString()
    length, out = len(data), b""
    while length >= 128:
        out += bytes([length & 127 | 128])
        length >>= 7
    return out + bytes([length]) + data


def encoded(messages: dict[str, Any], matrix: np.ndarray, description: str) -> bytes:
    """A file of whole impacts ``[documents, terms]``, tokens t0, t1, ..."""
    used = [int(t) for t in np.flatnonzero(matrix.any(0))]
    lengths = matrix.sum(1)
    out = delimited(messages["Header"](
        version=1, num_postings_lists=len(used), num_doc_records=len(matrix),
        total_postings_lists=len(used), total_docs=len(matrix),
        total_terms_in_collection=int(lengths.sum()), average_doclength=float(lengths.mean()),
        description=description))
    for term in sorted(used, key=lambda t: f"t{t}"):
        docs = np.flatnonzero(matrix[:, term])
        gaps = np.diff(docs, prepend=0)
        postings = [messages["Posting"](docid=int(g), tf=int(matrix[d, term]))
                    for g, d in zip(gaps, docs)]
        out += delimited(messages["PostingsList"](
            term=f"t{term}", df=len(docs), cf=int(matrix[:, term].sum()), postings=postings))
    for i, length in enumerate(lengths):
        out += delimited(messages["DocRecord"](
            docid=i, collection_docid=f"d{i}", doclength=int(length)))
    return out


@pytest.mark.parametrize("seed", range(3))
def test_the_bytes_are_those_of_protobuf(
    seed: int, messages: dict[str, Any], tmp_path: Path,
) -> None:
    chance = np.random.default_rng(seed)
    matrix = chance.integers(1, 40000, (300, 12)) * (chance.random((300, 12)) < 0.3)
    own, theirs = tmp_path / "own.ciff", tmp_path / "theirs.ciff"
    theirs.write_bytes(encoded(messages, matrix, "gossamer, impacts are weights times 10"))
    names = Lexicon([f"t{t}" for t in range(12)])
    batch = Batch([f"d{i}" for i in range(300)], as_rows(matrix / 10))
    write_documents(own, [batch], "ciff", names, Options(scale=10.0))
    assert own.read_bytes() == theirs.read_bytes()
    found = list(read_documents(theirs, "ciff", names, Options(batch=128)))
    assert [len(batch.ids) for batch in found] == [128, 128, 44]
    dense = np.zeros((300, 12))
    for at, batch in zip((0, 128, 256), found):
        row_of = np.repeat(np.arange(batch.rows.count), np.diff(batch.rows.starts))
        dense[row_of + at, batch.rows.terms] = batch.rows.weights
    assert (dense == matrix).all()
    assert [id for batch in found for id in batch.ids] == [f"d{i}" for i in range(300)]


def test_a_file_of_known_bytes(tmp_path: Path) -> None:
    path = tmp_path / "golden.ciff"
    path.write_bytes(GOLDEN)
    (batch,) = read_documents(path, "ciff", names := Lexicon(grows=True))
    assert (list(batch.ids), names.tokens) == (["d0", "d1"], ["flow", "plate"])
    assert batch.rows.terms.tolist() == [0, 1, 1]
    assert batch.rows.weights.tolist() == [3, 300, 1]


def test_postings_in_an_unusual_order_of_fields(tmp_path: Path) -> None:
    posting = b"\x22\x04\x10\x05\x08\x01"  # impact before document
    message = b"\x0a\x01t" + posting
    path = tmp_path / "odd.ciff"
    path.write_bytes(b"\x06\x08\x01\x10\x01\x18\x02" + bytes([len(message)]) + message
                     + b"\x03\x12\x01a" + b"\x05\x08\x01\x12\x01b")
    (batch,) = read_documents(path, "ciff", Lexicon(["t"]))
    assert batch.rows.starts.tolist() == [0, 0, 1]
    assert batch.rows.weights.tolist() == [5]


@pytest.mark.parametrize(("data", "words"), [
    (b"", "fewer messages than its header says"),
    (b"\x02\x08\x02", "version 2 is not known"),
    (b"\x04\x08\x01\x10\x01", "fewer messages"),
    (b"\xff\xff\x01", "longer than the file"),
    (b"\x04\x08\x01\x18\x01", "fewer messages"),
])
def test_damage_is_said(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.ciff"
    path.write_bytes(data)
    with pytest.raises(DataError, match=words):
        list(read_documents(path, "ciff"))
