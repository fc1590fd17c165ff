"""inspect: its numbers against counts by hand, on folders of every kind and on models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils import prune as torch_prune

from gossamer import store
from gossamer.core import StoreError, Support, UnsupportedError, parse_pattern, select, sites
from tests.store.pruned import mlp, prune, zoo


def check(found: store.Inspection, name: str) -> store.Check:
    """The finding of one lint."""
    return next(c for c in found.checks if c.id == name)


def test_numbers_of_a_small_model(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 4))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[:, ::4] = 2.0  # 1:4, 32 of 128
        model[0].weight[7] = 0.0  # one dead output
    supports = {"0.weight": Support.of(model[0].weight != 0, parse_pattern("1:4"))}
    store.save(model, tmp_path / "m", supports, layout="bitmask")
    found = store.inspect(tmp_path / "m")
    first, second = found.sites
    assert (first.kept, first.nonzeros, first.density) == (28, 28, 28 / 128)
    assert first.bytes == 28 * 4 + 8 * 2
    assert first.bits == 8 * 128 / 128
    assert first.dense_bytes == 512
    assert first.conforms == ("1:4", "2:4", "4:8")
    assert (first.claimed, first.broken) == ("1:4", None)
    assert (first.dead_rows, first.dead_columns) == (1, 12)
    assert second.bytes == 32 * 4 + 4 * 1
    assert second.conforms == ()
    totals = found.totals
    assert (totals.prunable, totals.prunable_nonzeros) == (160, 60)
    assert (totals.weights, totals.nonzeros) == (172, 72)
    assert totals.dense_bytes == 172 * 4
    assert totals.bytes == first.bytes + second.bytes + 12 * 4
    assert totals.disk_bytes == sum(p.stat().st_size for p in (tmp_path / "m").iterdir())
    assert [o.name for o in found.others] == ["0.bias", "1.bias"]
    assert check(found, "saves-bytes").figures["larger_than_dense"] == ["1.weight"]
    assert check(found, "dead-units").verdict == "warn"
    assert found.warnings == tuple(
        c.sentence for c in found.checks if c.verdict in ("warn", "fail"))


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "qwen2", "vit"])
def test_a_model_its_packed_and_its_dense_folder_agree(name: str, tmp_path: Path) -> None:
    model, supports = zoo(name)
    store.save(model, tmp_path / "packed", supports)
    store.save(model, tmp_path / "dense", supports, layout="dense")
    model.save_pretrained(tmp_path / "plain")
    founds = [
        store.inspect(model), store.inspect(tmp_path / "packed"), store.inspect(tmp_path / "dense"),
        store.inspect(tmp_path / "plain"), store.inspect(store.load(tmp_path / "packed")),
    ]
    wanted = {s.name: int(s.view().count_nonzero()) for s in sites(model)}
    everything = sum(p.numel() for p in model.parameters())
    for found in founds:
        assert {row.name: row.nonzeros for row in found.sites} == wanted
        assert all("2:4" in row.conforms for row in found.sites)
        assert found.totals.weights == everything
        assert found.totals.prunable_density == 0.5
        assert found.totals.dense_bytes == everything * 4
        json.dumps(found.to_json(), allow_nan=False)
    assert {row.claimed for row in founds[1].sites} == {"2:4"}
    assert {row.claimed for row in founds[2].sites} == {"2:4"}
    assert check(founds[0], "packed-claim").verdict == "warn"
    assert check(founds[1], "packed-claim").verdict == "ok"
    assert founds[1].totals.bytes < founds[2].totals.bytes


def test_a_claim_that_the_weights_break(tmp_path: Path) -> None:
    model, supports = zoo("llama")
    name, support = next(iter(supports.items()))
    mask = support.mask()
    mask[0, :4] = True
    lying = {**supports, name: Support.of(mask, parse_pattern("2:4"))}
    with torch.no_grad():
        sites(model)[0].view()[0, :4] = 1.0
    store.save(model, tmp_path / "m", lying, layout="bitmask")
    found = store.inspect(tmp_path / "m")
    assert check(found, "pattern-claim").verdict == "fail"
    assert list(check(found, "pattern-claim").figures["broken"]) == [name]
    row = next(r for r in found.sites if r.name == name)
    assert row.conforms == ()


def test_zeros_that_are_kept(tmp_path: Path) -> None:
    model = mlp()
    supports = prune(model, "rows")
    with torch.no_grad():
        row, column = supports["0.weight"].indices()[3].tolist()
        model[0].weight[row, column] = 0
    store.save(model, tmp_path / "m", supports, layout="csr")
    found = check(store.inspect(tmp_path / "m"), "kept-zeros")
    assert found.verdict == "note"
    assert found.figures == {"zeros_kept": 1, "sites": {"0.weight": 1}}


def test_density_is_that_of_the_effective_weights() -> None:
    masked = mlp()
    torch_prune.l1_unstructured(masked[0], "weight", amount=0.75)
    found = store.inspect(masked)
    assert found.sites[0].density == 0.25
    assert found.totals.weights == sum(p.numel() for p in mlp().parameters())
    figures = check(found, "effective-weights")
    assert figures.verdict == "warn"
    assert figures.figures["differ"] == {"0.weight": (1.0, 0.25)}
    assert check(store.inspect(mlp()), "effective-weights").verdict == "ok"


class Half(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros_like(weight)
        mask[:, ::2] = 1
        return weight * mask


def test_density_under_a_parametrisation() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    parametrize.register_parametrization(model[0], "weight", Half())
    found = store.inspect(model)
    assert found.sites[0].density == 0.5
    assert check(found, "effective-weights").figures["differ"] == {"0.weight": (1.0, 0.5)}
    assert found.totals.weights == 72


def test_very_sparse_and_uniform() -> None:
    model = nn.Sequential(*(nn.Linear(40, 40) for _ in range(4)))
    prune(model, "rows", 0.05)
    assert check(store.inspect(model), "allocation").verdict == "warn"


def test_table_has_one_line_a_site() -> None:
    model, _ = zoo("llama")
    table = store.inspect(model).table()
    assert len(table) == len(sites(model))
    assert set(table[0]) == {"site", "layout", "shape", "dtype", "density", "bits a weight",
                             "bytes", "pattern", "claimed", "runs"}


def test_packed_heads_do_not_become_sites(tmp_path: Path) -> None:
    model, supports = zoo("llama")  # its head is a Linear outside the blocks
    store.save(model, tmp_path / "m", supports)
    loaded = store.load(tmp_path / "m")
    assert {row.name for row in store.inspect(loaded).sites} == set(supports)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no folder"):
        store.inspect(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"no config\.json"):
        store.inspect(tmp_path)
    with pytest.raises(UnsupportedError, match="no prunable"):
        store.inspect(nn.LayerNorm(3))


def test_select_is_what_the_rows_show() -> None:
    model = nn.Sequential(nn.Linear(32, 8))
    chosen = select(model[0].weight.detach().abs(), parse_pattern("4:8"))
    sites(model)[0].write(chosen.apply(model[0].weight))
    assert store.inspect(model).sites[0].conforms[:1] == ("4:8",)
