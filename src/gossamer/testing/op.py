"""check_op: an op computes what its reference computes, and so do its gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import CustomOpDef
from torch._ops import OpOverload

from gossamer.testing.claims import claim, near, same_bits

Case = tuple[Any, ...]
Function = Callable[..., Any]


def check_op(
    op: Function, reference: Function, cases: Sequence[Case], *, tolerance: float | None = None
) -> None:
    """Raise AssertionError where an op departs from its reference on one of the cases.

    The reference is run in float64. Checked are outputs; the gradient of every float tensor that
    requires one; inputs with gaps between their entries; outputs that were full of NaN before
    (an entry that no thread wrote); inputs left as they were; the same result twice; and, for an
    op of torch.library, `torch.library.opcheck` on the first and the last case.

    Args:
        op: a function of tensors and plain values that returns a tensor or several.
        reference: the same function, readable and able to compute in float64.
        cases: arguments; give odd sizes, empty and full supports, and every dtype claimed.
        tolerance: relative to the greatest entry; None takes one that fits the dtype.

    >>> cases = [(torch.randn(3, 5, requires_grad=True), torch.randn(5))]
    >>> check_op(torch.mv, lambda a, b: (a * b).sum(1), cases)
    """
    claim(len(cases) > 0, "An op needs at least one case to be checked on.")
    for index, case in enumerate(cases):
        what = f"Case {index} {_sizes(case)}"
        truth = _results(reference, _map(case, torch.Tensor.double))
        with _poisoned_memory():
            found = _results(op, _map(case, lambda tensor: tensor))
        claim(len(found[0]) == len(truth[0]), f"{what}: {len(found[0])} outputs.")
        for kind, ours, right in zip(("output", "gradient"), found, truth):
            for place, (one, two) in enumerate(zip(ours, right)):
                near(one, two, tolerance, f"{what}: {kind} {place}")
        again = _results(op, _map(case, lambda tensor: tensor))
        claim(all(same_bits(a, b) for a, b in zip(found[0], again[0])),
              f"{what}: a second call gives another output.")
        gaps = _results(op, _map(case, _with_gaps))
        for place, (one, two) in enumerate(zip(gaps[0] + gaps[1], truth[0] + truth[1])):
            near(one, two, tolerance, f"{what} with gaps: result {place}")
    if isinstance(op, OpOverload | CustomOpDef):
        for case in {id(case): case for case in (cases[0], cases[-1])}.values():
            torch.library.opcheck(op, case)


def _sizes(case: Case) -> str:
    shown = [str(tuple(a.shape)) if isinstance(a, Tensor) else repr(a) for a in case]
    return f"({', '.join(shown)})"


def _map(case: Case, change: Callable[[Tensor], Tensor]) -> Case:
    """Copies of the arguments; float tensors changed, gradients wanted where they were."""
    def one(value: Any) -> Any:
        if isinstance(value, list):
            return [one(item) for item in value]
        if not isinstance(value, Tensor):
            return value
        copy = value.detach().clone()
        if not value.is_floating_point():
            return _with_gaps(copy) if change is _with_gaps else copy
        return change(copy).detach().requires_grad_(value.requires_grad)

    return tuple(one(value) for value in case)


def _with_gaps(tensor: Tensor) -> Tensor:
    return torch.stack([tensor, tensor], -1)[..., 0]


def _results(function: Function, case: Case) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and gradients of what wants them under a fixed random cotangent."""
    before = [a.detach().clone() if isinstance(a, Tensor) else None for a in case]
    said = function(*case)
    outputs = [said] if isinstance(said, Tensor) else list(said)
    wanted = [a for a in case if isinstance(a, Tensor) and a.requires_grad]
    gradients: list[Tensor] = []
    if wanted:
        generator = torch.Generator().manual_seed(0)
        loss = torch.zeros((), dtype=torch.float64)
        for out in outputs:
            weight = torch.randn(out.shape, generator=generator).to(out.device, out.dtype)
            loss = loss + (out * weight).sum().cpu()
        gradients = list(torch.autograd.grad(loss, wanted))
    for value, copy in zip(case, before):
        claim(copy is None or same_bits(value, copy), "An argument was changed by the call.")
    return outputs, gradients


@contextmanager
def _poisoned_memory() -> Iterator[None]:
    """Inside, torch.empty gives NaN and greatest integers instead of what lay there."""
    strict = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=lenient)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
