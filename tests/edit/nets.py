"""Small models that edits are tried on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gossamer.core import Keep, Pattern, Site, rows, select, sites
from gossamer.edit import Project


class Expert(nn.Module):
    """Two stacked matrices, as transformers keeps its experts."""

    def __init__(self, width: int = 8, experts: int = 3) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(experts, 2 * width, width) / 3)
        self.down_proj = nn.Parameter(torch.randn(experts, width, width) / 3)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = torch.einsum("bi,eoi->ebo", x, self.gate_up_proj).chunk(2, -1)
        return torch.einsum("ebi,eoi->bo", gate.sigmoid() * up, self.down_proj)


class Net(nn.Module):
    """Linear, transformers' Conv1D where it is installed, and experts."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        try:
            from transformers.pytorch_utils import Conv1D
            middle: nn.Module = Conv1D(width, width)
        except ImportError:
            middle = nn.Linear(width, width)
        self.up = nn.Linear(width, width)
        self.middle = middle
        self.experts = Expert(width)
        self.down = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x).relu()
        return self.down(self.experts(self.middle(x).relu()))


def projects(
    found: list[Site], density: float = 0.5, pattern: Pattern | None = None
) -> list[Project]:
    """Magnitude pruning of every site."""
    return [
        Project(site, select(site.view().abs(), pattern or rows(), Keep.fraction(density)))
        for site in found
    ]


def all_projects(model: nn.Module, density: float = 0.5) -> list[Project]:
    """Magnitude pruning of every site of a model."""
    return projects(sites(model), density)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    """Regress a fixed random target."""
    x, y = torch.randn(32, 8), torch.randn(32, 3)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()


def hook_count(model: nn.Module) -> int:
    """Hooks of every kind on every module and parameter."""
    tables = [name for name in vars(nn.Module()) if name.endswith("_hooks")]
    modules = sum(len(getattr(m, name)) for m in model.modules() for name in tables)
    return modules + sum(len(p._backward_hooks or ()) for p in model.parameters())
