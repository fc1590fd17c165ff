"""check_op passes the packed linear op and fails on broken ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gossamer.core import Support
from gossamer.layout import LAYOUTS, Packed, pack, unpack
from gossamer.ops.linear.form import parts_of
from gossamer.ops.linear.op import packed_linear
from gossamer.testing import check_op
from tests.held import EXACT, held


def truth(x: Tensor, values: Tensor, others: list[Tensor], bias: Tensor | None, layout: str,
          shape: list[int]) -> Tensor:
    """The dense product with the matrix that these parts mean."""
    parts = dict(zip(LAYOUTS[layout].parts, (values, *others)))
    y = x @ unpack(Packed(layout, (shape[0], shape[1]), parts)).t()
    return y if bias is None else y + bias


def cases(layout: str, dtype: torch.dtype = torch.float32) -> list[tuple[Any, ...]]:
    """Odd sizes, batches around the kernels' limits, empty and full supports."""
    found = []
    for batch, high, wide in ((1, 6, 12), (3, 10, 28), (65, 4, 8), (0, 4, 8)):
        noise = torch.randn(high, wide)
        fitting = held(layout, noise.abs())
        none = Support.of(torch.zeros(high, wide, dtype=torch.bool))
        for support in (fitting, none, Support.full(high, wide)):
            if LAYOUTS[layout].nbytes(support, 4) is None:
                continue
            packed = pack(noise, support, layout, dtype)
            x = torch.randn(batch, wide, dtype=dtype).requires_grad_()
            bias = torch.randn(high, dtype=dtype).requires_grad_() if batch != 3 else None
            values = packed.values.clone().requires_grad_()
            others = list(parts_of(packed)[1:])
            found.append((x, values, others, bias, layout, [high, wide]))
    return found


@pytest.mark.parametrize("layout", EXACT)
def test_the_packed_linear_op_passes(layout: str) -> None:
    check_op(packed_linear, truth, cases(layout))


def test_half_precision_has_its_own_tolerance() -> None:
    check_op(packed_linear, truth, cases("bitmask", torch.bfloat16)[:3])
    with pytest.raises(AssertionError, match="is off by"):
        check_op(packed_linear, truth, cases("bitmask", torch.bfloat16)[:3], tolerance=1e-6)


def double(x: Tensor) -> Tensor:
    return 2 * x


def case(rows: int = 5) -> list[tuple[Tensor]]:
    return [(torch.randn(rows, 3).requires_grad_(),)]


def unwritten(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    out[:-1] = 2 * x.detach()[:-1]
    return out


def gapless(x: Tensor) -> Tensor:
    return 2 * torch.as_strided(x, x.shape, (x.shape[1], 1))  # reads as if there were no gaps


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def scribbling(x: Tensor) -> Tensor:
    out = 2 * x
    with torch.no_grad():
        x.zero_()
    return out


BROKEN = [
    (lambda x: 2 * x + 1e-3, "output 0 is off"), (lambda x: (2 * x)[:-1], "has shape"),
    (lambda x: x * torch.nan, "output 0 is off by nan"), (unwritten, "output 0 is off by nan"),
    (WrongGradient.apply, "gradient 0 is off"), (gapless, "with gaps"),
    (lambda x: 2 * x + 1e-6 * torch.rand(()), "second call"), (scribbling, "argument was changed"),
    (lambda x: (2 * x, x), "2 outputs"),
]


@pytest.mark.parametrize(("op", "message"), BROKEN, ids=[m for _, m in BROKEN])
def test_broken_ops_fail(op: Any, message: str) -> None:
    cases = [(x.detach(),) for x, in case()] if op is unwritten else case()
    with pytest.raises(AssertionError, match=message):
        check_op(op, double, cases)


def test_a_sound_op_passes_and_leaves_torch_as_it_was() -> None:
    before = (torch.are_deterministic_algorithms_enabled(), torch.get_rng_state())
    check_op(double, double, [*case(), *case(1)])
    assert torch.are_deterministic_algorithms_enabled() == before[0]
    with pytest.raises(AssertionError, match="at least one case"):
        check_op(double, double, [])


def test_an_op_that_lies_to_the_compiler_fails() -> None:
    @torch.library.custom_op("gossamer_tests::lies", mutates_args=())
    def lies(x: Tensor) -> Tensor:
        return 2 * x

    @lies.register_fake
    def _(x: Tensor) -> Tensor:
        return x.new_empty(x.shape[0] + 1, *x.shape[1:])

    with pytest.raises(Exception, match=r"(?s)opcheck|shape|mismatch"):
        check_op(lies, double, [(torch.randn(3, 2),)])
