"""STen: any encoder runs in any layout, grouped N:M keeps nearly what N:M keeps, and it is faster.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import store
from gossamer.core import Keep, NeedsError, group_nm, nm, select, sites, unstructured
from gossamer.core.grouped import combinations
from gossamer.data import read_text
from gossamer.edit import Project, apply
from gossamer.evidence.language import Verdicts
from gossamer.evidence.record import Evidence, Scale
from gossamer.jobs import pack as pack_model
from gossamer.layout import Packed, pack, support_of
from gossamer.models import Loaded, load
from gossamer.ops import explain, linear
from gossamer.prune import Magnitude, STen

# layout -> the system that prunes for it
ENCODERS: dict[str, Callable[[], Any]] = {
    "csr": lambda: Magnitude(density=0.5), "nm": lambda: Magnitude(pattern="2:4"),
    "group_nm": lambda: STen(pattern="2:4:8"),
}
ENERGIES = ((2, 4, 4), (2, 4, 16), (1, 10, 4), (3, 6, 4))
# pattern -> least speed-up over torch's dense product, over torch's CSR
SPEEDS = {(1, 10, 4): (2.0, 1.5), (2, 4, 16): (1.1, 1.0)}
ROWS, COLS, BATCH, ROUNDS = 3072, 768, 512, 9
PROBLEMS = 64  # chunks whose best assignment is known


def run(seed: int, device: str, scale: Scale = "quick", data: Path | None = None) -> Evidence:
    """A real encoder in every layout; kept magnitude on planted problems; times on one thread."""
    started = time.perf_counter()
    verdicts = Verdicts()
    text = read_text("embedded:evaluation" if data is None else data)
    figures: dict[str, Any] = {"encoder": encoder(str(text), seed, verdicts)}
    figures["kept share of |W|"] = energy(seed, verdicts)
    figures["milliseconds"] = speed(seed, verdicts)
    return Evidence(
        claim="A real encoder computes in every layout what its masked dense form computes; "
              "grouped N:M keeps nearly as much magnitude as N:M; one product of it is quicker "
              "than dense and than CSR.",
        figures=figures, holds=verdicts.holds, because=verdicts.because,
        baseline="the masked dense model; exact assignment by scipy; torch's dense and CSR "
                 "products on one thread",
        seconds=time.perf_counter() - started,
    )


def encoder(text: str, seed: int, verdicts: Verdicts) -> dict[str, float]:
    """MiniLM on real sentences: packed against masked, saved and loaded, and trained a step."""
    loaded = load("minilm")
    batch = _sentences(loaded, text, seed)
    figures = {}
    for layout, system in ENCODERS.items():
        model = copy.deepcopy(loaded.model)
        supports = system().run(model).supports
        wanted = _states(model, batch)
        packed = copy.deepcopy(model)
        pack_model(packed, layout, supports=supports).bake()
        error = float((_states(packed, batch) - wanted).abs().max())
        figures[f"{layout}, greatest difference"] = error
        verdicts.at_most(f"{layout} against the masked dense encoder", error, 1e-4)
        with tempfile.TemporaryDirectory() as folder:
            store.save(packed, Path(folder) / "model", layout=layout)
            again = store.load(Path(folder) / "model")
            same = torch.equal(_states(again, batch), _states(copy.deepcopy(packed), batch))
        verdicts.true(f"{layout}: a saved and a copied model compute the same bits", same)
    verdicts.true("a training step revives no pruned weight", _trains(loaded.model, batch))
    return figures


def _sentences(loaded: Loaded, text: str, seed: int) -> dict[str, Tensor]:
    """Eight runs of words from the text, padded to one length."""
    if loaded.tokenizer is None:
        raise NeedsError("The encoder came without its tokenizer; remove it from the cache.")
    words = text.split()
    starts = torch.randint(0, len(words) - 60, (8,),
                           generator=torch.Generator().manual_seed(seed)).tolist()
    parts = [" ".join(words[at : at + 20 + 5 * i]) for i, at in enumerate(starts)]
    return dict(loaded.tokenizer(parts, padding=True, return_tensors="pt"))


def _states(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    with torch.inference_mode():
        states: Tensor = model(**batch).last_hidden_state
        return states


def _trains(model: nn.Module, batch: dict[str, Tensor]) -> bool:
    """A step of Adam on a projected encoder, and one on packed values, change kept weights only."""
    model = copy.deepcopy(model)
    edits = []
    for site in sites(model, "encoder.layer.0.*"):
        support = select(site.view().abs(), group_nm(2, 4, 8))
        edits.append(Project(site, support))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    handle = apply(model, edits, optimizer)
    before = [edit.site.view().clone() for edit in edits]
    loss: Tensor = model(**batch).last_hidden_state.square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    handle.check()
    moved = all(bool((edit.site.view() != old).any()) for edit, old in zip(edits, before))
    packed = pack(edits[0].site.view(), edits[0].support, "csr")
    values = packed.values.clone().requires_grad_()
    x = torch.randn(4, packed.shape[1])
    trained = Packed("csr", packed.shape, {**packed.parts, "values": values})
    linear(x, trained).square().sum().backward()  # type: ignore[no-untyped-call]
    gradient = values.grad
    return moved and gradient is not None and bool((gradient != 0).any()) and (
        support_of(trained) == support_of(packed))


def energy(seed: int, verdicts: Verdicts) -> dict[str, dict[str, float]]:
    """What each pattern keeps of Gaussian weights; single chunks, so that the best is known."""
    figures = {}
    for n, m, g in ENERGIES:
        torch.manual_seed(seed)
        height = len(combinations(n, m)) * g
        weight = torch.randn(height, PROBLEMS * m).abs()
        kept = {
            "unstructured": select(weight, unstructured(), Keep.fraction(n / m)),
            "N:M": select(weight, nm(n, m)), "grouped": select(weight, group_nm(n, m, g)),
        }
        total = float(weight.sum())
        found = {name: float(weight[support.mask()].sum()) / total
                 for name, support in kept.items()}
        best = [_best(weight[:, at : at + m], n, m, g) for at in range(0, weight.shape[1], m)]
        found["grouped, best"] = sum(best) / total
        name = f"{n}:{m}:{g}"
        figures[name] = {key: round(value, 4) for key, value in found.items()}
        verdicts.at_least(f"{name}: best grouping against N:M", found["grouped, best"],
                          0.96 * found["N:M"])
        verdicts.at_least(f"{name}: ours against the best grouping", found["grouped"],
                          0.98 * found["grouped, best"])
        verdicts.at_least(f"{name}: against chance", found["grouped"], n / m)
    verdicts.at_least("2:4:16 against 2:4:4", figures["2:4:16"]["grouped"],
                      figures["2:4:4"]["grouped"])
    return figures


def _best(weight: Tensor, n: int, m: int, g: int) -> float:
    """The greatest sum that any assignment of rows to patterns keeps."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise NeedsError(
            'The exact assignment needs scipy: pip install "gossamer[test]".') from error
    patterns = torch.zeros(len(combinations(n, m)), m)
    for row, places in enumerate(combinations(n, m)):
        patterns[row, list(places)] = 1
    worth = (weight @ patterns.t()).repeat_interleave(g, 1).double().numpy()
    row, slot = linear_sum_assignment(worth, maximize=True)
    return float(worth[row, slot].sum())


