"""Packed linear on a layer that fits the cache, 3072 x 768 in float32, against what users have.

    python benchmarks/small_linear.py --out benchmarks/results/small_linear-CPU.json

Eight matrices are used in turn, as in a model, so that no product finds its own weights in the
first cache. All contenders run in turn, round after round, on one thread; ratios are to the fastest
dense product of the same run. onnxruntime, OpenVINO and scipy take part where they are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gossamer import native
from gossamer.core import Support
from gossamer.layout import pack
from gossamer.measure import environment
from gossamer.ops import explain, linear

ROWS, COLS, TURNS = 3072, 768, 8
Run = Callable[[int], object]


def onnxruntime_runs(weights: list[Tensor], x: Tensor) -> Run:
    """onnxruntime's float32 product."""
    import onnxruntime
    from onnx import TensorProto, helper

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = []
    for weight in weights:
        raw = weight.t().contiguous().numpy().tobytes()
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], "dense",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [x.shape[0], ROWS])],
            [helper.make_tensor("w", TensorProto.FLOAT, [COLS, ROWS], raw, raw=True)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        sessions.append(onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]))
    array = x.numpy()
    return lambda turn: sessions[turn].run(None, {"x": array})


def openvino_runs(weights: list[Tensor], x: Tensor) -> Run:
    """OpenVINO's float32 product."""
    import openvino
    from openvino import opset13

    requests = []
    for weight in weights:
        given = opset13.parameter(list(x.shape), openvino.Type.f32)
        product = opset13.matmul(given, opset13.constant(weight.numpy()), False, True)
        compiled = openvino.Core().compile_model(
            openvino.Model([product], [given], "dense"), "CPU",
            {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32",
             "PERFORMANCE_HINT": "LATENCY"})
        requests.append(compiled.create_infer_request())
    array = x.numpy()
    return lambda turn: requests[turn].infer([array])


def dense_runs(weights: list[Tensor], x: Tensor) -> dict[str, Run]:
    """Every dense float32 product that is installed."""
    found: dict[str, Run] = {"torch": lambda turn: torch.nn.functional.linear(x, weights[turn])}
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        found["onnxruntime"] = onnxruntime_runs(weights, x)
    if importlib.util.find_spec("openvino"):
        found["openvino"] = openvino_runs(weights, x)
    return found


def sparse_runs(weights: list[Tensor], x: Tensor) -> dict[str, Run]:
    """The sparse products that a user has without gossamer."""
    csr = [weight.to_sparse_csr() for weight in weights]
    found: dict[str, Run] = {"torch csr": lambda turn: csr[turn] @ x.t()}
    if importlib.util.find_spec("scipy"):
        from scipy.sparse import csr_matrix

        theirs, column = [csr_matrix(w.numpy()) for w in weights], x.t().contiguous().numpy()
        found["scipy csr"] = lambda turn: theirs[turn] @ column
    return found


def own_runs(weights: list[Tensor], x: Tensor, layouts: list[str]) -> tuple[dict[str, Run], dict]:
    """Our product in each layout, and what explain says of it."""
    found: dict[str, Run] = {}
    said = {}
    for layout in layouts:
        packed = [pack(weight, None, layout) for weight in weights]
        said[layout] = explain(x, packed[0])
        found[f"gossamer {layout}"] = lambda turn, packed=packed: linear(x, packed[turn])
    return found, said


def make(density: float, kind: str) -> list[Tensor]:
    """Eight random matrices with this share of entries kept, in blocks or equal rows if asked."""
    made = []
    for seed in range(TURNS):
        torch.manual_seed(seed)
        weight = torch.randn(ROWS, COLS)
        if kind == "blocks":
            some = torch.rand(ROWS // 16, COLS // 16).argsort(1) < round(density * COLS / 16)
            mask = some.repeat_interleave(16, 0).repeat_interleave(16, 1)
        elif kind == "rows":
            mask = torch.rand(ROWS, COLS).argsort(1) < round(density * COLS)
        else:
            mask = Support.of(torch.rand(ROWS, COLS) < density).mask()
        made.append(torch.where(mask, weight, torch.zeros(())))
    return made


def compare(kind: str, density: float, batch: int, layouts: list[str], rounds: int) -> dict:
    """Microseconds of every contender, least and median, and ratios to the fastest dense."""
    weights, x = make(density, kind), torch.randn(batch, COLS)
    dense = dense_runs(weights, x)
    own, said = own_runs(weights, x, layouts)
    runs = {**dense, **sparse_runs(weights, x), **own}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + TURNS):
        for name, run in runs.items():
            begin = time.process_time()
            run(turn % TURNS)
            if turn >= TURNS:
                times[name].append(1e6 * (time.process_time() - begin))
    table = {name: {"least us": round(min(t), 1), "median us": round(statistics.median(t), 1)}
             for name, t in times.items()}
    best = min(dense, key=lambda name: table[name]["median us"])
    for row in table.values():
        row["ratio of least"] = round(min(table[n]["least us"] for n in dense) / row["least us"], 2)
        row["median ratio"] = round(table[best]["median us"] / row["median us"], 2)
    return {"kind": kind, "density": density, "batch": batch, "fastest dense": best,
            "table": table, "explain": said}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = {"benchmark": "small_linear", "environment": environment(), "isa": native.isa(),
              "matrix": [ROWS, COLS], "dtype": "float32", "load": os.getloadavg()[0], "cases": []}
    for batch in (1, 64):
        rounds = args.rounds if batch == 1 else max(24, args.rounds // 8)
        for density in (0.5, 0.2, 0.1, 0.05):
            layouts = ["bitmask", "csr"]
            result["cases"].append(compare("any", density, batch, layouts, rounds))
        result["cases"].append(compare("rows", 0.1, batch, ["condensed", "csr"], rounds))
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
