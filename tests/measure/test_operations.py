"""Operations counted on shapes, against closed forms and the static count of weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gossamer.core import ConfigError, UnsupportedError
from gossamer.measure import macs_per_token
from gossamer.measure.operations import Op, operations
from gossamer.ops import PackedConv2d, PackedLinear
from tests import zoo

LENGTH = 16
ROUTED = ("mixtral", "qwen3_moe")


@pytest.mark.parametrize("name", list(zoo.CAUSAL))
def test_linear_work_of_every_decoder_is_that_of_its_weights(name: str) -> None:
    model = zoo.ZOO[name]()
    work = operations(model, LENGTH)
    counted = macs_per_token(model).dense
    routers = 2 * 4 * 32 if name in ROUTED else 0  # bare matrices, which are no linear layers
    assert work.macs("linear") == LENGTH * (counted + routers)
    assert work.tokens == LENGTH
    assert work.parameters == sum(p.numel() for p in model.parameters())


def test_attention_is_scores_and_values() -> None:
    work = operations(zoo.opt(), LENGTH)
    assert work.macs("attention") == 2 * 2 * LENGTH * LENGTH * 32


def test_a_lookup_multiplies_nothing() -> None:
    tables = [op for op in operations(zoo.bert(), LENGTH).ops if op.kind == "lookup"]
    assert len(tables) == 3
    assert all(op.macs == op.weights == 0 for op in tables)


def test_heads_are_not_pruned_and_blocks_are() -> None:
    found = {op.name: op.sparsifiable for op in operations(zoo.llama(), LENGTH).ops}
    assert found["model.layers.0.mlp.up_proj.weight"]
    assert not found["lm_head.weight"]


def test_decoding_reads_keys_of_shared_heads_once() -> None:
    work = operations(zoo.llama(), length=1, context=99)
    scores = [op for op in work.ops if op.kind == "attention" and op.macs > 99 * 8]
    # 4 heads of 8 on 2 shared ones; the scores stay where they are made.
    assert {op.macs for op in scores} == {4 * 8 * 100}
    assert {op.activations for op in scores} == {4 * 8 + 2 * 8 * 100}


def test_a_batch_reads_the_experts_that_it_picks() -> None:
    step = operations(zoo.mixtral(), length=1, context=4)
    expert = next(op for op in step.ops if op.experts == 4)
    assert expert.picked == 2
    assert [expert.read(batch) // expert.weights for batch in (1, 2, 50)] == [2, 4, 4]


def test_convolutions_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1, bias=False), nn.Flatten(),
        nn.Linear(6 * 36, 5),
    )
    first, depth, point, last = operations(net, inputs=torch.zeros(1, 3, 8, 8)).ops
    assert [op.macs for op in (first, depth, point, last)] == [
        8 * 27 * 64, 8 * 9 * 36, 6 * 8 * 36, 5 * 6 * 36]
    assert [op.sparsifiable for op in (first, depth, point, last)] == [False, False, True, True]
    assert first.vector == 8 * 64  # the ReLU; the norm is folded
    assert point.shape == (6, 8)


def test_a_packed_layer_counts_as_the_matrix_that_it_stands_for() -> None:
    weight = torch.eye(32)
    packed = nn.Sequential(PackedLinear.from_linear(weight, layout="bitmask"), nn.ReLU())
    dense = nn.Sequential(nn.Linear(32, 32, bias=False), nn.ReLU())
    x = torch.zeros(1, 32)
    ours, theirs = operations(packed, inputs=x), operations(dense, inputs=x)
    assert ours.ops == theirs.ops
    assert ours.parameters == theirs.parameters


def test_a_packed_convolution_as_well() -> None:
    plain = nn.Conv2d(8, 6, 3, padding=1, bias=False)
    packed = nn.Sequential(PackedConv2d.from_conv(plain, layout="csr"))
    x = torch.zeros(1, 8, 5, 5)
    assert operations(packed, inputs=x).ops == operations(nn.Sequential(plain), inputs=x).ops


def test_the_model_is_left_alone() -> None:
    model = zoo.llama()
    before = copy.deepcopy(model.state_dict())
    operations(model, 4)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.lm_head.weight.device.type == "cpu"


def test_bad_input() -> None:
    with pytest.raises(UnsupportedError, match="pass inputs for one sample"):
        operations(nn.Linear(4, 4))
    with pytest.raises(UnsupportedError, match="cannot be run on shapes alone"):
        operations(nn.Linear(4, 4), inputs=torch.zeros(1, 5))
    with pytest.raises(UnsupportedError, match="no key-value cache"):
        operations(zoo.bert(), context=3)
    with pytest.raises(ConfigError, match="at least 1"):
        operations(zoo.bert(), length=0)
    with pytest.raises(ConfigError, match="whole numbers"):
        Op("w", "linear", None)  # type: ignore[arg-type]
