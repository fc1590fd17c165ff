"""STen's grouped N:M as a pruning system."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from gossamer import store
from gossamer.core import ConfigError, PatternError, parse_pattern
from gossamer.core.grouped import combinations
from gossamer.ops import PackedLinear
from gossamer.prune import STen


def test_every_pattern_is_taken_by_equally_many_rows() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12, bias=False))
    before = model[0].weight.detach().clone()
    result = STen(pattern="2:4:2").run(model)
    support = result.supports["0.weight"]
    for run in support.mask().view(12, 2, 4).unbind(1):
        kept = sorted(tuple(row.nonzero().flatten().tolist()) for row in run)
        assert kept == sorted(2 * combinations(2, 4))
    assert torch.equal(model[0].weight.detach(), before * support.mask())
    support.check(parse_pattern("2:4:2"))


def test_it_is_saved_in_its_own_layout_and_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(32, 48)), torch.randn(9, 32)
    result = STen(pattern="2:4:8").run(model)
    wanted = model(x)
    store.save(model, tmp_path / "model", result.supports, layout="group_nm")
    loaded = store.load(tmp_path / "model", into=nn.Sequential(nn.Linear(32, 48)))
    assert isinstance(loaded[0], PackedLinear)
    assert loaded[0].layout == "group_nm"
    torch.testing.assert_close(loaded(x), wanted)


def test_a_pattern_without_a_group_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="grouped pattern N:M:G"):
        STen(pattern="2:4")
    with pytest.raises(PatternError):
        STen(pattern="5:4:2")
