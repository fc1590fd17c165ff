"""check_layer: a module computes its reference and survives what users do to modules."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gossamer.testing.claims import claim, near, same_bits


def check_layer(
    layer: nn.Module, reference: Callable[[Tensor], Tensor], x: Tensor, *,
    tolerance: float | None = None,
) -> None:
    """Raise AssertionError where a layer departs from its reference or breaks in use.

    Checked are outputs and the gradient of the input against the reference in float64, for one
    input, a batch, no input and inputs with gaps; deepcopy; a state dict loaded into a blank
    copy; inference mode; and ``torch.compile(fullgraph=True)``.

    Args:
        layer: a module of one tensor ``[batch, features]``.
        reference: the same function, able to compute in float64.
        x: a batch of at least two inputs in a dtype that the layer takes.
        tolerance: relative to the greatest entry; None takes one that fits the output's dtype.

    >>> layer = nn.Linear(5, 3)
    >>> weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    >>> check_layer(layer, lambda x: x @ weight.t() + bias, torch.randn(4, 5))
    """
    gaps = torch.stack([x, x], -1)[..., 0]
    shapes = {"a batch": x, "one input": x[0], "no input": x[:0], "three dimensions": x[None],
              "an input with gaps": gaps}
    for what, value in shapes.items():
        near(layer(value), reference(value.double()), tolerance, f"The output of {what}")
    before = layer(x).detach()
    claim(same_bits(layer(x), before), "A second call gives another output.")
    _gradient(layer, reference, x, tolerance)
    with torch.inference_mode():
        claim(same_bits(layer(x), before), "Inference mode gives another output.")
    _copies(layer, x, before)
    torch.compiler.reset()  # a layer is compiled once, however many were before it
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    near(compiled(x), before.double(), tolerance, "The compiled output")


def _gradient(
    layer: nn.Module, reference: Callable[[Tensor], Tensor], x: Tensor, tolerance: float | None
) -> None:
    ours = x.detach().clone().requires_grad_()
    truth = x.detach().double().requires_grad_()
    for value, function in ((ours, layer), (truth, reference)):
        out = function(value)
        weight = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape)
        (out * weight).sum().backward()
    claim(ours.grad is not None, "No gradient reaches the input.")
    if ours.grad is not None and truth.grad is not None:
        near(ours.grad, truth.grad, tolerance, "The gradient of the input")


def _copies(layer: nn.Module, x: Tensor, before: Tensor) -> None:
    twin = copy.deepcopy(layer)
    claim(same_bits(twin(x), before), "A deepcopy gives another output.")
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    claim(len(state) > 0, "The state dict is empty.")
    with torch.no_grad():
        for value in twin.state_dict().values():
            value.zero_()
    claim(same_bits(layer(x), before), "A deepcopy shares memory with the original.")
    twin.load_state_dict(state)
    claim(same_bits(twin(x), before), "A copy that loads the state dict gives another output.")
    claim(list(twin.state_dict()) == list(state), "Loading changed the keys of the state dict.")
