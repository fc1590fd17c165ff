"""The cost of a sparse search is sum_j p_j^2, and training on it spreads activity evenly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gossamer.evidence.digits import handwritten
from gossamer.evidence.language import Verdicts
from gossamer.evidence.record import Evidence, Scale
from gossamer.layout.rows import Rows, as_rows
from gossamer.ops.documentwise import DocumentSearcher
from gossamer.retrieval.parts.flops import Activity, activity, arc_face, flops_loss, l1_loss
from gossamer.retrieval.systems import FlopsSparseEmbeddings

_DIMENSIONS, _TRAINED, _DATABASE, _BATCH = 256, 900, 600, 128
_FLOPS, _L1 = (0.3, 1.0, 3.0, 10.0, 30.0), (0.1, 0.3)


def run(seed: int, device: str, scale: Scale = "quick", data: Path | None = None) -> Evidence:
    """Counts on drawn supports, digits with both regularisers, and times of a search."""
    started = time.perf_counter()
    verdicts = Verdicts()
    figures: dict[str, Any] = {"seed": seed, "theory": _theory(seed, verdicts)}
    steps = 700 if scale == "quick" else 2500
    nets = _digits(seed, steps, verdicts, figures)
    figures["search of synthetic rows"] = _speed(
        seed, 50_000 if scale == "quick" else 100_000, nets, verdicts)
    return Evidence(
        claim="A search multiplies n sum_j p_j^2 times; training on a smooth form of that sum "
              "keeps activity even and recall, where L1 leaves few busy dimensions; the time of "
              "a search follows it.",
        figures=figures, holds=verdicts.holds, because=verdicts.because,
        baseline="dense embeddings of the same net, and L1 in the place of the regulariser",
        seconds=time.perf_counter() - started,
    )


def _drawn(rng: np.random.Generator, shares: NDArray[np.float64], count: int) -> Rows:
    """Rows whose dimensions are active independently with these probabilities."""
    active = rng.random((count, len(shares))) < shares
    row_of, terms = np.nonzero(active)
    starts = np.searchsorted(row_of, np.arange(count + 1))
    return as_rows((starts, terms, rng.random(len(terms)) + 0.5), len(shares))


def _products(documents: Rows, queries: Rows) -> float:
    """Products that a search through the lists carries out, a query and document."""
    found = DocumentSearcher([documents]).search(queries, 1, engine="scan")
    return float(found.postings.mean()) / documents.count


def _theory(seed: int, verdicts: Verdicts) -> dict[str, float]:
    """Measured products against sum p^2, for even and for Zipf activity of the same sum."""
    rng = np.random.default_rng(seed)
    size, total = 512, 32.0
    zipf = 1 / np.arange(1, size + 1)
    while zipf.max() > 0.9 or abs(zipf.sum() - total) > 1e-6:
        zipf = np.minimum(zipf * total / zipf.sum(), 0.9)
    found = {}
    for name, shares in (("even", np.full(size, total / size)), ("Zipf", zipf)):
        measured = _products(_drawn(rng, shares, 20_000), _drawn(rng, shares, 500))
        expected = float((shares**2).sum())
        found[name] = measured
        verdicts.at_most(f"{name}, products against sum p^2, relative error",
                         abs(measured / expected - 1), 0.05)
    verdicts.at_most("even, products against s^2 / D, relative error",
                     abs(found["even"] / (total**2 / size) - 1), 0.05)
    verdicts.at_least("Zipf over even", found["Zipf"] / found["even"], 3.0)
    return {f"{name}, products a document": round(value, 3) for name, value in found.items()}


@dataclass(frozen=True)
class _Net:
    """What one training gave."""

    strength: float
    recall: float
    embeddings: Rows
    activity: Activity


def _digits(
    seed: int, steps: int, verdicts: Verdicts, figures: dict[str, Any],
) -> Sequence[_Net]:
    """Nearest neighbours of held-out digits under both regularisers."""
    images, labels = handwritten()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    split = (images[order], labels[order])
    dense = _train(seed, steps, split, 0.0, None)
    even = [_train(seed, steps, split, strength, flops_loss) for strength in _FLOPS]
    bunched = [_train(seed, steps, split, strength, l1_loss) for strength in _L1]
    figures["digits"] = {"dense, recall@1": round(dense.recall, 4), **{
        f"{name} {net.strength}": {
            "recall@1": round(net.recall, 4), "nnz": round(net.activity.nnz, 2),
            "sum p^2": round(net.activity.flops, 3), "evenness": round(net.activity.evenness, 2)}
        for name, nets in (("regulariser", even), ("L1", bunched)) for net in nets}}
    for net in even[1:4]:
        verdicts.at_most(f"evenness at strength {net.strength}", net.activity.evenness, 1.5)
    for net in (*even[1:4], bunched[0]):
        verdicts.at_least(f"recall@1 at strength {net.strength} against dense - 0.03",
                          net.recall, dense.recall - 0.03)
    like = min(even, key=lambda net: abs(net.activity.nnz - bunched[0].activity.nnz))
    verdicts.at_least(f"evenness of L1 ({bunched[0].activity.nnz:.1f} active) over the "
                      f"regulariser's ({like.activity.nnz:.1f} active)",
                      bunched[0].activity.evenness / like.activity.evenness, 2.0)
    return even


def _train(seed: int, steps: int, split: tuple[Tensor, Tensor], strength: float,
           regulariser: Any) -> _Net:
    """A net of three layers with a sparse head; without a regulariser its embeddings are dense."""
    system = FlopsSparseEmbeddings(
        dimensions=_DIMENSIONS, strength=strength, warm_up=max(1, steps // 2), scale=16.0,
        margin=0.2, threshold=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = system.head(256) if regulariser else nn.Linear(256, _DIMENSIONS)
        net = nn.Sequential(nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU(),
                            nn.Linear(256, 256), nn.BatchNorm1d(256), nn.ReLU(), head)
        classes = nn.Parameter(torch.randn(10, _DIMENSIONS))
    optimizer = torch.optim.Adam([*net.parameters(), classes], 1e-3)
    generator = torch.Generator().manual_seed(seed)
    images, labels = split
    for step in range(steps):
        batch = torch.randint(0, _TRAINED, (_BATCH,), generator=generator)
        embeddings = nn.functional.normalize(net(images[batch]), eps=1e-12)
        if regulariser is flops_loss:
            loss = system.loss(embeddings, classes, labels[batch], step)
        else:
            loss = arc_face(embeddings, classes, labels[batch], system.scale, system.margin)
        if regulariser is l1_loss:
            loss = loss + strength * min(1.0, (step / system.warm_up) ** 2) * l1_loss(embeddings)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        found = nn.functional.normalize(net.eval()(images[_TRAINED:]), eps=1e-12)
    return _judged(system, strength, found, labels[_TRAINED:], bool(regulariser))


def _judged(system: FlopsSparseEmbeddings, strength: float, found: Tensor, labels: Tensor,
            sparse: bool) -> _Net:
    """Recall of the nearest neighbour in the database, through the index where it is sparse."""
    database, queries = found[:_DATABASE], found[_DATABASE:]
    if sparse:
        kept = database.abs().sum(1) > 0
        index = system.index(database[kept])
        ids, _ = index.search(queries, 1)
        near = torch.from_numpy(ids[:, 0])
        right = (labels[:_DATABASE][kept][near] == labels[_DATABASE:]) & (near >= 0)
    else:
        near = (queries @ database.t()).argmax(1)
        right = labels[:_DATABASE][near] == labels[_DATABASE:]
    rows = as_rows(found.clamp(min=0))
    return _Net(strength, float(right.float().mean()), rows, activity(rows))


def _speed(seed: int, count: int, nets: Sequence[_Net], verdicts: Verdicts) -> dict[str, Any]:
    """CPU time of a search of many rows with each net's activity, against sum p^2."""
    rng = np.random.default_rng([seed, 2])
    cost, seconds = [], []
    for net in nets:
        shares = np.bincount(net.embeddings.terms, minlength=_DIMENSIONS) / net.embeddings.count
        rng.shuffle(shares)
        searcher = DocumentSearcher([_drawn(rng, shares, count)])
        queries = _drawn(rng, shares, 200)
        least = float("inf")
        for _ in range(4):
            start = time.process_time()
            searcher.search(queries, 10, engine="scan")
            least = min(least, time.process_time() - start)
        cost.append(float((shares**2).sum()))
        seconds.append(least / queries.count)
    ranks = np.argsort(np.argsort(cost)), np.argsort(np.argsort(seconds))
    spearman = float(np.corrcoef(*ranks)[0, 1])
    verdicts.at_least("rank correlation of time and sum p^2", spearman, 0.9)
    return {"rows": count, "sum p^2": [round(c, 3) for c in cost],
            "microseconds a query": [round(1e6 * s, 1) for s in seconds],
            "rank correlation": round(spearman, 3)}
