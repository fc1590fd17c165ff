"""ONNX files compute in onnxruntime what torch computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossamer import store
from gossamer.core import Keep, NeedsError, StoreError, UnsupportedError, rows, select, sites
from gossamer.edit import Swap, apply, unpacked
from gossamer.ops import PackedConv2d, PackedLinear
from gossamer.store import onnx as exporter
from tests import zoo
from tests.store.pruned import zoo as pruned_zoo


def run(path: Path, *inputs: Tensor) -> np.ndarray:
    """First output of the file in onnxruntime."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return np.asarray(session.run(None, dict(zip(names, (x.numpy() for x in inputs))))[0])


def image_net() -> nn.Sequential:
    """A convolution and two linear layers, one of each kind packed."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.Flatten(),
        nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 5)).eval()
    support = select(net[4].weight.detach().abs(), rows(), Keep.fraction(0.3))
    net[2] = PackedConv2d.from_conv(net[2], layout="csr", bounds=(0.0, 6.0))
    net[4] = PackedLinear.from_linear(net[4].weight.detach(), net[4].bias, support, "bitmask")
    return net


def test_a_packed_image_net(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    net, x = image_net(), torch.randn(2, 3, 8, 8)
    path = store.export_onnx(net, tmp_path / "net.onnx", x, {"input": {0: "batch"}})
    assert path == tmp_path / "net.onnx"
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    for batch in (x, torch.randn(5, 3, 8, 8)):
        with torch.no_grad():
            assert np.abs(run(path, batch) - net(batch).numpy()).max() < 1e-4
    assert isinstance(net[4], PackedLinear)  # the model itself stays packed


def test_a_pruned_decoder_from_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    model, supports = pruned_zoo("llama")
    store.save(model, tmp_path / "m", supports, layout="bitmask")
    loaded = store.load(tmp_path / "m")
    ids = zoo.inputs("llama", 2, 0)["input_ids"]
    path = store.export_onnx(
        tmp_path / "m", tmp_path / "m.onnx", {"input_ids": ids},
        {"input_ids": {0: "batch", 1: "length"}})
    for given in (ids, ids[:1, :5]):
        with torch.no_grad():
            wanted = loaded(input_ids=given).logits.numpy()
        assert np.abs(run(path, given) - wanted).max() < 1e-4


def test_the_zeros_are_in_the_file(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    net = nn.Sequential(nn.Linear(64, 64, bias=False)).eval()
    site = sites(net)[0]
    support = select(site.view().abs(), rows(), Keep.fraction(0.25))
    dense = support.apply(site.view())
    apply(net, [Swap(site, PackedLinear.from_linear(site.view(), None, support))]).bake()
    store.export_onnx(net, tmp_path / "net.onnx", torch.randn(3, 64))
    graph = onnx.load(tmp_path / "net.onnx").graph
    stored = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    assert any(np.array_equal(a, w) for a in stored for w in (dense.numpy(), dense.numpy().T)
               if a.shape == w.shape)


def test_large_weights_lie_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(exporter, "_MOST_INSIDE", 100)
    net, x = nn.Sequential(nn.Linear(256, 256)).eval(), torch.randn(2, 256)
    store.export_onnx(net, tmp_path / "net.onnx", x)
    assert {p.name for p in tmp_path.iterdir()} == {"net.onnx", "net.onnx.data"}
    with torch.no_grad():
        assert np.abs(run(tmp_path / "net.onnx", x) - net(x).numpy()).max() < 1e-4


def test_unpacked_copies_share_what_was_shared() -> None:
    layer = PackedLinear.from_linear(torch.randn(8, 8), torch.randn(8), layout="csr")
    net = nn.Sequential(layer, nn.ReLU(), layer)
    dense, x = unpacked(net, torch.float64), torch.randn(3, 8)
    assert dense[0] is dense[2]
    assert isinstance(dense[0], nn.Linear)
    torch.testing.assert_close(dense(x.double()).float(), net(x))
    assert isinstance(unpacked(layer), nn.Linear)


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = nn.Sequential(nn.Linear(8, 4)), torch.randn(2, 8)
    with pytest.raises(StoreError, match="folder that exists"):
        store.export_onnx(net, tmp_path / "no" / "net.onnx", x)
    with pytest.raises(StoreError, match="no folder"):
        store.export_onnx(tmp_path / "absent", tmp_path / "net.onnx", x)
    with pytest.raises(UnsupportedError, match="cannot be exported with this example"):
        store.export_onnx(net, tmp_path / "net.onnx", torch.randn(2, 9))
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NeedsError, match=r"gossamer\[onnx\]"):
        store.export_onnx(net, tmp_path / "net.onnx", x)
