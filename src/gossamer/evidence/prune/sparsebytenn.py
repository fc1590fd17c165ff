"""SparseByteNN: kernels pruned for groups of outputs are quicker from low sparsity on.

Measured are layers of MobileNets at 30 and 50 %, the search for an order of channels on trained
nets, accuracy on digits (and on CIFAR-10, where there is a folder of it), and the time model.
"""

from __future__ import annotations

import copy
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.evidence import cifar
from gossamer.evidence.convolutions import group_times
from gossamer.evidence.filters import without_filters
from gossamer.evidence.language import Verdicts, loaded
from gossamer.evidence.prune.fast_sparse_convnets import TRAINED, digits, score, trained
from gossamer.evidence.record import Evidence, Scale
from gossamer.prune import FastSparseConvNets, SparseByteNN
from gossamer.prune.parts.group_time import GroupTime, Measured, fit
from gossamer.prune.parts.kernel_groups import kernels, outputs, rearrange, share_retained
from gossamer.prune.parts.regroup import regroup, retained

LAYERS = ((784, 128, 128), (196, 256, 256), (196, 512, 512))
OTHERS = ((784, 256, 256), (3136, 128, 128))
WIDTH, GROUP, SHARE, RATE = 0.5, 8, 0.3, 3e-3
STEPS: dict[Scale, int] = {"quick": 300, "full": 1000}
RUNS: dict[Scale, int] = {"quick": 2, "full": 5}
_IMAGES: dict[Scale, int] = {"quick": 500, "full": 2000}
_BLOCKS: dict[Scale, tuple[int, ...]] = {"quick": (0, 15, 29), "full": tuple(range(0, 30, 3))}


def run(seed: int, device: str, scale: Scale = "quick", data: Path | None = None) -> Evidence:
    """Times, order of channels, accuracy and the time model."""
    started, verdicts = time.perf_counter(), Verdicts()
    times = group_times(seed, LAYERS + OTHERS, GROUP)
    figures: dict[str, Any] = {"layers, one thread": speed(times, verdicts),
                               "time model": predicted(times, verdicts)}
    figures["digits"] = on_digits(seed, scale, verdicts)
    figures["language model"] = on_language(seed, scale, verdicts)
    folder = cifar.folder_of(data)
    if folder is not None:
        figures["cifar10"] = on_cifar(seed, scale, folder, verdicts)
    return Evidence(
        claim="On one CPU thread layers whose groups of 8 outputs share their inputs are quicker "
              "than the same kernel without pruning at 30 and 50 %, where single pruned weights "
              "still lose; permuting channels first changes no output and retains more; a "
              "MobileNet that is 30 % sparse so is as accurate as the dense one but for a point; "
              "three numbers predict the times.",
        figures=figures, holds=verdicts.holds, because=verdicts.because,
        baseline="the same kernel with every weight, unstructured pruning, whole filters of as "
                 "many operations, the order of channels as trained, and the dense net trained as "
                 "long",
        seconds=time.perf_counter() - started,
    )


def speed(times: dict[str, dict[str, float]], verdicts: Verdicts) -> dict[str, Any]:
    """Each layer at 30 and 50 % against the same kernel at 0 %, and single weights at 30 %."""
    for name in (f"{p} {i}->{o}" for p, i, o in LAYERS):
        row = times[name]
        whole = row["groups, 0%"]
        verdicts.at_least(f"{name}: time at 0 % over that at 30 %", whole / row["groups, 30%"],
                          1.15)
        verdicts.at_least(f"{name}: time at 0 % over that at 50 %", whole / row["groups, 50%"], 1.5)
        verdicts.at_most(f"{name}: time at 0 % over that of single weights at 30 %",
                         whole / row["single weights, 30%"], 1.0)
    return {
        "microseconds": times,
        "times as quick as torch's fastest dense, geometric mean": {
            what: round(statistics.geometric_mean([dense(row) / row[what]
                                                   for row in times.values()]), 2)
            for what in next(iter(times.values())) if not what.startswith("dense")},
    }


def dense(row: dict[str, float]) -> float:
    """The fastest dense time of a layer."""
    return min(value for name, value in row.items() if name.startswith("dense"))


