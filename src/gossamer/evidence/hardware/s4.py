"""S4: the roofline follows the arithmetic, its layout is exact, and n:32 pays on this machine.

The chip itself is not at hand: its times are outputs of a model. Measured are the layout, a
packed product of the same pattern on this CPU, and the accuracy of a wide sparse net against a
narrow dense one of equal predicted throughput.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from gossamer.core import nm, select
from gossamer.evidence.digits import trade_off
from gossamer.evidence.language import Verdicts
from gossamer.evidence.products import Times, quickest, time_products
from gossamer.evidence.record import Evidence, Scale
from gossamer.layout import pack, unpack
from gossamer.measure import Work, operations
from gossamer.measure.hardware import bits_a_weight, by_rate, load_balance, overtaking_rate
from gossamer.ops import linear

TOKENS = 128
BERTS = {"BERT-base": (768, 12), "BERT-large": (1024, 24)}  # width, layers
LARGEST = 4096


def run(seed: int, device: str, scale: Scale = "quick", data: Path | None = None) -> Evidence:
    """Known networks on the model, then layout, product and accuracy measured on this CPU."""
    started = time.perf_counter()
    verdicts = Verdicts()
    figures: dict[str, Any] = {"model output": rooflines(verdicts)}
    figures["layout"] = exactness(seed, verdicts)
    figures["measured on this CPU, one thread"] = products(seed, verdicts)
    figures["digits"] = accuracy(seed, scale, verdicts)
    return Evidence(
        claim="Skipping weights n:32 speeds up what has weights nearly R times and nothing else; "
              "the pattern packs without loss and pays in measured time on a CPU; at equal "
              "predicted throughput a wide sparse net is as accurate as a narrow dense one, to 0.3 "
              "points.",
        figures=figures, holds=verdicts.holds, because=verdicts.because,
        baseline="multiply-accumulates counted by hand; torch's dense float32 product; a dense "
                 "net of equal predicted throughput",
        seconds=time.perf_counter() - started,
    )


def rooflines(verdicts: Verdicts) -> dict[str, Any]:
    """Speed-ups of BERT and ResNet-50 over the sparsity rate; compute-bound batches, int8."""
    figures: dict[str, Any] = {}
    works = {name: _bert(width, depth) for name, (width, depth) in BERTS.items()}
    for name, (width, depth) in BERTS.items():
        counts = (("weights", works[name].macs("linear"), 12 * width**2 * depth),
                  ("attention", works[name].macs("attention"), 2 * TOKENS * width * depth))
        for what, macs, wanted in counts:
            figures[f"{name} {what}, MMAC a token"] = round(macs / TOKENS / 1e6, 2)
            verdicts.at_most(f"{name} {what} against the closed form",
                             abs(macs / TOKENS / wanted - 1), 0.01)
    works["ResNet-50"] = _resnet()
    images = works["ResNet-50"].macs() / 1e9
    figures["ResNet-50, GMAC an image"] = round(images, 3)
    verdicts.at_most("ResNet-50 against 4.1 GMAC", abs(images / 4.1 - 1), 0.01)
    speeds = {name: {rate: found.speedup for rate, found in
                     by_rate(work, "s4", 64, dtype="int8").items()} for name, work in works.items()}
    for name, found in speeds.items():
        verdicts.true(f"speed-up of {name} grows with R and stays below it",
                      list(found.values()) == sorted(found.values())
                      and all(speed <= rate + 1e-9 for rate, speed in found.items()))
    verdicts.at_least("ResNet-50 at R = 8, first layer dense", speeds["ResNet-50"][8], 6)
    large = speeds["BERT-large"]
    verdicts.true(f"BERT-large at R = 8: {large[8]:.2f} in [5, 7.1]", 5 <= large[8] <= 7.1)
    verdicts.at_most("BERT-large at R = 32, share of R", large[32] / 32, 0.65)
    rate = overtaking_rate(works["BERT-large"], works["BERT-base"], "s4", 64, dtype="int8")
    verdicts.true(f"sparse BERT-large overtakes dense BERT-base at R = {rate}", rate in (4, 8))
    rounded = {name: {f"R = {r}": round(speed, 2) for r, speed in found.items()}
               for name, found in speeds.items()}
    return {**figures, "speed-up, batch 64, int8": rounded, "overtaking rate": rate}


def exactness(seed: int, verdicts: Verdicts) -> dict[str, float]:
    """Packing loses nothing, takes the bytes of the model, and multiplies like the dense matrix."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(512, 1024, generator=generator)
    x = torch.randn(3, 1024, generator=generator)
    support = select(weight.abs(), nm(2, 32))
    balance = load_balance(support)
    verdicts.true(f"load balance of n:32 is one (saw {balance:g})", balance == 1)
    figures = {"load balance": balance}
    pruned = support.apply(weight)
    for dtype, bits in ((torch.bfloat16, 16), (torch.float32, 32)):
        packed = pack(pruned, support, "nm", dtype)
        same = torch.equal(unpack(packed), pruned.to(dtype))
        verdicts.true(f"{dtype} comes back bit for bit", same)
        stored, said = packed.nbytes / weight.numel(), bits_a_weight(16, bits) / 8
        figures[f"bytes a weight, R = 16, {bits} bits"] = stored
        verdicts.true(f"{stored:g} bytes a weight of {bits} bits as predicted", stored == said)
    figures["predicted bytes a weight, R = 16, 8 bits"] = bits_a_weight(16, 8) / 8
    y, truth = linear(x, pack(pruned, support, "nm")).double(), x.double() @ pruned.double().t()
    error = float((y - truth).norm() / truth.norm())
    verdicts.at_most("error of the product against float64", error, 1e-5)
    return {**figures, "error of the product": error}


