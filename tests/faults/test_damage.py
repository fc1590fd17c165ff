"""Flipped bits, cut files and lost files are always seen, whatever file they hit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossamer import store
from gossamer.core import StoreError
from tests.store.pruned import mlp, prune, zoo
from tests.zoo import tiny_tokenizer

QUIET = settings(
    max_examples=80, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module", params=["auto", "dense"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with its tokenizer, packed in several files or plain."""
    model, supports = zoo("llama")
    root = tmp_path_factory.mktemp("damage")
    store.save(model, root / "m", supports, layout=request.param, tokenizer=tiny_tokenizer())
    store.load(root / "m")
    return root / "m"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three packed Linear layers in two files."""
    model = mlp()
    prune(model, "rows", 0.25)
    root = tmp_path_factory.mktemp("own")
    store.save(model, root / "a", layout="bitmask")
    from gossamer.store.manifest import read_manifest
    from gossamer.store.read import stored_items
    items = stored_items(root / "a", read_manifest(root / "a"))
    store.write_stream(root / "m", items, store.about(model), shard_bytes=600)
    assert len(list((root / "m").glob("*.safetensors"))) > 1
    store.load(root / "m", into=mlp())
    return root / "m"


def refused(folder: Path, path: Path, raw: bytes) -> None:
    """Assert that the folder is refused while ``path`` holds ``raw``."""
    good = path.read_bytes()
    try:
        path.write_bytes(raw)
        with pytest.raises(StoreError):
            store.load(folder, into=mlp() if folder.parent.name.startswith("own") else None)
    finally:
        path.write_bytes(good)


def files(folder: Path) -> list[Path]:
    """Every file of a folder."""
    return sorted(p for p in folder.iterdir() if p.is_file())


@QUIET
@given(data=st.data())
def test_flipped_bits(saved: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files(saved)))
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    refused(saved, path, bytes(raw))


@QUIET
@given(data=st.data())
def test_cut_files(saved: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files(saved)))
    raw = path.read_bytes()
    refused(saved, path, raw[: data.draw(st.integers(0, len(raw) - 1))])


@QUIET
@given(data=st.data())
def test_rewritten_stretches(own: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files(own)))
    raw = path.read_bytes()
    start = data.draw(st.integers(0, len(raw) - 1))
    new = data.draw(st.binary(min_size=1, max_size=64))
    changed = raw[:start] + new + raw[start + len(new):]
    if changed != raw:
        refused(own, path, changed)


@QUIET
@given(data=st.data())
def test_files_that_changed_places(own: Path, data: st.DataObject) -> None:
    one, two = data.draw(st.permutations(files(own)))[:2]
    refused(own, one, two.read_bytes())


@settings(QUIET, max_examples=40)
@given(data=st.data())
def test_inspect_sees_it_too(own: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files(own)))
    raw = bytearray(path.read_bytes())
    good = bytes(raw)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        path.write_bytes(raw)
        with pytest.raises(StoreError):
            store.inspect(own)
        with pytest.raises(StoreError):
            store.pack(own, own.parent / "out")
    finally:
        path.write_bytes(good)
    assert not (own.parent / "out").exists()


def lost() -> Iterator[str]:
    """Names of the files that a packed Hugging Face folder cannot do without."""
    yield from ("model.safetensors", "config.json", "tokenizer.json", "gossamer.json")


@pytest.mark.parametrize("name", lost())
def test_lost_files(saved: Path, name: str, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "m")
    (tmp_path / "m" / name).unlink()
    with pytest.raises(StoreError):
        store.load(tmp_path / "m")


def test_a_copy_is_as_good(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "m")
    (tmp_path / "m" / "README.md").write_text("A file of the user's own does no harm.")
    store.load(tmp_path / "m")
