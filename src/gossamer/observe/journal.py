"""The journal of a walk: finished blocks on disk, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gossamer.core.atomic import explained, replacing, write_text
from gossamer.core.errors import StoreError
from gossamer.core.pattern import Pattern
from gossamer.core.support import Support

STATE = "walk.json"


@dataclass(frozen=True)
class Finished:
    """One finished block: its sites' weights, their supports, and what was noted about them."""

    weights: dict[str, Tensor]
    supports: dict[str, Support]
    notes: dict[str, Any]


class Journal:
    """Finished blocks and the hidden states that enter the next one, in one folder.

    A block counts as finished once ``walk.json``, written last and atomically, says so.
    """

    def __init__(self, folder: str | Path, fingerprint: str) -> None:
        self.folder = Path(folder)
        self.fingerprint = fingerprint
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.files: dict[str, str] = {}
        self.done = 0
        self._resume()

    def _resume(self) -> None:
        path = self.folder / STATE
        if not path.exists():
            ours = (".", "block-", "hidden-")
            others = [p.name for p in self.folder.iterdir() if not p.name.startswith(ours)]
            if others:
                raise StoreError(f"{self.folder} already holds {others[0]!r}, which is not a "
                                 "pruning run; choose an empty folder.")
            return
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            fingerprint, done = state["fingerprint"], int(state["done"])
            self.files = dict(state["files"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is damaged; delete the folder to start anew.") from error
        if fingerprint != self.fingerprint:
            raise StoreError(
                f"{self.folder} holds a run with other settings, model or calibration text; delete "
                "it or choose another folder."
            )
        self.done = done

    def finish(self, index: int, block: Finished, hidden: Sequence[Tensor]) -> None:
        """Record block ``index`` and the hidden states that enter the next."""
        tensors = {f"{name}.weight": w.contiguous() for name, w in block.weights.items()}
        tensors |= {f"{name}.bits": s.bits.contiguous() for name, s in block.supports.items()}
        describe = {
            "notes": block.notes,
            "supports": {name: {"shape": s.shape, "unit": s.pattern.unit, "pool": s.pattern.pool,
                                "exact": s.pattern.exact, "group": s.pattern.group}
                         for name, s in block.supports.items()},
        }
        old = f"hidden-{index:05d}.safetensors"
        self._write(f"block-{index:05d}.safetensors", tensors, json.dumps(describe))
        self._write(f"hidden-{index + 1:05d}.safetensors",
                    {str(i): h.contiguous() for i, h in enumerate(hidden)}, "{}")
        self.files.pop(old, None)
        self.done = index + 1
        write_text(self.folder / STATE, json.dumps(
            {"fingerprint": self.fingerprint, "done": self.done, "files": self.files}, indent=1))
        (self.folder / old).unlink(missing_ok=True)

    def _write(self, name: str, tensors: Mapping[str, Tensor], text: str) -> None:
        with replacing(self.folder / name) as temporary:
            save_file(dict(tensors), str(temporary), metadata={"gossamer": text})
        self.files[name] = file_hash(self.folder / name)

    def block(self, index: int) -> Finished:
        """Read a finished block back; raises StoreError where its file is damaged."""
        tensors, text = self._read(f"block-{index:05d}.safetensors")
        describe = json.loads(text)
        supports = {}
        for name, entry in describe["supports"].items():
            pattern = Pattern(tuple(entry["unit"]), tuple(entry["pool"]), entry["exact"],
                              entry.get("group"))
            supports[name] = Support(tuple(entry["shape"]), tensors[f"{name}.bits"], pattern)
        weights = {name[:-len(".weight")]: tensor for name, tensor in tensors.items()
                   if name.endswith(".weight") and f"{name[:-len('.weight')]}.bits" in tensors}
        return Finished(weights, supports, describe["notes"])

    def hidden(self) -> list[Tensor]:
        """The hidden states that enter the first unfinished block."""
        tensors, _ = self._read(f"hidden-{self.done:05d}.safetensors")
        return [tensors[str(i)] for i in range(len(tensors))]

    def _read(self, name: str) -> tuple[dict[str, Tensor], str]:
        path = self.folder / name
        if not path.exists() or file_hash(path) != self.files.get(name):
            raise StoreError(f"{path} is missing or damaged; delete {self.folder} to start anew.")
        try:
            from safetensors import safe_open

            with safe_open(str(path), framework="pt") as file:
                text = (file.metadata() or {}).get("gossamer", "{}")
            return load_file(str(path)), text
        except SafetensorError as error:
            raise StoreError(f"{path} is damaged: {error}.") from error


def file_hash(path: str | Path) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(
            hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def tensor_hash(tensors: Sequence[Tensor]) -> str:
    """sha256 over the bytes, shapes and dtypes of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
