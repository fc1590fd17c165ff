"""Wide and sparse against narrow and dense: digits, at equal predicted throughput on the chip."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core import NeedsError, nm, select, sites
from gossamer.edit import Handle, Project, apply
from gossamer.measure import operations
from gossamer.measure.hardware import Prediction, predict

PIXELS, CLASSES, WIDE, RATE = 64, 10, 128, 8
BATCH = 4096  # so many samples that arithmetic bounds, not the bytes of the weights
_STEPS, _TRAINED = 400, 1000
# Share of the steps after which so many of every 32 weights are kept.
_STAGES = ((0.2, 16), (0.35, 8), (0.5, 32 // RATE))


def trade_off(seed: int, runs: int) -> dict[str, Any]:
    """Mean accuracies over several trainings, and the widths that were compared.

    The narrow net is the widest that is predicted to be no slower than the wide sparse one,
    and one neuron wider in each layer, so that the comparison favours it.
    """
    images, labels = handwritten()
    sparse = _predicted(WIDE, 1 / RATE)
    width = 8
    while _predicted(width, 1.0).throughput > sparse.throughput:
        width += 1
    accuracies: dict[str, list[float]] = {"wide sparse": [], "narrow dense": [], "wide dense": []}
    for run in range(runs):
        one = 1000 * seed + run
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(one))
        data = (images[order], labels[order])
        accuracies["wide sparse"].append(_train(WIDE, one, data, True))
        accuracies["narrow dense"].append(_train(width, one, data, False))
        accuracies["wide dense"].append(_train(WIDE, one, data, False))
    found: dict[str, Any] = {
        f"{name}, %": round(100 * sum(values) / runs, 3) for name, values in accuracies.items()}
    return found | {
        "trainings": runs, "wide width": WIDE, "narrow width": width, "R": RATE,
        "predicted throughput, wide over narrow": sparse.over(_predicted(width, 1.0)),
    }


def _predicted(width: int, density: float) -> Prediction:
    work = operations(_net(width), inputs=torch.zeros(1, PIXELS))
    return predict(work, "s4", density, None, BATCH)


def _net(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(PIXELS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                         nn.Linear(width, CLASSES))


def handwritten() -> tuple[Tensor, Tensor]:
    """1,797 handwritten digits of 8x8 pixels, in 0..1."""
    if importlib.util.find_spec("sklearn") is None:
        raise NeedsError("The digits come with scikit-learn: pip install scikit-learn.")
    from sklearn.datasets import load_digits
    found = load_digits()
    return torch.tensor(found.data, dtype=torch.float32) / 16, torch.tensor(found.target)


def _train(width: int, seed: int, data: tuple[Tensor, Tensor], sparse: bool) -> float:
    """Accuracy on held-out digits after training, with gradual pruning where asked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _net(width)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3, weight_decay=1e-5)
    stages = {int(share * _STEPS): kept for share, kept in _STAGES} if sparse else {}
    (images, labels), handle = data, None
    for step in range(_STEPS):
        if step in stages:
            handle = _prune(net, optimizer, stages[step], handle)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images[:_TRAINED]), labels[:_TRAINED])
        torch.autograd.backward(loss)
        optimizer.step()
    if handle is not None:
        handle.check()
    with torch.no_grad():
        right = net(images[_TRAINED:]).argmax(-1) == labels[_TRAINED:]
    return float(right.float().mean())


def _prune(net: nn.Module, optimizer: torch.optim.Optimizer, kept: int,
           before: Handle | None) -> Handle:
    """Keep the largest of every 32 inputs, and hold the others at zero from now on."""
    if before is not None:
        before.bake()
    return apply(net, [Project(site, select(site.view().abs(), nm(kept, 32)))
                       for site in sites(net)], optimizer)
