"""sites and blocks on hand-made modules: found by type and shape, tied weights once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gossamer.core import Site, SupportError, UnsupportedError, blocks, sites
from gossamer.core.sites import packed_layers
from gossamer.ops import PackedLinear


class Block(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


class Model(nn.Module):
    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.layers = nn.ModuleList(Block() for _ in range(depth))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Parameter(torch.randn(3, 8))
        self.gate_up_proj = nn.Parameter(torch.randn(3, 10, 8))
        self.down_proj = nn.Parameter(torch.randn(3, 8, 5))


def names(model: nn.Module, match: str | None = None) -> list[str]:
    return [site.name for site in sites(model, match)]


def test_linear_layers_of_the_blocks_in_order() -> None:
    model = Model()
    assert names(model) == ["layers.0.up.weight", "layers.0.down.weight", "layers.1.up.weight",
                            "layers.1.down.weight"]
    assert [path for path, _ in blocks(model)] == ["layers.0", "layers.1"]
    assert names(model, "*.1.*down*") == ["layers.1.down.weight"]
    found = dict(model.named_parameters())
    assert all(site.view().data_ptr() == found[site.name].data_ptr() for site in sites(model))


def test_a_model_without_blocks_is_its_own_block() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    assert names(model) == ["0.weight", "2.weight"]
    assert blocks(model) == [("", model)]
    assert names(nn.Linear(3, 2)) == ["weight"]
    assert names(nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])) == ["0.weight", "1.weight"]


def test_the_greatest_list_wins_over_lists_inside_and_beside_it() -> None:
    model = Model()
    model.heads = nn.ModuleList([nn.Linear(8, 2)])
    for layer in model.layers:
        layer.inner = nn.ModuleList([nn.Linear(8, 2), nn.Linear(8, 2)])
    assert [path for path, _ in blocks(model)] == ["layers.0", "layers.1"]
    assert "layers.0.inner.1.weight" in names(model)
    assert "heads.0.weight" not in names(model)


def test_tied_weights_are_listed_once() -> None:
    model = Model()
    model.layers[1].up.weight = model.layers[0].up.weight
    model.layers[1].down.weight = nn.Parameter(model.layers[0].down.weight.data)
    assert names(model) == ["layers.0.up.weight", "layers.0.down.weight"]
    shared = Block()
    repeated = nn.ModuleList([shared, shared])
    assert names(repeated) == ["0.up.weight", "0.down.weight"]


def test_a_matrix_tied_to_an_embedding_is_no_site() -> None:
    model = Model()
    model.layers[0].up = nn.Linear(8, 11)
    model.layers[0].up.weight = nn.Parameter(model.embed.weight.data)
    assert names(model)[0] == "layers.0.down.weight"
    flat = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    flat[1].weight = flat[0].weight
    with pytest.raises(UnsupportedError, match="no prunable site"):
        sites(flat)


def test_the_meta_device_gives_the_same_sites() -> None:
    model = Model().to("meta")
    assert names(model) == names(Model())
    assert sites(model)[0].shape == (16, 8)


def test_stacked_experts_are_sites_of_their_own() -> None:
    model = nn.ModuleList([Experts(), Experts()])
    found = sites(model)
    assert len(found) == 12
    assert found[1].name == "0.gate_up_proj[1]"
    assert found[3].name == "0.down_proj[0]"
    assert (found[1].shape, found[3].shape) == ((10, 8), (8, 5))
    found[1].write(torch.ones(10, 8))
    assert (model[0].gate_up_proj[1] == 1).all()
    assert (model[0].gate_up_proj[0] != 1).any()


def test_two_stacks_whose_widths_do_not_chain_are_no_experts() -> None:
    other = nn.Module()
    other.one = nn.Parameter(torch.randn(3, 10, 8))
    other.two = nn.Parameter(torch.randn(3, 8, 10))
    with pytest.raises(UnsupportedError, match="no prunable site"):
        sites(other)


def test_conv1d_is_seen_transposed_and_written_in_place() -> None:
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D(6, 4)  # out 6, in 4
    (site,) = sites(nn.Sequential(conv1d))
    assert (site.kind, site.shape) == ("conv1d", (6, 4))
    parameter = conv1d.weight
    site.write(torch.arange(24.0).view(6, 4))
    assert conv1d.weight is parameter
    assert torch.equal(parameter.detach(), torch.arange(24.0).view(6, 4).t())


def test_write_keeps_dtype_and_never_broadcasts() -> None:
    layer = nn.Linear(4, 2).to(torch.bfloat16)
    site = Site("weight", layer, "linear")
    site.write(torch.full((2, 4), 0.1, dtype=torch.float64))
    assert layer.weight.dtype == torch.bfloat16
    assert layer.weight.requires_grad
    for shape in ((3, 4), (1, 4), (2, 1)):
        with pytest.raises(SupportError, match=r"weight has shape \(2, 4\)"):
            site.write(torch.zeros(shape))


def packed_model(*layers: str) -> Model:
    """The model with an untied head and some of its layers packed."""
    model = Model()
    model.head = nn.Linear(8, 11)
    for name in layers:
        layer = model.get_submodule(name)
        block, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(block), leaf, PackedLinear.from_linear(
            layer.weight.detach(), layer.bias, layout="bitmask"))
    return model


def test_a_packed_model_says_so_and_its_head_is_no_site() -> None:
    model = packed_model("layers.0.up", "layers.0.down", "layers.1.up", "layers.1.down")
    assert [path for path, _ in blocks(model)] == ["layers.0", "layers.1"]
    with pytest.raises(UnsupportedError, match=(
            r"Model holds packed layers \(layers\.0\.up and 3 more\), .* --layout dense")):
        sites(model)
    with pytest.raises(UnsupportedError, match=r"packed layers \(0\)"):
        sites(nn.Sequential(PackedLinear.from_linear(torch.eye(4))))


def test_beside_packed_layers_the_dense_ones_are_sites() -> None:
    model = packed_model("layers.0.up", "layers.0.down", "layers.1.down")
    assert packed_layers(model) == ["layers.0.up", "layers.0.down", "layers.1.down"]
    assert names(model) == ["layers.1.up.weight"]
    assert packed_layers(Model()) == []


def test_bad_models_are_named() -> None:
    with pytest.raises(UnsupportedError, match="BatchNorm2d has no prunable site"):
        sites(nn.BatchNorm2d(3))
    with pytest.raises(UnsupportedError, match=r"no prunable site that matches '\*attn\*'"):
        sites(Model(), "*attn*")
    model = Model()
    model.layers[1].up.weight = nn.Parameter(
        torch.zeros(16, 8, dtype=torch.uint8), requires_grad=False
    )
    with pytest.raises(UnsupportedError, match=r"layers\.1\.up\.weight holds torch\.uint8"):
        sites(model)
