"""Grouped N:M with many inputs: its values in the order of the rows, then panels of inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer import native
from gossamer.layout import Packed
from gossamer.layout.group_nm import cut_of
from gossamer.ops.linear import block, cpu, panel
from gossamer.ops.linear.form import Form, Parts, form_of

LAYOUTS = ("group_nm",)
# A group's sums go to memory and back for every run of M columns; with few weights that takes
# longer than to follow one row after the other.
_FEWEST, _DENSEST = 8, 0.3


def refusal(x: Tensor, parts: Parts, form: Form) -> str | None:
    """Why rows one after the other do not cover this input, None where they do; by metadata."""
    if x.numel() < _FEWEST * form.cols:
        return f"fewer than {_FEWEST} inputs do not fill a panel"
    if parts[0].numel() > _DENSEST * form.rows * form.cols:
        return f"over a density of {_DENSEST} rows that share columns are quicker"
    return cpu.refusal(x, parts, form)


def account(x: Tensor, form: Form) -> str:
    """What runs, and why."""
    return f"{native.isa()} panels for {form.layout}, row after row: few weights, many inputs"


def product(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` for x ``[..., cols]``."""
    values, columns = rows_in_order(parts[0], parts[1], form)
    listed = form_of(values, "condensed", (form.rows, form.cols))
    return panel.product(x, (values, columns), bias, listed)


def rows_in_order(values: Tensor, order: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """Values and int32 columns ``[rows, runs * N]`` of a grouped matrix."""
    cut = cut_of(Packed(form.layout, (form.rows, form.cols), {"values": values}))
    width = 0 if cut is None else cut.runs * cut.n
    ordered = values.new_empty(form.rows, width)
    columns = order.new_empty(form.rows, width, dtype=torch.int32)
    if cut is not None and ordered.numel():
        places = block.places(cut.n, cut.m)
        cpu.core().order_grouped(
            [part.data_ptr() for part in (values, order, places, ordered, columns)],
            [cut.chunks, cut.runs, cut.patterns, cut.g, cut.n, cut.m, form.rows, form.cols],
            values.element_size(), torch.get_num_threads(),
        )
    return ordered, columns
