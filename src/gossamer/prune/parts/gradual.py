"""Gradual pruning: masks that grow by a cubic schedule while a net trains.

Zhu, Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression",
2017, arXiv 1710.01878.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.core import ConfigError, DataError, Keep, Pattern, Site, Support, select
from gossamer.edit import Handle, Project, apply
from gossamer.observe import Progress, silent


@dataclass(frozen=True)
class Cubic:
    """Share of pruned weights by training step: ``s (1 - (1 - (t - t0) / (t1 - t0))^3)``.

    Args:
        final: s, the share from step ``end`` on.
        begin, end: t0 and t1; nothing is pruned before t0.
        every: steps between two changes of the masks.

    Raises:
        ConfigError: an end that is not after the beginning.

    >>> schedule = Cubic(0.8, 10, 30, 5)
    >>> [round(schedule.at(step), 3) for step in (0, 10, 20, 30, 99)]
    [0.0, 0.0, 0.7, 0.8, 0.8]
    >>> [step for step in range(99) if schedule.due(step)]
    [10, 15, 20, 25, 30]
    """

    final: float
    begin: int
    end: int
    every: int

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end or self.every < 1:
            raise ConfigError(
                f"A schedule must begin before it ends and change every step or less often, not "
                f"begin at {self.begin}, end at {self.end} and change every {self.every} steps."
            )

    def at(self, step: int) -> float:
        """The share at a step."""
        done = min(max((step - self.begin) / (self.end - self.begin), 0.0), 1.0)
        return self.final * (1 - (1 - done) ** 3)

    def due(self, step: int) -> bool:
        """True at the steps where masks change, the last of which is the end."""
        inside = self.begin <= step < self.end and (step - self.begin) % self.every == 0
        return inside or step == self.end


def prune_to(found: Sequence[Site], share: float, pattern: Pattern) -> dict[str, Support]:
    """The largest ``1 - share`` of every site's weights (or blocks, by their sum of sizes)."""
    keep = Keep.fraction(1 - share)
    return {site.name: select(site.view().abs(), pattern, keep) for site in found}


def renew(
    model: nn.Module, found: Sequence[Site], supports: dict[str, Support],
    optimizer: torch.optim.Optimizer, before: Handle | None,
) -> Handle:
    """Hold the sites to new supports from now on, in the place of the handle before."""
    if before is not None:
        before.bake()
    return apply(model, [Project(site, supports[site.name]) for site in found], optimizer)


@dataclass(frozen=True)
class Training:
    """How a net is trained: AdamW with a cosine rate on random batches.

    Args:
        steps: of training.
        batch: samples of a step.
        rate: greatest learning rate.
        seed: of the order of the samples.
        smoothing: of the labels.
    """

    steps: int
    batch: int
    rate: float
    seed: int = 0
    smoothing: float = 0.0


@dataclass(frozen=True)
class Pruning:
    """What is pruned while a net trains.

    Args:
        schedule: the share by step.
        found: the sites.
        choose: what they keep at a share, by site name.
    """

    schedule: Cubic
    found: Sequence[Site]
    choose: Callable[[float], dict[str, Support]]


def train(
    model: nn.Module, data: tuple[Tensor, Tensor], training: Training,
    pruning: Pruning | None = None, progress: Progress = silent,
) -> dict[str, Support]:
    """Train the model in place, pruned on the way where asked; what its sites keep.

    Raises:
        DataError: images and labels that do not belong together, or a loss that is not finite.
    """
    images, labels = labelled(data)
    optimizer = torch.optim.AdamW(model.parameters(), training.rate, weight_decay=1e-4)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    generator = torch.Generator().manual_seed(training.seed)
    supports, handle = dict[str, Support](), None
    was_training = model.training
    model.train()
    for step in range(training.steps):
        if pruning is not None and pruning.schedule.due(step):
            supports = pruning.choose(pruning.schedule.at(step))
            handle = renew(model, pruning.found, supports, optimizer, handle)
        some = torch.randint(0, len(images), (training.batch,), generator=generator)
        loss = nn.functional.cross_entropy(model(images[some]), labels[some],
                                           label_smoothing=training.smoothing)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(f"The loss is {value} at step {step}; lower rate, now "
                            f"{training.rate}.")
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        slower.step()
        progress(step + 1, training.steps, f"loss {value:.3f}")
    if handle is not None:
        handle.check()
        handle.bake()
    model.train(was_training)
    return supports


def labelled(data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Images and labels, checked."""
    images, labels = data
    if images.dim() != 4 or labels.shape != images.shape[:1] or len(images) == 0 or (
            labels.is_floating_point()):
        raise DataError(
            f"Training needs images [n, channels, height, width] and whole labels [n], not "
            f"{tuple(images.shape)} and {labels.dtype} of {tuple(labels.shape)}."
        )
    return images, labels
