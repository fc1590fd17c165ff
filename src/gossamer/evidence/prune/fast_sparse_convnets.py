"""Fast Sparse ConvNets: sparse 1x1 layers are quicker, and wide sparse nets as good as narrow ones.

Measured are the packed layer against torch's dense ones on shapes of MobileNets, and, on digits,
a MobileNet with pruned 1x1 layers against a dense one with as many multiply-accumulates in these.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.evidence.convolutions import layer_times, worst_error
from gossamer.evidence.digits import handwritten
from gossamer.evidence.language import Verdicts
from gossamer.evidence.record import Evidence, Scale
from gossamer.measure import operations
from gossamer.models.mobilenet import SMALL, MobileNet, fold_batchnorm
from gossamer.ops.conv import RELU6
from gossamer.prune import FastSparseConvNets

NARROW, WIDE, SIDE, TRAINED = 0.25, 0.5, 16, 1000
STEPS: dict[Scale, int] = {"quick": 300, "full": 1000}
RUNS: dict[Scale, int] = {"quick": 2, "full": 5}


def run(seed: int, device: str, scale: Scale = "quick", data: Path | None = None) -> Evidence:
    """Exactness, times, and accuracy at equal multiply-accumulates."""
    started, verdicts = time.perf_counter(), Verdicts()
    error = worst_error(seed)
    verdicts.at_most("error of packed layers against float64", error, 1e-5)
    figures: dict[str, Any] = {"error": error, "layers, one thread": times(seed, verdicts)}
    figures["digits"] = accuracy(seed, scale, verdicts)
    return Evidence(
        claim="With 90 % of its weights pruned a 1x1 convolution takes at most two thirds of "
              "torch's dense time on one CPU thread, and four rows that share columns take less "
              "again; a wide net whose pruned 1x1 layers keep as many multiply-accumulates as a "
              "narrow dense one's is at least as accurate.",
        figures=figures, holds=verdicts.holds, because=verdicts.because,
        baseline="the fastest of torch's dense convolution in two memory formats and its matrix "
                 "product; a dense net of half the width",
        seconds=time.perf_counter() - started,
    )


def times(seed: int, verdicts: Verdicts) -> dict[str, Any]:
    """Geometric means over the shapes, and every time."""
    found = layer_times(seed)
    dense = {name: min(t for what, t in row.items() if what.startswith("dense"))
             for name, row in found.items()}

    def ratio(what: str) -> float:
        return statistics.geometric_mean([dense[name] / row[what] for name, row in found.items()])

    blocks = statistics.geometric_mean([
        row["90% pruned, 1 rows"] / row["90% pruned, 4 rows"] for name, row in found.items()
        if int(name.rpartition(">")[2]) >= 64])
    figures = {f"times as quick as dense, {what}": round(ratio(what), 2)
               for what in next(iter(found.values())) if "pruned" in what}
    verdicts.at_least("dense time over that at 90 %", ratio("90% pruned, 1 rows"), 1.5)
    verdicts.at_least("dense time over that at 80 %", ratio("80% pruned, 1 rows"), 1.0)
    verdicts.at_least("one row's time over four rows', 90 %", blocks, 1.2)
    # A tenth of the operations at this ratio is this share of the dense rate.
    verdicts.at_least("rate of kept weights over the dense rate", ratio("90% pruned, 1 rows") / 10,
                      0.3)
    return {**figures, "four rows over one": round(blocks, 2), "microseconds": found}


def accuracy(seed: int, scale: Scale, verdicts: Verdicts) -> dict[str, Any]:
    """Mean accuracies over several trainings, and the share that makes the work equal."""
    share = equal_share()
    right: dict[str, list[float]] = {"wide sparse": [], "narrow dense": [], "wide dense": []}
    milliseconds: dict[str, float] = {}
    for one in range(RUNS[scale]):
        data = digits(97 * seed + one)
        for name, width in (("wide sparse", WIDE), ("narrow dense", NARROW), ("wide dense", WIDE)):
            system = FastSparseConvNets(sparsity=share, steps=STEPS[scale], seed=one)
            model = trained(width, 97 * seed + one, data, system, name == "wide sparse")
            right[name].append(score(model, data))
            milliseconds[name] = latency(model, data[0][:1], system if "sparse" in name else None)
    means = {name: 100 * statistics.mean(values) for name, values in right.items()}
    verdicts.at_least("accuracy of wide sparse less that of narrow dense, points",
                      means["wide sparse"] - means["narrow dense"], 0)
    return {
        "accuracy, %": {name: round(value, 2) for name, value in means.items()},
        "pruned share of 1x1 layers": round(share, 3), "trainings": RUNS[scale],
        "multiply-accumulates of an image": {
            "narrow dense": work(NARROW)[0],
            "wide sparse": work(WIDE)[0] - work(WIDE)[1] + work(NARROW)[1],
            "of these in 1x1 layers, both": work(NARROW)[1],
        },
        "milliseconds of an image, one thread": milliseconds,
    }


def digits(seed: int) -> tuple[Tensor, Tensor]:
    """All digits, enlarged to ``[n, 1, 16, 16]``, and labels, in an order of the seed's."""
    images, labels = handwritten()
    images = nn.functional.interpolate(images.view(-1, 1, 8, 8), size=SIDE, mode="bilinear")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images[order], labels[order]


def work(width: float) -> tuple[int, int]:
    """Multiply-accumulates of an image: all, and those of 1x1 layers."""
    net = MobileNet(10, width, SMALL, channels=1, stride=1)
    ops = operations(net, inputs=torch.zeros(1, 1, SIDE, SIDE)).ops
    return sum(op.macs for op in ops), sum(op.macs for op in ops if "pointwise" in op.name)


def equal_share() -> float:
    """What to prune of the wide net's 1x1 layers so that they work as much as the narrow one's."""
    return 1 - work(NARROW)[1] / work(WIDE)[1]


def trained(
    width: float, seed: int, data: tuple[Tensor, Tensor], system: FastSparseConvNets, sparse: bool
) -> MobileNet:
    """A net trained with the system, or in the same way without pruning."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = MobileNet(10, width, SMALL, channels=1, stride=1)
    some = (data[0][:TRAINED], data[1][:TRAINED])
    if sparse:
        system.run(net, some)
    else:
        system.train(net, some)
    return net


@torch.no_grad()
def score(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """Share of the held-out digits that are named rightly."""
    model.eval()
    return float((model(data[0][TRAINED:]).argmax(1) == data[1][TRAINED:]).float().mean())


@torch.no_grad()
def latency(model: MobileNet, x: Tensor, system: FastSparseConvNets | None) -> float:
    """Least milliseconds of one image on one thread, packed where a system is given."""
    fold_batchnorm(model)
    if system is not None:
        system.pack(model, RELU6)
    threads, least = torch.get_num_threads(), float("inf")
    torch.set_num_threads(1)
    for _ in range(20):
        begun = time.process_time()
        model(x)
        least = min(least, time.process_time() - begun)
    torch.set_num_threads(threads)
    return round(1e3 * least, 3)
