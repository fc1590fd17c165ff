"""Decode SmolLM2 at batch 1: packed at half density against the fastest dense way found.

    python benchmarks/decode.py --out benchmarks/results/decode-CPU.json

Every way runs in one process on the same threads, in interleaved rounds: a prefill, then greedy
steps, timed apart. Ratios are those of one round, and their median is reported.

transformers    float32 and bfloat16, eager (growing cache) and compiled (static cache, one graph)
gossamer        packed layers inside transformers, eager and compiled, and the Decoder, which
                takes one call a token; dense bfloat16, dense float32 (Decoder only), bitmask

Ours keeps activations in float32 and runs the head through the dense bfloat16 product in every
packed way. Weights are pruned by magnitude, which is enough for speed and useless for quality.
With --random the model has SmolLM2's shapes and random weights, for machines without the model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import native
from gossamer.core import Keep, rows, select, sites
from gossamer.data import read_text, windows
from gossamer.edit import Swap, apply
from gossamer.measure import environment
from gossamer.models import load
from gossamer.ops import PackedLinear
from gossamer.ops.decode import Decoder

PROMPT, CACHE = 32, 256
WAYS = (
    "transformers float32, eager", "transformers float32, compiled",
    "transformers bfloat16, eager", "transformers bfloat16, compiled",
    "gossamer float32, decoder", "gossamer dense, eager", "gossamer dense, decoder",
    "gossamer bitmask, eager", "gossamer bitmask, compiled", "gossamer bitmask, decoder",
)
Step = Callable[[Tensor, Tensor, Any], Tensor]


@dataclass(frozen=True)
class Way:
    """One way to decode: a model, how its step runs, and the bytes of weights a token reads.

    The mode is eager, compiled or decoder; a Decoder steps by itself.
    """

    model: nn.Module
    mode: str
    step: Step | Decoder
    bytes_a_token: int


def stepper(model: nn.Module) -> Step:
    """One greedy step of a model: token ids and positions in, next ids out."""

    def step(tokens: Tensor, positions: Tensor, cache: Any) -> Tensor:
        output = model(input_ids=tokens, position_ids=positions, past_key_values=cache,
                       use_cache=True, logits_to_keep=1)
        return output.logits[:, -1:].argmax(-1)

    return step


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and packed parts that a decoded token reads, the embedding aside."""
    embedding = model.get_input_embeddings().weight
    own = {id(t): t for t in [*model.parameters(), *model.buffers()] if t is not embedding}
    head = model.get_output_embeddings()
    if getattr(head, "weight", None) is embedding:
        own[id(embedding)] = embedding
    return sum(t.nbytes for t in own.values())


def real_model(dtype: torch.dtype) -> nn.Module:
    """SmolLM2-135M as packaged."""
    return load("smollm2", dtype).model


