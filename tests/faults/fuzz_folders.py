"""Saved folders with something changed and every checksum made to fit again.

The folder must be refused with a GossamerError, or load as a model that computes what its parts
say; where only gossamer.json was changed, that is what the model computed before.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import store
from gossamer.core import GossamerError
from gossamer.layout import LAYOUTS, pack, quantise, unpack
from gossamer.ops import PackedConv2d, PackedLinear, linear
from tests.held import held
from tests.store.pruned import zoo

_ODD: tuple[Any, ...] = (
    -1, 0, 1, 3, 255, 1 << 31, 1 << 40, 1 << 62, 1 << 63, 1 << 70, -(1 << 63), 0.5, 1e300,
    float("inf"), float("nan"), "", "x", "../x", "/etc/passwd", "\0", "\ud800", None, True, [], {},
    [1], ["values"], {"a": 1}, [[]], "dense", "bitmask", "csr", "F32", "U16", "I64", "BOOL",
    "model.safetensors", "gossamer.json", "0.weight", "linear", "expert", "2:4", "9:4:1",
)


@dataclass(frozen=True)
class Saved:
    """A folder that is whole, a way to read it, and what its model says.

    Args:
        folder: as it was saved.
        read: from a folder to its model.
        ask: from the model to its answer.
        answer: of the whole folder.
    """

    folder: Path
    read: Callable[[Path], nn.Module]
    ask: Callable[[nn.Module], Tensor]
    answer: Tensor


def net() -> nn.Sequential:
    """A Linear layer of 16 x 16 for each layout, convolutions, buffers and a shared weight."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(16, 16) for _ in LAYOUTS]
    layers += [nn.BatchNorm1d(16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Unflatten(1, (4, 2, 2)),
               nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 2, groups=2), nn.Flatten()]
    last = layers[len(LAYOUTS) + 1]
    model = nn.Sequential(*layers)
    model[len(LAYOUTS) + 2].weight = last.weight
    model.register_buffer("flags", torch.tensor([True, False, True]))
    return model.eval()


def saved_net(root: Path) -> Saved:
    """The net with every layer in its layout, in several files."""
    model = net()
    state = dict(model.state_dict())
    items: list[tuple[str, Any]] = []
    tied = f"{len(LAYOUTS) + 2}.weight"
    for place, (name, layout) in enumerate(LAYOUTS.items()):
        weight = state.pop(f"{place}.weight")
        support = held(name, torch.rand(16, 16))
        items.append((f"{place}.weight", pack(support.apply(weight), support, name)
                      if layout.any_weight else quantise(weight, support, name, 8)))
    convolution = f"{len(LAYOUTS) + 4}.weight"
    items.append((convolution, pack(state.pop(convolution).flatten(1), layout="csr")))
    items += [item for item in state.items() if item[0] != tied]
    store.write_stream(root / "net", items, store.about(model), shard_bytes=4000)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    return _saved(root / "net", lambda folder: store.load(folder, into=net()), lambda m: m(x))


def saved_llama(root: Path, layout: str) -> Saved:
    """A tiny Llama of transformers."""
    model, supports = zoo("llama")
    store.save(model, root / f"llama-{layout}", supports, layout=layout)
    ids = torch.arange(1, 6)[None]
    return _saved(root / f"llama-{layout}", store.load, lambda m: m(ids).logits)


def _saved(
    folder: Path, read: Callable[[Path], nn.Module], ask: Callable[[nn.Module], Tensor]
) -> Saved:
    with torch.inference_mode():
        return Saved(folder, read, ask, ask(read(folder)))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ())
    found = [path] if path else []
    for key, item in inner:
        found += _places(item, (*path, key))
    return found


def changed_json(rng: random.Random, data: Any) -> tuple[Any, str]:
    """A copy with one value replaced, taken out, moved or renamed; and what was done."""
    data = copy.deepcopy(data)
    places = _places(data)
    path, other = rng.choice(places), rng.choice(places)
    owner = data
    for key in path[:-1]:
        owner = owner[key]
    old, kind = owner[path[-1]], rng.choice(("odd", "odd", "near", "other", "gone", "renamed"))
    if kind == "odd":
        owner[path[-1]] = rng.choice(_ODD)
    elif kind == "near":
        owner[path[-1]] = old + rng.choice((-1, 1, 8, old)) if type(old) is int else [old]
    elif kind == "other":
        found = data
        for key in other:
            found = found[key]
        owner[path[-1]] = copy.deepcopy(found)
    elif kind == "gone":
        del owner[path[-1]]
    elif isinstance(owner, dict):
        name = rng.choice((other[-1], "x", "0.weight", "0.weight.values"))
        owner[str(name)] = owner.pop(path[-1])
    return data, f"{'.'.join(map(str, path))} {kind} -> {str(owner)[:90]}"


def change_manifest(rng: random.Random, folder: Path) -> str:
    """gossamer.json with one to two values changed."""
    path = folder / "gossamer.json"
    data, told = json.loads(path.read_text()), []
    for _ in range(rng.choice((1, 1, 2))):
        if isinstance(data, dict) and data:
            data, one = changed_json(rng, data)
            told.append(one)
    _sign(path, data)
    return "; ".join(told)


def change_header(rng: random.Random, folder: Path) -> str:
    """The header of a safetensors file with a value changed, or cut, or of another length."""
    path = _tensors(rng, folder)
    head, body = _parts(path)
    kind, told = rng.choice(("json", "json", "json", "json", "raw", "length")), ""
    text = head
    if kind == "json":
        data, told = changed_json(rng, json.loads(head))
        text = json.dumps(data).encode()
    elif kind == "raw":
        raw = bytearray(head)
        raw[rng.randrange(len(raw))] = rng.randrange(256)
        text = bytes(raw)
    length = len(text) if kind != "length" else rng.choice((0, 1, len(text) - 1, 1 << 40,
                                                            (1 << 64) - 1))
    path.write_bytes(length.to_bytes(8, "little") + text + body)
    _resign(folder)
    return f"header of {path.name}: {kind} {told}"