def speed(seed: int, verdicts: Verdicts) -> dict[str, dict[str, float | str]]:
    """One layer on one thread, 512 inputs, float32; least CPU time of rounds in turn."""
    torch.manual_seed(seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    figures: dict[str, dict[str, float | str]] = {}
    try:
        for (n, m, g), (over_dense, over_csr) in SPEEDS.items():
            weight = torch.randn(ROWS, COLS // m * m)
            x = torch.randn(BATCH, weight.shape[1])
            support = select(weight.abs(), group_nm(n, m, g))
            packed = pack(weight, support, "group_nm")
            found, said = _times(weight, support.apply(weight), x, packed)
            name = f"{n}:{m}:{g}"
            verdicts.at_least(f"{name}: speed against dense", found["dense"] / found["group_nm"],
                              over_dense)
            verdicts.at_least(f"{name}: speed against torch's CSR",
                              found["torch csr"] / found["group_nm"], over_csr)
            rounded = {key: round(1e3 * value, 2) for key, value in found.items()}
            figures[name] = {**rounded, "kernel": said}
    finally:
        torch.set_num_threads(threads)
    return figures


def _times(
    weight: Tensor, pruned: Tensor, x: Tensor, packed: Packed
) -> tuple[dict[str, float], str]:
    csr = pruned.to_sparse_csr()
    calls: dict[str, Callable[[], object]] = {
        "dense": lambda: x @ weight.t(), "torch csr": lambda: csr @ x.t(),
        "group_nm": lambda: linear(x, packed),
    }
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begun = time.process_time()
            call()
            least[name] = min(least[name], time.process_time() - begun)
    return least, explain(x, packed)
