"""The files of a folder: names, manifest, checksums, sharding and bounded memory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gossamer import store
from gossamer.core import StoreError, Support
from gossamer.layout import Packed, pack, packed_bytes, unpack
from gossamer.store.digest import FileRecord
from gossamer.store.manifest import Manifest, from_bytes, to_bytes
from gossamer.store.safetensor import FileWriter, read_file
from tests.held import EXACT
from tests.store.pruned import manifest_of, mlp, prune, zoo

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32,
          torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.bool,
          torch.float8_e4m3fn)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_safetensors_files_agree_with_the_reference_library(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("files")
    tensors = {}
    for i in range(data.draw(st.integers(1, 6))):
        shape = data.draw(st.lists(st.integers(0, 5), max_size=3))
        dtype = data.draw(st.sampled_from(DTYPES))
        tensors[f"t.{i}"] = torch.randint(0, 2, shape).to(dtype)
    with (folder / "scratch").open("w+b") as scratch:
        writer = FileWriter(scratch)
        for name, tensor in tensors.items():
            writer.add(name, tensor)
        record = writer.finish(folder / "ours.safetensors", {"format": "pt"})
    theirs = load_file(folder / "ours.safetensors")
    save_file(tensors, folder / "theirs.safetensors")
    for found in (theirs, read_file(folder / "ours.safetensors", record),
                  read_file(folder / "theirs.safetensors", None)):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert found[name].shape == tensor.shape
            assert torch.equal(found[name].float(), tensor.float())
    raw = (folder / "ours.safetensors").read_bytes()
    assert record.size == len(raw)
    assert record.sha256 == hashlib.sha256(raw).hexdigest()
    head = 8 + int.from_bytes(raw[:8], "little")
    assert head % 8 == 0
    assert record.header == hashlib.sha256(raw[:head]).hexdigest()


def test_what_lies_in_a_folder(tmp_path: Path) -> None:
    model, supports = zoo("llama")
    store.save(model, tmp_path / "m", supports, layout="bitmask")
    manifest = manifest_of(tmp_path / "m")
    assert manifest["format"] == 1
    assert manifest["model"] == {"class": "LlamaForCausalLM", "config": "config.json"}
    name = "model.layers.0.mlp.up_proj.weight"
    site = manifest["sites"][name]
    assert site == {
        "kind": "linear", "layout": "bitmask", "shape": [48, 32], "dtype": "float32",
        "nnz": 768, "bytes": 48 * 32 // 2 * 4 + 48 * 4, "pattern": "2:4",
        "file": "model.safetensors", "parts": ["values", "bits"],
    }
    with safe_open(tmp_path / "m" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "gossamer"}
        assert tuple(file.get_tensor(f"{name}.values").shape) == (768,)
        assert tuple(file.get_tensor(f"{name}.bits").shape) == (48, 4)
        names = set(file.keys())
    assert name not in names
    for file_name, record in manifest["files"].items():
        raw = (tmp_path / "m" / file_name).read_bytes()
        assert record["size"] == len(raw)
        assert record["sha256"] == hashlib.sha256(raw).hexdigest()
    assert set(manifest["files"]) == {
        p.name for p in (tmp_path / "m").iterdir()} - {"gossamer.json"}


def test_experts_and_conv1d_are_packed_on_disk(tmp_path: Path) -> None:
    for name, site, kind in (
        ("mixtral", "model.layers.1.mlp.experts.down_proj[3]", "expert"),
        ("gpt2", "transformer.h.0.mlp.c_fc.weight", "conv1d"),
    ):
        model, supports = zoo(name)
        store.save(model, tmp_path / name, supports, layout="bitmask")
        stored = load_file(tmp_path / name / "model.safetensors")
        assert {f"{site}.values", f"{site}.bits"} <= stored.keys()
        assert manifest_of(tmp_path / name)["sites"][site]["kind"] == kind
        row = next(r for r in store.inspect(tmp_path / name).sites if r.name == site)
        assert row.runs == "runs as dense"


def test_auto_takes_the_fewest_bytes_of_each_matrix(tmp_path: Path) -> None:
    model = mlp()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[3, 4] = 1.0
    store.save(model, tmp_path / "m")
    sites = manifest_of(tmp_path / "m")["sites"]
    assert sites["0.weight"]["bytes"] == min(
        pack(model[0].weight, layout=layout).nbytes for layout in EXACT
        if packed_bytes(layout, Support.of(model[0].weight != 0), torch.float32) is not None)
    assert sites["2.weight"]["layout"] == "dense"
    assert "2.weight" in load_file(tmp_path / "m" / "model.safetensors")


class TestManifest:
    """gossamer.json: round trip, its own checksum, versions."""

    def test_unknown_keys_are_kept(self, tmp_path: Path) -> None:
        extra = {"quantisation": {"bits": 4}}
        manifest = Manifest("A", None, "auto", {}, {}, {"f": FileRecord(1, "00")}, extra=extra)
        raw = to_bytes(manifest)
        assert from_bytes(raw, tmp_path).extra == extra
        assert to_bytes(from_bytes(raw, tmp_path)) == raw

    def test_unknown_keys_survive_pack(self, tmp_path: Path) -> None:
        model = mlp()
        facts = store.about(model)
        facts = dataclasses.replace(facts, extra={"later": [1, 2]})
        store.write_stream(tmp_path / "a", model.state_dict().items(), facts)
        store.pack(tmp_path / "a", tmp_path / "b", layout="csr")
        assert manifest_of(tmp_path / "b")["later"] == [1, 2]

    def test_a_newer_format_names_the_version_to_install(self, tmp_path: Path) -> None:
        store.save(mlp(), tmp_path / "m")
        path = tmp_path / "m" / "gossamer.json"
        text = path.read_text().replace('"format": 1', '"format": 7')
        path.write_text(text.replace('"reader": "0.1.0"', '"reader": "3.2.0"'))
        with pytest.raises(StoreError, match=r"format 7.*up to 1.*gossamer>=3\.2\.0"):
            store.load(tmp_path / "m", into=mlp())
        with pytest.raises(StoreError, match="format 7"):
            store.inspect(tmp_path / "m")

    @settings(max_examples=300, deadline=None)
    @given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
    def test_any_flipped_bit_is_seen(self, place: int, bit: int) -> None:
        manifest = Manifest("A", None, "auto", {}, {"a": "b"}, {"f": FileRecord(1, "0" * 64)},
                            report={"x": 1.5, "checksum": "0" * 64})
        raw = bytearray(to_bytes(manifest))
        raw[place % len(raw)] ^= 1 << bit
        with pytest.raises(StoreError):
            from_bytes(bytes(raw), Path("gossamer.json"))

    def test_every_truncation_is_seen(self) -> None:
        raw = to_bytes(Manifest("A", None, "auto", {}, {}, {}))
        for length in range(len(raw)):
            with pytest.raises(StoreError):
                from_bytes(raw[:length], Path("gossamer.json"))

    @pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b"])
    def test_file_names_stay_inside(self, name: str) -> None:
        raw = to_bytes(Manifest("A", None, "auto", {}, {}, {name: FileRecord(1, "00")}))
        with pytest.raises(StoreError, match="outside the folder"):
            from_bytes(raw, Path("gossamer.json"))

    def test_a_missing_field(self) -> None:
        data = json.loads(to_bytes(Manifest("A", None, "auto", {}, {}, {})))
        del data["sites"]
        data["checksum"] = "0" * 64
        raw = json.dumps(data).encode()
        signed = raw.replace(b"0" * 64, hashlib.sha256(raw).hexdigest().encode(), 1)
        with pytest.raises(StoreError, match="sites"):
            from_bytes(signed, Path("gossamer.json"))


MEMORY = """
import sys, torch
from pathlib import Path
from torch import nn
from gossamer import store
from gossamer.core.memory import PeakMemory
from gossamer.layout import Packed
SIDE, LAYERS, ROOT = 4096, 24, Path(sys.argv[1])
def build():
    with torch.device("meta"):
        return nn.Sequential(*(nn.Linear(SIDE, SIDE, bias=False) for _ in range(LAYERS)))
