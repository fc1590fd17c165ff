"""Bytes and operations against counts by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gossamer.core import sites
from gossamer.measure import PeakMemory, bytes_by_kind, environment, macs_per_token, model_bytes
from gossamer.ops import PackedLinear
from tests import zoo
from tests.held import EXACT, held


@pytest.mark.parametrize("name", list(zoo.ZOO))
def test_bytes_equal_the_state_dict_with_tied_weights_once(name: str) -> None:
    model = zoo.ZOO[name]()
    counted = sum(p.numel() * p.element_size() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    assert model_bytes(model) == counted + buffers


def test_half_precision_halves() -> None:
    model = nn.Linear(10, 6)
    assert bytes_by_kind(model) == {("dense", "float32"): 4 * 66}
    assert bytes_by_kind(model.bfloat16()) == {("dense", "bfloat16"): 2 * 66}


@pytest.mark.parametrize("layout", [n for n in EXACT if n not in ("dense",)])
def test_packed_layers_count_their_parts_and_row_starts(layout: str) -> None:
    support = held(layout, torch.rand(8, 16))
    layer = PackedLinear.from_linear(torch.ones(8, 16), torch.zeros(8), support, layout,
                                     torch.bfloat16)
    starts = layer.starts
    extra = 0 if starts is None else starts.numel() * starts.element_size()
    assert model_bytes(layer) == layer.packed.nbytes + extra + 8 * 4
    kinds = {kind for kind, _ in bytes_by_kind(layer)}
    assert kinds == {layout} or kinds == {layout, "dense"}
    assert macs_per_token(layer).kept == support.nnz
    assert macs_per_token(layer).dense == 128


def test_macs_of_a_llama_by_hand() -> None:
    model = zoo.llama()
    block = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 48
    assert macs_per_token(model).dense == 3 * block + 32 * zoo.VOCAB
    half = copy.deepcopy(model)
    for site in sites(half):
        weight = site.view().clone()
        weight[:, ::2] = 0
        site.write(weight)
    found = macs_per_token(half)
    assert found.kept == 3 * block // 2 + 32 * zoo.VOCAB
    assert found.density == pytest.approx(found.kept / found.dense)


def test_only_the_chosen_experts_count() -> None:
    model = zoo.mixtral()
    attention = 32 * 32 * 2 + 32 * 16 * 2
    expert = 3 * 32 * 48
    router = 4 * 32
    found = macs_per_token(model).dense
    # The router's product is a bare matrix, not a linear layer, in some transformers versions.
    assert found - (2 * (attention + 2 * expert) + 32 * zoo.VOCAB) in (0, 2 * router)


def test_peak_memory_sees_a_block_that_is_gone() -> None:
    with PeakMemory() as peak:
        torch.ones(16 << 20).sum()  # 64 MiB, freed at once
    assert peak.bytes > 60 << 20


def test_environment_is_plain_json() -> None:
    import json
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["threads"] == torch.get_num_threads()
    assert found["versions"]["torch"] == torch.__version__
    assert found["cpu"]