def products(seed: int, verdicts: Verdicts) -> dict[str, Any]:
    """Packed 4096x4096 products with one input, float32, against torch's dense one."""
    figures: dict[str, Any] = {}
    for rate, wanted in ((8, 2.0), (16, 3.0)):
        times: Times = time_products((LARGEST, LARGEST), rate, seed)
        best = quickest(times)
        figures[f"R = {rate}"] = {
            "milliseconds": {name: round(1e3 * t, 3) for name, t in times.seconds.items()},
            "times dense": {name: round(times.seconds["dense"] / t, 2)
                            for name, t in times.seconds.items() if name != "dense"},
            "dense, GB/s": round(4 * LARGEST**2 / times.seconds["dense"] / 1e9, 1),
            "quickest layout": best, "bytes over dense": times.shares,
        }
        verdicts.at_least(f"{best} over dense at R = {rate}",
                          times.seconds["dense"] / times.seconds[best], wanted)
    return figures


def accuracy(seed: int, scale: Scale, verdicts: Verdicts) -> dict[str, Any]:
    """A wide net at R = 8 against a narrow dense one that is predicted to be as quick."""
    found = trade_off(seed, runs=5 if scale == "quick" else 15)
    verdicts.at_least("accuracy of wide sparse less that of narrow dense, points",
                      found["wide sparse, %"] - found["narrow dense, %"], -0.3)
    verdicts.at_least("predicted throughput of wide sparse over narrow dense",
                      found["predicted throughput, wide over narrow"], 1)
    return found


def _bert(width: int, layers: int) -> Work:
    from transformers import BertConfig, BertModel
    config = BertConfig(hidden_size=width, num_hidden_layers=layers,
                        intermediate_size=4 * width, num_attention_heads=width // 64)
    with torch.device("meta"):
        return operations(BertModel(config, add_pooling_layer=False), TOKENS)


def _resnet() -> Work:
    from transformers import ResNetConfig, ResNetForImageClassification
    config = ResNetConfig()  # ResNet-50
    config.num_labels = 1000
    with torch.device("meta"):
        return operations(ResNetForImageClassification(config))
