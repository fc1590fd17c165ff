"""The optimal brain surgeon step: every kernel against the float64 reference."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer import native
from gossamer.ops.obs import kernel_for, obs_block, reference
from gossamer.prune.parts.hessian import factorise
from gossamer.prune.parts.quantiser import fit_grid


def problem(rows: int, width: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4 * width + 8, width, generator=generator)
    mix = torch.eye(width) + 0.3 * torch.randn(width, width, generator=generator)
    x = x @ mix
    upper = factorise(x.t() @ x, 0.01, "test").upper
    weight = torch.randn(rows, width, generator=generator)
    return weight, upper, torch.rand(rows, width, generator=generator) > 0.5


@pytest.mark.parametrize("isa", native.isas() or ["absent"])
@given(rows=st.integers(1, 150), groups=st.integers(1, 16), seed=st.integers(0, 99),
       mode=st.sampled_from(["mask", "nm", "grid", "nm grid"]))
@settings(max_examples=25, deadline=None)
def test_the_native_kernel_is_the_reference(isa: str, rows: int, groups: int, seed: int,
                                            mode: str) -> None:
    if isa == "absent":
        pytest.skip("the native module is not built")
    weight, upper, mask = problem(rows, 4 * groups, seed)
    grid = fit_grid(weight, 4).parts() if "grid" in mode else None
    keep, nm = (None, (2, 4)) if "nm" in mode else (mask, None)
    exact = weight.double()
    wide = None if grid is None else (grid[0].double(), grid[1].double(), grid[2])
    kept, errors = reference.obs_block(exact, upper.double(), keep, nm, wide)
    before = native.isa()
    native.set_isa(isa)
    try:
        mine = weight.clone()
        seen, scaled = obs_block(mine, upper, keep, nm=nm, grid=grid)
    finally:
        native.set_isa(before)
    assert kernel_for(weight, nm) == "cpu"
    same = (seen == kept).all(1)  # a near tie of saliencies may turn in float32
    if grid is not None:  # and so may a value half way between two grid points
        same &= (mine.double() - exact).abs().amax(1) < 1e-3
    assert float(same.float().mean()) > 0.9
    torch.testing.assert_close(mine[same].double(), exact[same], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scaled[same].double(), errors[same], rtol=1e-3, atol=1e-3)
    assert (mine[~seen] == 0).all()


def test_a_white_hessian_changes_no_kept_weight() -> None:
    weight = torch.randn(33, 64)
    mask = torch.rand(33, 64) > 0.3
    mine = weight.clone()
    obs_block(mine, torch.eye(64), mask)
    assert torch.equal(mine, weight * mask)


def test_views_are_written_in_place() -> None:
    weight, upper, mask = problem(20, 16, 3)
    whole = torch.zeros(20, 32)
    view = whole[:, 8:24]
    view.copy_(weight)
    obs_block(view, upper, mask)
    expected = weight.clone()
    obs_block(expected, upper, mask)
    assert torch.equal(whole[:, 8:24], expected)
    assert (whole[:, :8] == 0).all()


def test_other_dtypes_and_wide_blocks_run_the_reference() -> None:
    assert kernel_for(torch.zeros(4, 8, dtype=torch.float64), None) == "reference"
    assert kernel_for(torch.zeros(4, 2048), None) == "reference"
    assert kernel_for(torch.zeros(0, 8), None) == "reference"


TRITON = """
import os
os.environ["TRITON_INTERPRET"] = "1"
from tests.ops.test_obs import problem
from gossamer.ops.obs import reference, triton
from gossamer.prune.parts.quantiser import fit_grid
for width, mode in ((20, "mask"), (32, "nm"), (12, "grid"), (16, "nm grid")):
    weight, upper, mask = problem(19, width, 1)
    grid = fit_grid(weight, 3).parts() if "grid" in mode else None
    keep, nm = (None, (2, 4)) if "nm" in mode else (mask, None)
    a, b = weight.clone(), weight.clone()
    kept, errors = reference.obs_block(a, upper, keep, nm, grid)
    seen, scaled = triton.obs_block(b, upper, keep, nm, grid)
    assert (kept == seen).all(), mode
    assert (a - b).abs().max() < 1e-5, mode
    assert (errors - scaled).abs().max() < 1e-4, mode
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_gpu_kernel_under_the_interpreter() -> None:
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run([sys.executable, "-c", TRITON], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.gpu
def test_the_gpu_kernel_on_a_gpu() -> None:
    weight, upper, mask = problem(300, 128, 0)
    exact = weight.double()
    reference.obs_block(exact, upper.double(), mask, None, None)
    mine = weight.cuda()
    assert kernel_for(mine, None) == "triton"
    obs_block(mine, upper.cuda(), mask.cuda())
    torch.testing.assert_close(mine.cpu().double(), exact, rtol=1e-4, atol=1e-4)
