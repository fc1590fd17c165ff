"""pack: packed layers in a model's place, by bytes or by the clock, and back again."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gossamer.core import (
    ConfigError,
    Keep,
    PatternError,
    UnsupportedError,
    block,
    nm,
    rows,
    select,
    sites,
)
from gossamer.jobs import pack
from gossamer.jobs import packing as room
from gossamer.layout import chosen_from
from gossamer.measure import decoder_takes
from gossamer.ops import PackedConv2d, PackedLinear
from gossamer.ops.linear import cpu
from gossamer.prune import Magnitude
from tests import zoo


def pruned(density: float = 0.3) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64))
    Magnitude(density=density).run(model)
    return model


def test_the_packed_model_computes_the_same_and_the_dense_one_returns() -> None:
    model, x = pruned(), torch.randn(5, 64)
    before, wanted = copy.deepcopy(model.state_dict()), model(x)
    handle = pack(model)
    assert all(isinstance(model[i], PackedLinear) for i in (0, 2))
    torch.testing.assert_close(model(x), wanted)
    handle.remove()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_by_bytes_the_smallest_layout_is_taken() -> None:
    model = pruned(0.03)
    pack(model)
    assert model[0].layout in ("csr", "ablated")
    half = pruned(0.5)
    pack(half)
    assert half[0].layout == "bitmask"


def test_by_the_clock_the_quickest_layout_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[set[str]] = []

    def clock(calls: dict, repeats: int) -> dict[str, tuple[float, ...]]:
        timed.append(set(calls))
        return {name: (1.0 if name == "csr" else 9.0,) for name in calls}

    monkeypatch.setattr(room, "time_interleaved", clock)
    model = pruned()
    pack(model, batch=1)
    assert [model[i].layout for i in (0, 2)] == ["csr", "csr"]
    assert len(timed) == 2
    assert all({"dense", "bitmask", "csr"} <= names for names in timed)


def test_layers_that_are_alike_are_timed_once() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(64, 64) for _ in range(3)])
    Magnitude(density=0.1).run(model)
    seen: list[tuple[int, int, str]] = []
    pack(model, batch=2, progress=lambda *said: seen.append(said))
    assert [said[:2] for said in seen] == [(0, 1)]
    assert len({layer.layout for layer in model}) == 1


def test_a_named_layout_and_supports_are_obeyed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32))
    site = sites(model)[0]
    support = select(site.view().abs(), nm(2, 4))
    site.write(support.apply(site.view()))
    pack(model, "nm", supports={site.name: support}, dtype=torch.bfloat16)
    assert (model[0].layout, model[0].packed.dtype) == ("nm", torch.bfloat16)


def test_a_language_model_generates_the_same_packed() -> None:
    model = zoo.llama()
    for site in sites(model):
        support = select(site.view().abs(), rows(), Keep.fraction(0.5))
        site.write(support.apply(site.view()))
    ids = torch.arange(1, 9)[None]
    wanted = model.generate(ids, max_new_tokens=6, do_sample=False)
    handle = pack(model, batch=1)
    assert torch.equal(model.generate(ids, max_new_tokens=6, do_sample=False), wanted)
    handle.bake()


def test_for_decoding_only_what_the_decoder_reads_is_chosen() -> None:
    model = zoo.llama()
    for site in sites(model):
        support = select(site.view().abs(), block(4, 4), Keep.fraction(0.1))
        site.write(support.apply(site.view()))
    handle = pack(model)
    assert {m.layout for m in model.modules() if isinstance(m, PackedLinear)} == {"bsr"}
    assert not decoder_takes(model, 16)
    handle.remove()
    for batch in (None, 1):
        handle = pack(model, "decode", batch=batch)
        chosen = {m.layout for m in model.modules() if isinstance(m, PackedLinear)}
        assert chosen <= set(cpu.LAYOUTS)
        assert "bsr" not in chosen
        handle.remove()


def test_what_is_chosen_for_decoding_is_what_the_decoder_reads() -> None:
    assert set(chosen_from("decode")) <= set(cpu.LAYOUTS)
    assert set(chosen_from("decode")) < set(chosen_from("auto"))


def test_convolutions_are_packed_too() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 1))
    Magnitude(density=0.2).run(net)
    x = torch.randn(2, 3, 9, 9)
    wanted = net(x)
    pack(net, batch=1)
    assert isinstance(net[2], PackedConv2d)
    torch.testing.assert_close(net(x), wanted)


def test_what_cannot_be_done_is_said_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="batch of at least 1"):
        pack(pruned(), batch=0)
    with pytest.raises(ConfigError, match="batch of at least 1"):
        pack(pruned(), "csr", batch=1)
    with pytest.raises(ConfigError, match="bitmask"):
        pack(pruned(), "bitmsk")
    with pytest.raises(PatternError, match=r"0\.weight: "):
        pack(pruned(), "condensed")
    with pytest.raises(UnsupportedError):
        pack(nn.Sequential(nn.ReLU()))
