"""scipy's ``.npz`` of a CSR matrix, which `scipy.sparse.load_npz` reads; scipy is not needed here.

Ids are one more array in the file, ``ids``, which scipy does not look at. Payloads have no place.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core import DataError, StoreError
from gossamer.core.atomic import replacing
from gossamer.layout.rows import as_rows
from gossamer.retrieval.exchange.batch import Batch, Options
from gossamer.retrieval.exchange.lexicon import Terms

_CHUNK = 1 << 22
_ARRAYS = ("indptr", "indices", "data", "shape")


def read(path: Path, terms: Terms, options: Options) -> Iterator[Batch]:
    """Batches of ``options.batch`` documents; without ids they are numbered from 0.

    The columns of the matrix are the vocabulary; names of terms play no part.

    Raises:
        StoreError: there is no such file, or it is damaged.
        DataError: it holds no CSR matrix of weights.
    """
    parts = _arrays(path)
    starts, indices, data = parts["indptr"], parts["indices"], parts["data"]
    rows, columns = (int(n) for n in parts["shape"])
    framed = len(starts) == rows + 1 and starts[0] == 0 and starts[-1] == len(indices)
    if not framed or len(indices) != len(data) or (np.diff(starts.astype(np.int64)) < 0).any():
        raise DataError(f"The arrays of the matrix in {path} do not fit together.")
    ids: Any = parts["ids"].tolist() if "ids" in parts else range(rows)
    if len(ids) != rows:
        raise DataError(f"{path} has {len(ids)} ids for {rows} rows.")
    for first in range(0, rows, options.batch):
        last = min(first + options.batch, rows)
        run = slice(int(starts[first]), int(starts[last]))
        part = (starts[first:last + 1].astype(np.int64) - int(starts[first]),
                indices[run], data[run])
        yield Batch(list(ids[first:last]), as_rows(part, columns))


def write(
    path: Path, batches: Iterable[Batch], terms: Terms, options: Options,
) -> int:
    """Write a matrix of as many columns as the widest vocabulary; the number of documents."""
    ids: list[Any] = []
    starts = [np.zeros(1, np.int64)]
    columns, nnz = 1, 0
    with (tempfile.TemporaryFile() as indices, tempfile.TemporaryFile() as data,
          replacing(path) as part):
        for batch in batches:
            rows = batch.rows
            indices.write(rows.terms.astype(np.int32).tobytes())
            data.write(rows.weights.astype(np.float32).tobytes())
            starts.append(rows.starts[1:] + nnz)
            nnz, columns = nnz + rows.nnz, max(columns, rows.vocabulary)
            ids.extend(batch.ids)
        if any(isinstance(id, str) and id.endswith("\0") for id in ids):
            raise DataError("An id ends in a null character, which an array of text drops.")
        with zipfile.ZipFile(part, "w") as archive:
            for name, array in (
                ("format", np.array(b"csr")), ("shape", np.array([len(ids), columns])),
                ("indptr", np.concatenate(starts)), ("ids", np.array(ids)),
            ):
                _member(archive, name, array.dtype, array.shape, [array.tobytes()])
            _member(archive, "indices", np.dtype(np.int32), (nnz,), _chunks(indices))
            _member(archive, "data", np.dtype(np.float32), (nnz,), _chunks(data))
    return len(ids)


def _member(
    archive: zipfile.ZipFile, name: str, kind: np.dtype[Any], shape: tuple[int, ...],
    chunks: Iterable[bytes],
) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_2_0(file, {
            "descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape})
        for chunk in chunks:
            file.write(chunk)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(_CHUNK):
        yield chunk


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise StoreError(f"There is no file {path}.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is no .npz archive.")
            parts = dict(archive.items())
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, SyntaxError) as error:
        raise StoreError(f"{path} is no .npz archive, or it is damaged ({error}).") from error
    lacking = [name for name in _ARRAYS if name not in parts]
    kind = parts["format"].item() if parts.get("format", np.empty(2)).size == 1 else b""
    if lacking or kind not in (b"csr", "csr"):
        raise DataError(
            f"{path} does not hold a CSR matrix as scipy saves it: save the matrix with "
            "scipy.sparse.save_npz(path, matrix.tocsr())."
        )
    if parts["shape"].shape != (2,) or any(parts[name].ndim != 1 for name in _ARRAYS):
        raise DataError(f"The arrays of the matrix in {path} do not fit together.")
    return parts