def items():
    for i in range(LAYERS):
        columns = torch.arange(0, SIDE, 16, dtype=torch.int32).to(torch.uint16)
        yield f"{i}.weight", Packed("condensed", (SIDE, SIDE), {
            "values": torch.full((SIDE, SIDE // 16), i + 1.0),
            "columns": columns.repeat(SIDE, 1)})
dense = SIDE * SIDE * 4 * LAYERS
one = SIDE * SIDE // 16 * 6
with PeakMemory() as writing:
    store.write_stream(ROOT / "m", items(), store.about(build()), shard_bytes=2 * one)
with PeakMemory() as reading:
    model = store.load(ROOT / "m", into=build())
with PeakMemory() as looking:
    found = store.inspect(ROOT / "m")
print(writing.bytes / one, reading.bytes / dense, looking.bytes / one)
"""


def test_peak_memory(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True,
                         text=True, check=True)
    writing, reading, looking = map(float, run.stdout.split())
    packed = 6 / 16 / 4  # bytes of the packed over the dense model
    assert writing < 10  # matrices of 6 MB, out of 24
    assert reading < packed * 1.5 + 0.05
    assert looking < 24  # a file of two matrices and the mask of one, where dense is 128


def test_verify_can_be_skipped_but_not_sizes_and_headers(tmp_path: Path) -> None:
    model = mlp()
    prune(model, "rows")
    store.save(model, tmp_path / "m", layout="bitmask")
    path = tmp_path / "m" / "model.safetensors"
    raw = bytearray(path.read_bytes())
    head = 8 + int.from_bytes(raw[:8], "little")
    raw[head] ^= 1  # a bit of a bias or value: nothing but the checksum can tell
    path.write_bytes(raw)
    with pytest.raises(StoreError, match="SHA-256"):
        store.load(tmp_path / "m", into=mlp())
    store.load(tmp_path / "m", into=mlp(), verify=False)
    raw[20] ^= 1
    path.write_bytes(raw)
    with pytest.raises(StoreError):
        store.load(tmp_path / "m", into=mlp(), verify=False)
    path.write_bytes(raw[:-1])
    with pytest.raises(StoreError, match="bytes instead of"):
        store.load(tmp_path / "m", into=mlp(), verify=False)


def test_packed_tensors_are_what_pack_gives(tmp_path: Path) -> None:
    model = mlp()
    prune(model, "rows")
    store.save(model, tmp_path / "m", layout="csr")
    stored = load_file(tmp_path / "m" / "model.safetensors")
    for name in ("0.weight", "2.weight", "3.weight"):
        wanted = pack(model.state_dict()[name], layout="csr")
        parts = {part: stored[f"{name}.{part}"] for part in wanted.parts}
        assert torch.equal(unpack(Packed("csr", wanted.shape, parts)), model.state_dict()[name])
