"""Made-up records of a plausible frontier, for tests of the page."""

from __future__ import annotations

import random

from gossamer.jobs.page import Report
from gossamer.jobs.record import Layer, Record
from gossamer.measure import Point

ENV = {
    "cpu": "Example CPU 3000", "cores": 2, "threads": 2, "instructions": ["avx2", "fma"],
    "memory_bytes": 24 << 30, "gpu": None, "torch_capability": "AVX2", "system": "Linux x86_64",
    "python": "3.11.2", "versions": {"torch": "2.13.0"}, "date": "2026-01-02T03:04:05+00:00",
    "session": "made", "load": 0.3,
}
TITLES = {"magnitude": "magnitude", "wanda": "Wanda", "sparsegpt": "SparseGPT"}
FIGURES = {  # perplexity, bytes, milliseconds a token
    ("magnitude", "50%"): (379.0, 176e6, 31.0), ("wanda", "50%"): (50.3, 176e6, 31.5),
    ("sparsegpt", "50%"): (44.7, 176e6, 31.2), ("magnitude", "2:4"): (2233.0, 176e6, 33.0),
    ("wanda", "2:4"): (131.0, 176e6, 33.5), ("sparsegpt", "2:4"): (68.5, 176e6, 33.2),
    ("magnitude", "70%"): (9800.0, 133e6, 25.0), ("wanda", "70%"): (412.0, 133e6, 25.2),
    ("sparsegpt", "70%"): (151.0, 133e6, 24.9),
}
EVIL = '</script><img src=x onerror="alert(1)"> & "quotes" <b>bold</b>'


def point(system: dict[str, object], perplexity: float, size: float, ms: float) -> Point:
    """A point whose nine repeats scatter by one per cent."""
    rng = random.Random(f"{system['id']}")
    return Point(
        system, {"perplexity": perplexity},
        {"disk_bytes": size, "memory_bytes": size * 1.02, "macs_per_token": 1e8,
         "seconds_per_token": tuple(ms / 1e3 * (1 + rng.gauss(0, 0.01)) for _ in range(9)),
         "prefill_seconds": tuple(ms / 100 * (1 + rng.gauss(0, 0.02)) for _ in range(9))},
        ENV, ("avx2 kernel for bitmask bfloat16",), 0, {"decoded by": "gossamer's Decoder"})


def dense(id: str, label: str, size: float, ms: float) -> Record:
    """A dense baseline."""
    system = {"id": id, "label": label, "title": label, "system": "dense", "target": "",
              "density": 1.0}
    return Record(point(system, 27.6, size, ms), sample="a harbour with many boats.",
                  baseline=True)


def pruned(system: str, target: str) -> Record:
    """A pruned record with thirty layers of seven matrices."""
    perplexity, size, ms = FIGURES[system, target]
    density = 0.3 if target == "70%" else 0.5
    about = {"id": f"{system}-{target}", "label": f"{TITLES[system]} {target}", "system": system,
             "title": TITLES[system], "target": target, "density": density}
    rng = random.Random(perplexity)
    kinds = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    errors = {(i, kind): rng.uniform(0.02, 0.1) * (1 + i / 8) * perplexity**0.3
              for i in range(30) for kind in kinds}
    layers = tuple(
        Layer(f"model.layers.{i}.{kind}.weight", density,
              None if system == "magnitude" else error, 0.1 * error)
        for (i, kind), error in errors.items())
    return Record(point(about, perplexity, size, ms), layers, sample=EVIL)


def report() -> Report:
    """Three dense baselines and nine pruned points."""
    records = (
        dense("dense-fp32", "dense fp32", 538e6, 66.0),
        dense("dense-bf16", "dense bf16", 269e6, 47.0),
        dense("dense-bf16-gossamer", "dense bf16, gossamer", 269e6, 41.0),
        *(pruned(system, target) for system, target in FIGURES),
    )
    return Report(
        "SmolLM2-135M-Instruct", records, ENV,
        {"calibration": "embedded text, 4 sequences of 512 tokens, seed 0"},
        "gossamer frontier smollm2 --budget 5", "The harbour was quiet, and", ("A note.",))
