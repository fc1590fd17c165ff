"""Whole models packed in place: they generate, classify, compile and train on as before."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from gossamer.core import sites
from gossamer.jobs import pack
from gossamer.models.mobilenet import SMALL, MobileNet
from gossamer.ops import PackedConv2d, PackedLinear, fallbacks
from gossamer.prune import Magnitude
from tests import zoo

PACKED = (PackedConv2d, PackedLinear)
# Models whose matrices can be swapped where they stand: neither stacked experts nor Conv1D.
CAUSAL = [name for name in zoo.CAUSAL if name not in ("mixtral", "qwen3_moe", "gpt2")]


def resnet() -> nn.Module:
    """A ResNet of transformers with two stages."""
    from transformers import ResNetConfig, ResNetForImageClassification
    torch.manual_seed(0)
    return ResNetForImageClassification(ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], layer_type="basic",
        num_labels=4)).eval()


def vision(name: str) -> tuple[nn.Module, Tensor]:
    """A model of images, and images."""
    torch.manual_seed(0)
    if name == "vit":
        return zoo.vit(), zoo.inputs("vit")["pixel_values"]
    if name == "resnet":
        return resnet(), torch.randn(2, 3, 32, 32)
    return MobileNet(10, 0.25, SMALL, stride=1).eval(), torch.randn(2, 3, 32, 32)


def logits(found: object) -> Tensor:
    """The scores in what a model returns."""
    scores: Tensor = getattr(found, "logits", found)
    return scores


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("batch", [None, 1])
def test_a_decoder_generates_the_same(name: str, batch: int | None) -> None:
    model = zoo.ZOO[name]()
    Magnitude(density=0.4).run(model)
    ids = torch.arange(1, 9)[None].repeat(2, 1)
    wanted = model.generate(ids, max_new_tokens=5, do_sample=False)
    beams = model.generate(ids, max_new_tokens=4, num_beams=2, do_sample=False)
    pack(model, batch=batch)
    assert sum(isinstance(m, PACKED) for m in model.modules()) == len({
        site.module for site in sites(zoo.ZOO[name]())})
    assert torch.equal(model.generate(ids, max_new_tokens=5, do_sample=False), wanted)
    assert torch.equal(model.generate(ids, max_new_tokens=4, num_beams=2, do_sample=False), beams)


@pytest.mark.parametrize("name", ["vit", "resnet", "mobilenet"])
def test_a_classifier_computes_the_same_and_compiles_whole(name: str) -> None:
    torch.compiler.reset()
    model, images = vision(name)
    Magnitude(density=0.3).run(model)
    with torch.no_grad():
        wanted = logits(model(images))
    pack(model)
    assert any(isinstance(m, PACKED) for m in model.modules())
    with torch.inference_mode(), fallbacks() as missed:
        torch.testing.assert_close(logits(model(images)), wanted, rtol=1e-4, atol=1e-4)
    assert not missed
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(logits(compiled(images)), wanted, rtol=1e-4, atol=1e-4)
    other = copy.deepcopy(model)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(logits(other(images)), logits(model(images)))


def test_a_packed_decoder_compiles_whole() -> None:
    torch.compiler.reset()
    model, ids = zoo.llama(), torch.arange(1, 9)[None]
    Magnitude(density=0.4).run(model)
    with torch.no_grad():
        wanted = model(ids, use_cache=False).logits
        pack(model)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        found = compiled(ids, use_cache=False).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["vit", "resnet", "mobilenet"])
def test_what_is_not_packed_still_trains(name: str) -> None:
    model, images = vision(name)
    Magnitude(density=0.3).run(model)
    pack(model)
    model.train()
    logits(model(images)).square().sum().backward()
    given = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert given
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in given.values())
