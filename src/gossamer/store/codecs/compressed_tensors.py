"""Reader of the two bitmask formats that compressed-tensors wrote until 2026.

``sparse-bitmask`` stores for a weight ``<name>``: ``compressed`` (the kept values in row-major
order), ``bitmask`` (uint8, eight entries of the last dimension a byte, least significant bit
first, each row padded), ``shape`` (int64, the sides) and ``row_offsets`` (int64, where each row
starts). ``sparse-24-bitmask`` is the same for 2:4: ``compressed`` is ``[rows, cols / 2]``,
``shape`` a column, and there are no row offsets. ``<name>`` is the parameter's name, without
its final ``.weight`` in later versions. Float8 values and quantised weights are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from gossamer.core import StoreError, SupportError, UnsupportedError
from gossamer.core.bits import count_bits, row_bytes, unpack_bits
from gossamer.layout import Packed, check_packed
from gossamer.store.safetensor import Contents, Entry, contents, read_tensor

FORMATS = ("sparse-bitmask", "sparse-24-bitmask")
_PARTS = ("compressed", "bitmask", "shape", "row_offsets")


def detect(folder: Path) -> str | None:
    """The compressed-tensors sparsity format of a folder, None where it has none.

    Raises:
        UnsupportedError: the weights are quantised as well.
        StoreError: config.json cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}.") from error
    if not isinstance(config, dict):
        raise StoreError(f"{path} is not a JSON object.")
    quantization = config.get("quantization_config") or config.get("compression_config") or {}
    sparsity = quantization.get("sparsity_config") or config.get("sparsity_config") or {}
    name = sparsity.get("format")
    if name not in FORMATS:
        return None
    if quantization.get("config_groups"):
        raise UnsupportedError(
            f"{folder} holds weights that are quantised ({quantization.get('format')}) and sparse; "
            "gossamer reads compressed-tensors folders that are sparse alone."
        )
    return str(name)


def read(folder: Path) -> Iterator[tuple[str, Tensor | Packed]]:
    """Every tensor of the folder under its parameter's name; matrices come packed.

    A compressed tensor that is no matrix comes dense. One tensor is in memory at a time.

    Raises:
        StoreError: a part is missing, or the parts contradict one another.
        UnsupportedError: float8 values.
    """
    files = [contents(path) for path in sorted(folder.glob("*.safetensors"))]
    if not files:
        raise StoreError(f"{folder} holds no safetensors file.")
    places = {entry.name: (found, entry) for found in files for entry in found.entries}
    bases = {
        name.removesuffix(".compressed") for name in places
        if name.endswith(".compressed") and f"{name.removesuffix('.compressed')}.bitmask" in places
    }
    owned = {f"{base}.{part}" for base in bases for part in _PARTS}
    for name, place in places.items():
        base = name.removesuffix(".compressed")
        if name not in owned:
            yield name, _read(place)
        elif name.endswith(".compressed"):
            parts = {
                part: _read(places[f"{base}.{part}"]) for part in _PARTS
                if f"{base}.{part}" in places
            }
            yield base if base.endswith(".weight") else f"{base}.weight", decode(base, parts)


def _read(place: tuple[Contents, Entry]) -> Tensor:
    found, entry = place
    with found.path.open("rb") as stream:
        return read_tensor(stream, found.path, entry)


def decode(name: str, parts: dict[str, Tensor]) -> Packed | Tensor:
    """One compressed tensor: packed where it is a matrix, else dense.

    Args:
        name: for the error's sentence.
        parts: compressed, bitmask and shape; row_offsets are checked where present.
    """
    if "shape" not in parts:
        raise StoreError(f"{name} lacks its shape; the folder is incomplete.")
    shape = [int(side) for side in parts["shape"].flatten()]
    values, bits = parts["compressed"].flatten(), parts["bitmask"]
    if values.dtype.itemsize == 1:
        raise UnsupportedError(
            f"{name} holds {str(values.dtype).removeprefix('torch.')} values; the bitmask reader "
            "takes 16 to 64 bit floats. Convert it with the library that wrote it."
        )
    if bits.dtype not in (torch.uint8, torch.int8) or not shape or min(shape) < 0 or (
        bits.numel() != math.prod(shape[:-1]) * row_bytes(shape[-1])
    ):
        raise _torn(name, f"a bitmask of {bits.numel()} bytes does not fit the shape {shape}")
    bits = bits.view(torch.uint8).reshape(-1, row_bytes(shape[-1]))
    counts = count_bits(bits)
    if int(counts.sum()) != values.numel():
        raise _torn(name, f"{int(counts.sum())} bits are set for {values.numel()} values")
    if len(shape) == 2:
        _check_offsets(name, counts, parts.get("row_offsets"))
        packed = Packed("bitmask", (shape[0], shape[1]), {"values": values, "bits": bits})
        try:
            check_packed(packed)
        except SupportError as error:
            raise _torn(name, str(error)) from error
        return packed
    mask = unpack_bits(bits, shape[-1]).reshape(shape)
    return values.new_zeros(shape).masked_scatter_(mask, values)


def _check_offsets(name: str, counts: Tensor, offsets: Tensor | None) -> None:
    if offsets is not None and not torch.equal(offsets.flatten().long(), counts.cumsum(0) - counts):
        raise _torn(name, "its row offsets do not match its bitmask")


def _torn(name: str, reason: str) -> StoreError:
    return StoreError(f"{name} is damaged: {reason.rstrip('.')}.")