def change_bytes(rng: random.Random, folder: Path) -> str:
    """Bytes of the tensors flipped, set or cut off."""
    path = _tensors(rng, folder)
    head, body = _parts(path)
    raw, kind = bytearray(body), rng.choice(("flip", "flip", "set", "cut", "grown"))
    for _ in range(rng.choice((1, 3, 30)) if raw else 0):
        at = rng.randrange(len(raw))
        if kind == "flip":
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == "set":
            raw[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80"))[
                : len(raw) - at]
    raw = raw[: rng.randrange(len(raw) + 1)] if kind == "cut" else raw
    raw += bytes(rng.randrange(1, 64)) if kind == "grown" else b""
    path.write_bytes(len(head).to_bytes(8, "little") + head + raw)
    _resign(folder)
    return f"bytes of {path.name}: {kind}"


def change_entry(rng: random.Random, folder: Path) -> str:
    """One tensor fewer, shorter, longer or twice, everything else made to fit."""
    path = _tensors(rng, folder)
    head, body = _parts(path)
    data = json.loads(head)
    data.pop("__metadata__", None)
    name = rng.choice(list(data))
    kind = rng.choice(("gone", "shorter", "longer", "twice", "renamed", "exchanged"))
    tensors = {n: [e["dtype"], e["shape"], body[slice(*e["data_offsets"])]]
               for n, e in data.items()}
    entry = tensors[name]
    if kind == "gone":
        del tensors[name]
    elif kind in ("shorter", "longer") and entry[1] and entry[1][0]:
        row = len(entry[2]) // entry[1][0]
        rows = entry[1][0] + (1 if kind == "longer" else -1)
        entry[1] = [rows, *entry[1][1:]]
        entry[2] = (entry[2] + entry[2])[: rows * row] if rows else b""
    elif kind == "twice":
        tensors[rng.choice((f"{name}.more", name.rpartition(".")[0], "flags"))] = list(entry)
    elif kind == "renamed":
        tensors[rng.choice(("0.weight", "0.bias", "flags", "x"))] = tensors.pop(name)
    elif kind == "exchanged":
        other = rng.choice(list(tensors))
        tensors[name], tensors[other] = tensors[other], tensors[name]
    fresh, at = {}, 0
    for one, (dtype, shape, raw) in tensors.items():
        fresh[one] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    text = json.dumps(fresh).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(
        raw for _, _, raw in tensors.values()))
    _resign(folder)
    return f"{name} {kind}"


def _tensors(rng: random.Random, folder: Path) -> Path:
    return rng.choice(sorted(folder.glob("*.safetensors")))


def _parts(path: Path) -> tuple[bytes, bytes]:
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    return raw[8:end], raw[end:]


def _resign(folder: Path) -> None:
    """Sizes and checksums of all files as they are now."""
    path = folder / "gossamer.json"
    data = json.loads(path.read_text())
    for name, record in data["files"].items():
        raw = (folder / name).read_bytes()
        record.update(size=len(raw), sha256=hashlib.sha256(raw).hexdigest())
        if record.get("header") is not None:
            end = 8 + min(int.from_bytes(raw[:8], "little"), len(raw))
            record["header"] = hashlib.sha256(raw[:end]).hexdigest()
    _sign(path, data)


def _sign(path: Path, data: Any) -> None:
    if isinstance(data, dict) and "checksum" in data:
        data["checksum"] = "0" * 64
    raw = json.dumps(data, indent=1).encode()
    path.write_bytes(raw.replace(b"0" * 64, hashlib.sha256(raw).hexdigest().encode(), 1))


CHANGES = (change_manifest, change_header, change_bytes, change_entry)


def run(seed: int, known: list[Saved], work: Path) -> str | None:
    """One case by number: what is wrong with it, or None."""
    rng = random.Random(seed)
    saved = known[0] if rng.random() < 0.8 else rng.choice(known)
    folder = work / "case"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved.folder, folder)
    change = rng.choice(CHANGES)
    told = f"{saved.folder.name}: {change.__name__} {change(rng, folder)}"
    try:
        wrong = _verdict(saved, folder, change is change_manifest)
    except Exception as error:  # the finding is that it is no GossamerError
        wrong = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None if wrong is None else f"{told}: {wrong}"


def _verdict(saved: Saved, folder: Path, alike: bool) -> str | None:
    for look in (store.inspect, lambda path: store.pack(path, path.with_name("again"),
                                                        layout="bitmask", overwrite=True)):
        try:
            look(folder)
        except GossamerError:
            continue
    try:
        model = saved.read(folder)
    except GossamerError:
        return None
    with torch.inference_mode():
        answer = saved.ask(model)
        if alike and not torch.equal(answer, saved.answer):
            return "it loads, and computes something else"
        for path, module in model.named_modules():
            if isinstance(module, PackedConv2d | PackedLinear):
                x, dense = torch.randn(3, module.packed.shape[1]), unpack(module.packed)
                calm = (dense.abs() < 1e30).all(1)
                off = (linear(x, module.packed) - x @ dense.float().t())[:, calm].abs()
                size = (x.abs() @ dense.float().abs().t())[:, calm]
                if bool((off > 1e-3 * size + 1e-6).any()):
                    return f"{path} computes something else than its parts say"
    return None
