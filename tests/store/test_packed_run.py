"""A net trained on real images, and SmolLM2, run packed as loaded; memory never holds a dense copy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossamer import store
from gossamer.core import Keep, rows, select, sites
from gossamer.models.mobilenet import IMAGENET, SMALL, MobileNet
from gossamer.ops import PackedConv2d, PackedLinear, fallbacks

NET = """
import json, sys, torch
from gossamer import store
from gossamer.core.memory import PeakMemory

from gossamer.models.mobilenet import IMAGENET, MobileNet
torch.set_num_threads(1)
x = torch.randn(1, 3, 32, 32)
with torch.inference_mode():
    warm = torch.nn.functional.conv2d(x, torch.randn(3, 3, 1, 1)).sum()
with torch.device("meta"):
    net = MobileNet(10, 1.0, IMAGENET, stride=1)
dense = sum(p.numel() * 4 for p in net.parameters())
with PeakMemory() as loading:
    net = store.load(sys.argv[1], into=net)
with torch.inference_mode(), PeakMemory() as running:
    net(x)
parts = sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))
print(json.dumps([loading.bytes, running.bytes, parts, dense]))
"""

LLM = """
import json, sys, torch
from gossamer import store
from gossamer.core.memory import PeakMemory
import transformers.models.llama.modeling_llama
with PeakMemory() as loading:
    model = store.load(sys.argv[1])
with torch.inference_mode(), PeakMemory() as running:
    model.generate(torch.arange(1, 17)[None], max_new_tokens=4, do_sample=False)
parts = {id(t): t.nbytes for t in (*model.parameters(), *model.buffers())}
print(json.dumps([loading.bytes, running.bytes, sum(parts.values())]))
"""


def measured(script: str, folder: Path) -> list[int]:
    """What a fresh process says of a saved folder."""
    run = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True,
                         text=True, check=True)
    found: list[int] = json.loads(run.stdout.splitlines()[-1])
    return found


def prune_to(model: nn.Module, density: float) -> None:
    """Keep the greatest weights of every row."""
    for site in sites(model):
        site.write(select(site.view().abs(), rows(), Keep.fraction(density)).apply(site.view()))


def images(folder: Path, which: str) -> tuple[Tensor, Tensor]:
    """Images ``[n, 3, 32, 32]`` between -1 and 1, and their classes."""
    held = np.load(folder / "cifar10" / "cifar10.npz")
    x = torch.from_numpy(held[f"{which}_images"]).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(), torch.from_numpy(held[f"{which}_labels"]).long()


def test_a_net_trained_on_real_images_runs_packed(shared_data: Path, tmp_path: Path) -> None:
    net = MobileNet(10, 0.25, SMALL, stride=1)
    x, labels = images(shared_data, "train")
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(3):
        for some in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[some]), labels[some]).backward()
            optimizer.step()
    prune_to(net.eval(), 0.75)
    store.save(net, tmp_path / "net")
    loaded = store.load(tmp_path / "net", into=MobileNet(10, 0.25, SMALL, stride=1))
    assert any(isinstance(m, PackedConv2d) for m in loaded.modules())
    shown, right = images(shared_data, "test")
    with torch.inference_mode(), fallbacks() as missed:
        dense, packed = net(shown[:400]), loaded(shown[:400])
    torch.testing.assert_close(packed, dense, rtol=1e-3, atol=1e-3)
    assert not missed
    assert float((packed.argmax(1) == right[:400]).float().mean()) > 0.15  # chance is 0.1


def test_a_net_is_never_dense_in_memory(tmp_path: Path) -> None:
    net = MobileNet(10, 1.0, IMAGENET, stride=1).eval()
    prune_to(net, 0.1)
    store.save(net, tmp_path / "net", layout="csr")
    loading, running, parts, dense = measured(NET, tmp_path / "net")
    assert parts < 0.3 * dense
    assert loading < 0.8 * dense  # the parts, modules that are imported then, and one check
    assert running < 0.85 * dense


@pytest.mark.slow
def test_smollm2_is_never_dense_in_memory(tmp_path: Path) -> None:
    from gossamer import models

    loaded = models.load("smollm2")
    prune_to(loaded.model, 0.3)
    dense = sum(site.shape[0] * site.shape[1] * 2 for site in sites(loaded.model))
    store.save(loaded.model, tmp_path / "m", dtype=torch.bfloat16, layout="decode")
    assert any(isinstance(m, PackedLinear) for m in store.load(tmp_path / "m").modules())
    loading, running, parts = measured(LLM, tmp_path / "m")
    print({"loading": loading, "running": running, "parts": parts, "dense matrices": dense})
    assert loading < 1.25 * parts + (32 << 20)
    assert running < 0.85 * dense