def random_model(dtype: torch.dtype) -> nn.Module:
    """SmolLM2-135M's shapes with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
        max_position_embeddings=8192,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def packed_model(model: nn.Module, density: float, layout: str) -> nn.Module:
    """The model with every matrix of its blocks packed in bfloat16, and its head dense."""
    edits = []
    for site in sites(model):
        support = select(site.view().abs(), rows(), Keep.fraction(density))
        edits.append(Swap(site, PackedLinear.from_linear(
            site.view(), None, support, layout, torch.bfloat16)))
    apply(model, edits).bake()
    # The head is tied to the embedding; apart, the head streams as bfloat16 and the table stays.
    head = model.get_output_embeddings()
    model.lm_head = PackedLinear.from_linear(head.weight.detach(), None, None, "dense",
                                             torch.bfloat16)
    return model


def build_ways(
    fresh: Callable[[torch.dtype], nn.Module], density: float, wanted: list[str]
) -> dict[str, Way]:
    """The ways asked for, by name, of the model that ``fresh`` makes; ways of one kind share it."""
    builders: dict[str, Callable[[], nn.Module]] = {
        "transformers float32": lambda: fresh(torch.float32),
        "transformers bfloat16": lambda: fresh(torch.bfloat16),
        "gossamer float32": lambda: fresh(torch.float32),
        "gossamer dense": lambda: packed_model(fresh(torch.float32), 1.0, "dense"),
        "gossamer bitmask": lambda: packed_model(fresh(torch.float32), density, "bitmask"),
    }
    ways: dict[str, Way] = {}
    models: dict[str, nn.Module] = {}
    for name in wanted:
        kind, mode = name.split(", ")
        if kind not in models:
            models[kind] = builders[kind]()
        model = models[kind]
        step: Step | Decoder = stepper(model)
        if mode == "compiled":
            step = torch.compile(step, fullgraph=True, dynamic=False)
        if mode == "decoder":
            step = Decoder(model, CACHE)
        ways[name] = Way(model, mode, step, weight_bytes(model))
    return ways


def decode(way: Way, prompt: Tensor, tokens: int) -> tuple[float, list[float], list[int]]:
    """Seconds of the prefill, seconds of each step, and the ids decoded."""
    started = time.perf_counter()
    if isinstance(way.step, Decoder):
        decoder = way.step
        ids = [int(decoder.read(prompt).argmax())]
        prefill = time.perf_counter() - started
        seconds = []
        for _ in range(tokens):
            started = time.perf_counter()
            ids.append(int(decoder.step(ids[-1]).argmax()))
            seconds.append(time.perf_counter() - started)
        return prefill, seconds, ids
    return decode_by_steps(way, way.step, prompt, tokens)


def decode_by_steps(
    way: Way, step: Step, prompt: Tensor, tokens: int
) -> tuple[float, list[float], list[int]]:
    """`decode` by a transformers model, with the cache that its mode wants."""
    from transformers import DynamicCache, StaticCache
    config = way.model.config
    cache = (StaticCache(config=config, max_cache_len=CACHE) if way.mode == "compiled"
             else DynamicCache(config=config))
    length = prompt.shape[1]
    places = torch.arange(length + tokens)[None]
    started = time.perf_counter()
    token = stepper(way.model)(prompt, places[:, :length], cache)
    ids, seconds = [int(token)], []
    prefill = time.perf_counter() - started
    for place in range(length, length + tokens):
        started = time.perf_counter()
        token = step(token, places[:, place:place + 1].clone(), cache)
        ids.append(int(token))
        seconds.append(time.perf_counter() - started)
    return prefill, seconds, ids


def measure(ways: dict[str, Way], prompt: Tensor, tokens: int, rounds: int) -> dict[str, Any]:
    """Interleaved rounds after a warm-up one: medians of every way, and each round's own."""
    seen: dict[str, dict[str, Any]] = {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            prefill, seconds, ids = decode(way, prompt, tokens)
            if turn == 0:
                seen[name] = {"prefill_s": [], "token_s": [], "least_s": [], "ids": ids,
                              "first_s": seconds[0]}
                continue
            seen[name]["prefill_s"].append(prefill)
            seen[name]["token_s"].append(statistics.median(seconds))
            seen[name]["least_s"].append(min(seconds))
            print(f"round {turn} {name:32} {1e3 * statistics.median(seconds):7.2f} ms a token, "
                  f"prefill {1e3 * prefill:7.1f} ms", flush=True)
    for name, row in seen.items():
        middle = statistics.median(row["token_s"])
        row["tokens_per_second"] = 1 / middle
        row["prefill_ms"] = 1e3 * statistics.median(row["prefill_s"])
        row["megabytes_a_token"] = ways[name].bytes_a_token / 1e6
        row["gigabytes_per_second"] = ways[name].bytes_a_token / middle / 1e9
    return seen


def verdict(seen: dict[str, Any]) -> dict[str, Any]:
    """The fastest packed way over the fastest dense one, round by round."""
    packed = [name for name in seen if "bitmask" in name]
    dense = [name for name in seen if "bitmask" not in name]
    if not packed or not dense:
        return {}
    best = {kind: min(names, key=lambda n: statistics.median(seen[n]["token_s"]))
            for kind, names in (("packed", packed), ("dense", dense))}
    pair = seen[best["dense"]], seen[best["packed"]]
    ratios = [d / p for d, p in zip(pair[0]["token_s"], pair[1]["token_s"])]
    return {
        **best, "ratio": statistics.median(ratios), "ratios": ratios, "target": 1.4,
        "ratio_of_least": min(pair[0]["least_s"]) / min(pair[1]["least_s"]),
        "ratio_of_bytes": pair[0]["megabytes_a_token"] / pair[1]["megabytes_a_token"],
    }


def read_bandwidth(threads: int, megabytes: int = 512) -> float:
    """Gigabytes a second of reading memory once, the best of several passes."""
    block = torch.ones(megabytes << 18)
    best = float("inf")
    for _ in range(9):
        started = time.perf_counter()
        native.core.read(block.data_ptr(), block.nbytes, threads)
        best = min(best, time.perf_counter() - started)
    return block.nbytes / best / 1e9


def where_time_goes(way: Way, prompt: Tensor, tokens: int = 8) -> list[dict[str, Any]]:
    """The costliest operators of decoding by the profiler, per token; it slows all of them."""
    from torch.profiler import ProfilerActivity, profile
    decode(way, prompt, 2)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        decode(way, prompt, tokens)
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)[:10]
    return [{"operator": e.key[:60], "calls_a_token": e.count / tokens,
             "ms_a_token": e.self_cpu_time_total / 1e3 / tokens} for e in events]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--density", type=float, default=0.5)
    parser.add_argument("--tokens", type=int, default=32, help="steps timed in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--profile", action="store_true", help="add the costliest operators")
    parser.add_argument("--random", action="store_true", help="random weights")
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.random:
        fresh = random_model
        prompt = torch.arange(1, PROMPT + 1)[None]
    else:
        fresh = real_model
        prompt = windows(read_text("embedded:evaluation"), load("smollm2").tokenizer, PROMPT, 1)
    with torch.inference_mode():
        ways = build_ways(fresh, args.density, args.ways)
        seen = measure(ways, prompt, args.tokens, args.rounds)
        result = {
            "benchmark": "decode", "environment": environment(), "model": "smollm2",
            "weights": "random" if args.random else "real",
            "batch": 1, "prompt": PROMPT, "cache": CACHE, "steps": args.tokens,
            "density": args.density, "isa": native.isa(),
            "read_gigabytes_per_second": read_bandwidth(torch.get_num_threads()),
            "verdict": verdict(seen), "ways": seen,
        }
        if args.profile:
            result["where_time_goes"] = {name: where_time_goes(way, prompt)
                                         for name, way in ways.items() if way.mode != "decoder"}
    result["environment"]["load_after"] = environment()["load"]
    text = json.dumps(result, indent=1)
    print(text if not args.out else json.dumps(result["verdict"], indent=1))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