def predicted(times: dict[str, dict[str, float]], verdicts: Verdicts) -> dict[str, Any]:
    """The time model, fitted to a small layer and a large one and held against two others."""

    def measured(shapes: tuple[tuple[int, int, int], ...]) -> list[Measured]:
        rows = [times[f"{p} {i}->{o}"] for p, i, o in shapes]
        return [Measured(dense(row), percent / 100, row[f"groups, {percent}%"])
                for row in rows for percent in (30, 50, 70)]

    known, new = measured((LAYERS[0], LAYERS[2])), measured((LAYERS[1], OTHERS[0]))
    model: GroupTime = fit(known, GROUP)
    error = model.error(new)
    verdicts.at_most("median error of the time model over six layers and sparsities", error, 0.15)
    return {"alpha": round(model.alpha, 3), "beta": round(model.beta, 3),
            "break-even sparsity": round(model.even, 3), "median error": round(error, 4),
            "error where it was fitted": round(model.error(known), 4)}


def on_digits(seed: int, scale: Scale, verdicts: Verdicts) -> dict[str, Any]:
    """A MobileNet on digits: what orders retain, and accuracies."""
    right: dict[str, list[float]] = {}
    gains, changes = [], []
    for one in range(RUNS[scale]):
        number = 97 * seed + one
        data = digits(number)
        some = (data[0][:TRAINED], data[1][:TRAINED])
        training = FastSparseConvNets(steps=STEPS[scale], rate=RATE, seed=one)
        net = trained(WIDTH, number, data, training, False)
        orders = retained_by_order(net, some[0][:2], number)
        gains.append(orders)
        changes.append(orders["change"])
        for name, accuracy in accuracies(net, data, number, STEPS[scale]).items():
            right.setdefault(name, []).append(accuracy)
    means = {name: 100 * statistics.mean(values) for name, values in right.items()}
    kept = {name: statistics.mean(row[name] for row in gains) for name in gains[0]}
    verdicts.at_least("digits: share retained at 50 %, rearranged less as trained",
                      kept["rearranged"] - kept["as trained"], 0.01)
    verdicts.at_least("digits: rearranged less random order", kept["rearranged"] - kept["random"],
                      0)
    verdicts.at_most("digits: rearranged over single kernels", kept["rearranged"],
                     kept["single kernels"])
    verdicts.at_most("digits: greatest change of an output by permuting", max(changes), 1e-5)
    verdicts.at_least("digits: accuracy at 30 % less dense, trained as much further, points",
                      means["30 % of groups"] - means["dense, trained as much further"], -1.0)
    verdicts.at_least("digits: accuracy before training, groups less whole filters, points",
                      means["30 % of groups, not trained"] - means["whole filters, not trained"],
                      0)
    return {"accuracy, %": {name: round(value, 2) for name, value in means.items()},
            "share retained at 50 %": {name: round(value, 4) for name, value in kept.items()
                                       if name != "change"},
            "greatest change of an output": max(changes), "trainings": RUNS[scale]}


def retained_by_order(net: nn.Module, example: Tensor, seed: int) -> dict[str, float]:
    """Shares of the score that groups of 8 retain at 50 %, by the order of channels."""
    found = kernels(net)
    scores = [layer.score().double() for layer in found]
    total = sum(float(score.sum()) for score in scores)
    generator = torch.Generator().manual_seed(seed)
    random = [
        sum(retained([score[torch.randperm(len(score), generator=generator)]], [layer.kept(0.5)],
                     GROUP) for score, layer in zip(scores, found)) / total for _ in range(5)]
    bound = sum(float(score.flatten().topk(len(score) * layer.kept(0.5)).values.sum())
                for score, layer in zip(scores, found)) / total
    moved = copy.deepcopy(net)
    report = rearrange(moved, example, kernels(moved), 0.5, GROUP, seed)
    change = float((outputs(moved, example) - outputs(net, example)).abs().max())
    return {"as trained": share_retained(found, 0.5, GROUP), "random": statistics.mean(random),
            "rearranged": report["after"], "single kernels": bound, "change": change}


