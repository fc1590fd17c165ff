"""What every op on a packed weight checks of the input and the bias before a kernel sees them."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.core import UnsupportedError
from gossamer.layout.packed import FLOATS


def is_input(x: Tensor) -> bool:
    """True for a dense tensor of a float type of 16 bits and more."""
    return x.dtype in FLOATS and x.layout is torch.strided


def check_operands(x: Tensor, values: Tensor, bias: Tensor | None, outputs: int) -> None:
    """Raise UnsupportedError where input, bias and weight do not lie on one device, or the bias
    does not have one float for each output.
    """
    if x.is_cpu != values.is_cpu or (not x.is_cpu and x.device != values.device):
        raise UnsupportedError(
            f"The input is on {x.device} and the packed weight on {values.device}; "
            "move one of them."
        )
    if bias is None:
        return
    if bias.dim() != 1 or bias.numel() != outputs or not is_input(bias):
        raise UnsupportedError(
            f"A packed weight of {outputs} outputs needs a dense float bias of shape ({outputs},), "
            f"not {bias.dtype} of shape {tuple(bias.shape)}."
        )
    if bias.is_cpu != values.is_cpu or (not bias.is_cpu and bias.device != values.device):
        raise UnsupportedError(
            f"The bias is on {bias.device} and the packed weight on {values.device}; "
            "move one of them."
        )


def torch_watches(x: Tensor, values: Tensor, bias: Tensor | None) -> bool:
    """True where the call must go through torch's dispatcher, which costs several microseconds.

    That is while compiling, where a gradient is wanted, under subclasses, modes and function
    transforms, and for tensors that are to be negated once they are read.
    """
    if torch.compiler.is_compiling() or type(x) is not Tensor:
        return True
    if torch.is_grad_enabled() and (
        x.requires_grad or values.requires_grad or (bias is not None and bias.requires_grad)
    ):
        return True
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or x.is_neg()
        or (bias is not None and bias.is_neg())
    )