def accuracies(
    net: nn.Module, data: tuple[Tensor, Tensor], seed: int, steps: int
) -> dict[str, float]:
    """Of the dense net, and pruned in several ways, on the held-out digits."""
    some = (data[0][:TRAINED], data[1][:TRAINED])
    ways = {
        "dense, trained as much further": SparseByteNN(
            sparsity=0.0, rearrange=False, steps=steps, rate=RATE, seed=seed),
        "30 % of groups": SparseByteNN(sparsity=SHARE, steps=steps, rate=RATE, seed=seed),
        "30 % of groups, not trained": SparseByteNN(sparsity=SHARE, steps=0, seed=seed),
        "30 % of groups, not trained, order as trained": SparseByteNN(
            sparsity=SHARE, steps=0, rearrange=False),
    }
    found = {"dense": score(net, data)}
    for name, system in ways.items():
        pruned = copy.deepcopy(net)
        system.run(pruned, some)
        found[name] = score(pruned, data)
    cut = without_filters(copy.deepcopy(net), some[0][:2], kernels(net), SHARE)
    return found | {"whole filters, not trained": score(cut, data)}


def on_language(seed: int, scale: Scale, verdicts: Verdicts) -> dict[str, Any]:
    """Down projections of a language model, their rows regrouped as matrices by themselves."""
    found: dict[str, list[float]] = {"as trained": [], "random": [], "rearranged": []}
    model = loaded("smollm2").model
    weights = dict(model.named_parameters())
    for block in _BLOCKS[scale]:
        size = weights[f"model.layers.{block}.mlp.down_proj.weight"].detach().abs().double()
        kept, total = [size.shape[1] // 2], float(size.sum())
        order = torch.randperm(len(size), generator=torch.Generator().manual_seed(seed))
        best = regroup([size], kept, GROUP, seed, sweeps=30)
        for name, rows in (("as trained", size), ("random", size[order]),
                           ("rearranged", size[best])):
            found[name].append(retained([rows], kept, GROUP) / total)
    means = {name: statistics.mean(values) for name, values in found.items()}
    verdicts.at_least("language model: share retained at 50 %, rearranged less as trained",
                      means["rearranged"] - means["as trained"], 0.01)
    verdicts.at_least("language model: rearranged less random order",
                      means["rearranged"] - means["random"], 0)
    return {"blocks": list(_BLOCKS[scale]), "share retained at 50 %": {
        name: round(value, 4) for name, value in means.items()}}


def on_cifar(seed: int, scale: Scale, folder: Path, verdicts: Verdicts) -> dict[str, Any]:
    """A trained ResNet-20: what orders retain; its accuracies, which are no part of the claim."""
    net, (images, labels) = cifar.trained(folder), cifar.images(folder, "test")
    held_out = (images[: _IMAGES[scale]], labels[: _IMAGES[scale]])
    sample = cifar.images(folder, "train")
    orders = retained_by_order(net, sample[0][:2], seed)
    verdicts.at_least("cifar10: share retained at 50 %, rearranged less as trained",
                      orders["rearranged"] - orders["as trained"], 0.0)
    verdicts.at_most("cifar10: greatest change of an output by permuting", orders["change"], 1e-4)
    once = copy.deepcopy(net)
    SparseByteNN(sparsity=SHARE, steps=0, seed=seed).run(once, sample)
    cut = without_filters(copy.deepcopy(net), sample[0][:2], kernels(net), SHARE)
    found = {"dense": accuracy(net, held_out), "30 % of groups, not trained": accuracy(
        once, held_out), "whole filters, not trained": accuracy(cut, held_out)}
    if scale == "full":
        SparseByteNN(sparsity=SHARE, steps=STEPS[scale], seed=seed).run(net, sample)
        found["30 % of groups"] = accuracy(net, held_out)
    return {"accuracy, %": found, "share retained at 50 %": orders}


@torch.no_grad()
def accuracy(net: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """Percent of the images that are named rightly."""
    net.eval()
    right = torch.cat([net(some).argmax(1) for some in torch.split(data[0], 250)]) == data[1]
    return round(100 * float(right.float().mean()), 2)
