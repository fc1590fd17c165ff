"""Packed linear against the fastest dense products on this machine; prints JSON.

First every kernel of every instruction set that the CPU has is checked against float64; a wrong
one ends the run. Then all contenders are timed in turn, round after round, so that a change of
the machine's load falls on all of them; ratios come from the same run. On one thread the clock is
the process's CPU time, which other processes disturb less; on more it is the wall clock.

    python benchmarks/packed_linear.py --out benchmarks/results
    python benchmarks/packed_linear.py --quick              (small matrices: does it run?)

onnxruntime (with onnx) and OpenVINO take part where they are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gossamer import native
from gossamer.core import Keep, Support, nm, rows, select, unstructured
from gossamer.layout import Packed, pack, quantise, unpack
from gossamer.ops import PackedLinear, linear

Run = Callable[[], object]
# name, kept share, layouts
CASES: list[tuple[str, float, tuple[str, ...]]] = [
    ("50 %", 0.5, ("bitmask",)), ("70 %", 0.3, ("bitmask", "csr")),
    ("80 %", 0.2, ("bitmask", "csr")), ("90 %", 0.1, ("bitmask", "csr")),
    ("95 %", 0.05, ("bitmask", "csr")), ("90 % rows", 0.1, ("bitmask", "csr", "condensed")),
    ("2:4", 0.5, ("bitmask", "nm")), ("1:4", 0.25, ("bitmask", "nm")),
]


def cpu_name() -> str:
    """The CPU's name as the kernel reports it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        match = re.search(r"model name\s*:\s*(.+)", path.read_text())
        fields = dict(re.findall(r"(cpu family|model|vendor_id)\t*\s*:\s*(.+)", path.read_text()))
        if match:
            family = f" family {fields.get('cpu family')} model {fields.get('model')}"
            return match[1].strip() + family
    return platform.processor() or platform.machine()


def check() -> int:
    """Number of products compared with float64 on every instruction set; raises on a wrong one."""
    torch.manual_seed(0)
    done, before = 0, native.isa()
    for isa in native.isas():
        native.set_isa(isa)
        for shape in ((1, 1), (7, 33), (40, 100), (64, 576), (33, 1000), (9, 4096)):
            for layout, support in supports(shape):
                for dtype in (torch.float32, torch.bfloat16):
                    packed = pack(torch.randn(shape), support, layout, dtype)
                    done += sum(agree(packed, batch, isa) for batch in (1, 2, 3, 9, 64, 70))
    native.set_isa(before)
    return done


def supports(shape: tuple[int, int]) -> list[tuple[str, Support]]:
    """Every layout with supports that it holds."""
    score = torch.rand(shape)
    found = [("dense", Support.full(*shape))]
    for density in (0.05, 0.3, 0.5, 1.0):
        keep = Keep.fraction(density)
        found += [(name, select(score, unstructured(), keep)) for name in ("bitmask", "csr")]
        found.append(("condensed", select(score, rows(), keep)))
    for pattern in (nm(2, 4), nm(1, 4), nm(4, 8), nm(5, 25)):
        if shape[1] % (pattern.pool[1] or 1) == 0:
            found.append(("nm", select(score, pattern)))
    return found


def agree(packed: Packed, batch: int, isa: str) -> int:
    """Twice 1; raises where a product is off by more than its dtype's rounding."""
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(batch, packed.shape[1]).to(dtype)
        weight = unpack(packed).double()
        wanted = x.double() @ weight.t()
        scale = x.double().abs() @ weight.abs().t() + 1e-3
        got = linear(x, packed)
        error = float(((got.double() - wanted).abs() / scale).max())
        if not error <= (2e-6 if got.dtype == torch.float32 else 4e-3):
            raise SystemExit(f"{isa} {packed.layout} {packed.shape} batch {batch}: error {error}")
    return 2


def openvino_run(weight: Tensor, x: Tensor, threads: int) -> Run:
    """OpenVINO's product with bfloat16 weights."""
    import openvino
    from openvino import opset13

    given = opset13.parameter(list(x.shape), openvino.Type.f32)
    constant = opset13.constant(weight.float().numpy(), dtype=openvino.Type.bf16)
    product = opset13.matmul(given, opset13.convert(constant, "f32"), False, True)
    compiled = openvino.Core().compile_model(
        openvino.Model([product], [given], "dense"), "CPU",
        {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "bf16",
         "PERFORMANCE_HINT": "LATENCY"},
    )
    request, array = compiled.create_infer_request(), x.float().numpy()
    return lambda: request.infer([array])


def onnxruntime_run(weight: Tensor, x: Tensor, threads: int) -> Run:
    """onnxruntime's product in float16: it has none of bfloat16, and the bytes are the same."""
    import onnxruntime
    from onnx import TensorProto, helper

    kind, (out, width) = TensorProto.FLOAT16, weight.shape
    raw = weight.t().half().contiguous().numpy().tobytes()
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "dense",
        [helper.make_tensor_value_info("x", kind, list(x.shape))],
        [helper.make_tensor_value_info("y", kind, [x.shape[0], out])],
        [helper.make_tensor("w", kind, [width, out], raw, raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    array = x.half().numpy()
    return lambda: session.run(None, {"x": array})


def dense_runs(weight: Tensor, x: Tensor, threads: int) -> dict[str, Run]:
    """Every dense product of 16-bit weights that is installed."""
    own = pack(weight, Support.full(*weight.shape), "dense")
    found: dict[str, Run] = {
        "dense torch bf16": lambda: torch.nn.functional.linear(x, weight),
        "dense gossamer bf16": lambda: linear(x, own),
    }
    if importlib.util.find_spec("openvino"):
        found["dense openvino bf16"] = openvino_run(weight, x, threads)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        found["dense onnxruntime fp16"] = onnxruntime_run(weight, x, threads)
    return found


def random_support(name: str, density: float, shape: tuple[int, int]) -> Support:
    """A support of the named kind; speed does not depend on which weights are kept."""
    if ":" in name:
        n, m = (int(part) for part in name.split(":"))
        score = torch.rand(shape[0], shape[1] // m, m)
        return Support.of((score.argsort(-1) < n).flatten(1), nm(n, m))
    if "rows" in name:
        return Support.of(torch.rand(shape).argsort(-1) < round(density * shape[1]))
    return Support.of(torch.rand(shape) < density)


def packed_cases(weight: Tensor) -> dict[str, Packed]:
    """The weight in every case and layout."""
    found = {}
    for name, density, layouts in CASES:
        support = random_support(name, density, (weight.shape[0], weight.shape[1]))
        for layout in layouts:
            found[f"{layout} {name}"] = pack(weight, support, layout)
    return found


def interleave(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run in each round; the first round only warms up."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            begin = clock()
            run()
            if turn:
                times[name].append(clock() - begin)
    return times


def compare(weight: Tensor, cases: dict[str, Packed], threads: int, rounds: int) -> dict:
    """Times, ratios to the fastest dense product and shares of the bytes limit, batch 1."""
    torch.set_num_threads(threads)
    x = torch.randn(1, weight.shape[1]).bfloat16()
    dense = dense_runs(weight, x, threads)
    runs: dict[str, Run] = dict(dense)
    size = weight.numel() * weight.element_size()
    runs["read"] = lambda: native.core.read(weight.data_ptr(), size, threads)
    for name, packed in cases.items():
        runs[name] = lambda packed=packed: linear(x, packed)
    load = os.getloadavg()[0]
    times = interleave(runs, rounds)
    least = {name: min(t) for name, t in times.items()}
    fastest = min(dense, key=lambda name: least[name])
    bandwidth = size / least["read"]
    table = {name: figures(name, times, fastest) for name in dense}
    for name, packed in cases.items():
        table[name] = figures(name, times, fastest) | {
            "bytes": packed.nbytes, "bytes over dense": round(packed.nbytes / size, 4),
            "bytes limit": round(packed.nbytes / bandwidth / least[name], 3),
        }
    quickest: dict[str, str] = {}
    for name in cases:
        case = name.split(" ", 1)[1]
        if case not in quickest or least[name] < least[f"{quickest[case]} {case}"]:
            quickest[case] = name.split(" ", 1)[0]
    return {
        "threads": threads, "clock": "cpu" if threads == 1 else "wall",
        "load average": [load, os.getloadavg()[0]], "read GB/s": round(bandwidth / 1e9, 1),
        "fastest dense": fastest, "table": table, "quickest layout": quickest,
    }


def int8_runs(weight: Tensor, x: Tensor, threads: int) -> dict[str, Run]:
    """Every dense product of 8-bit weights that is installed; the dynamic ones round x too."""
    scale = weight.float().abs().amax(1) / 127
    whole = (weight.float() / scale[:, None]).round().to(torch.int8)
    wide, rounded = x.float(), scale.bfloat16()
    stored = torch.ops.quantized.linear_prepack(
        torch.quantize_per_channel(weight.float(), scale.double(), torch.zeros(len(scale)).long(),
                                   0, torch.qint8), None)
    found: dict[str, Run] = {
        "int8 torch, bf16 x": lambda: torch._weight_int8pack_mm(x, whole, rounded),
        "int8 torch, dynamic": lambda: torch.ops.quantized.linear_dynamic(wide, stored, True),
    }
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        found["int8 onnxruntime, dynamic"] = onnxruntime_int8_run(whole, wide, threads)
    return found


def onnxruntime_int8_run(whole: Tensor, x: Tensor, threads: int) -> Run:
    """onnxruntime's integer product: x to 8 bits, whole numbers back to floats."""
    import onnxruntime
    from onnx import TensorProto, helper

    (out, width), node = whole.shape, helper.make_node
    graph = helper.make_graph(
        [node("DynamicQuantizeLinear", ["x"], ["q", "step", "zero"]),
         node("MatMulInteger", ["q", "w", "zero"], ["whole"]),
         node("Cast", ["whole"], ["wide"], to=TensorProto.FLOAT),
         node("Mul", ["wide", "step"], ["y"])], "int8",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [x.shape[0], out])],
        [helper.make_tensor("w", TensorProto.INT8, [width, out],
                            whole.t().contiguous().numpy().tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    array = x.numpy()
    return lambda: session.run(None, {"x": array})


def compare_int8(weight: Tensor, threads: int, rounds: int) -> dict:
    """Codes of 8 bits against the fastest dense products of 8 and of 16 bits, batch 1."""
    torch.set_num_threads(threads)
    x = torch.randn(1, weight.shape[1]).bfloat16()
    wide, narrow = dense_runs(weight, x, threads), int8_runs(weight, x, threads)
    cases = {f"bitmask_int8 {round(100 - 100 * kept)} %": quantise(
        weight, Support.of(torch.rand(weight.shape) < kept)) for kept in (0.5, 0.4, 0.3)}
    runs: dict[str, Run] = {**wide, **narrow}
    size = weight.numel() * weight.element_size()
    runs["read"] = lambda: native.core.read(weight.data_ptr(), size, threads)
    for name, packed in cases.items():
        runs[name] = lambda packed=packed: linear(x, packed)
    times = interleave(runs, rounds)
    least = {name: min(t) for name, t in times.items()}
    fastest, of_bytes = (min(some, key=lambda name: least[name]) for some in (wide, narrow))
    table = {name: figures(name, times, fastest) for name in (*wide, *narrow, *cases)}
    for name, packed in cases.items():
        over = figures(name, times, of_bytes)
        table[name] |= {
            "bytes": packed.nbytes, "median ratio, int8": over["median ratio"],
            "ratio of least, int8": over["ratio of least"],
            "bytes limit": round(packed.nbytes / size * least["read"] / least[name], 3),
        }
    return {"threads": threads, "fastest dense": fastest, "fastest dense int8": of_bytes,
            "read GB/s": round(size / least["read"] / 1e9, 1), "table": table}


def figures(name: str, times: dict[str, list[float]], fastest: str) -> dict:
    """Least and median time, and how many times faster than the fastest dense product."""
    ratios = [dense / own for dense, own in zip(times[fastest], times[name])]
    return {
        "least ms": round(min(times[name]) * 1e3, 3),
        "median ms": round(statistics.median(times[name]) * 1e3, 3),
        "ratio of least": round(min(times[fastest]) / min(times[name]), 2),
        "median ratio": round(statistics.median(ratios), 2),
    }


def batches(weight: Tensor, packed: Packed, rounds: int) -> dict[str, dict[str, float]]:
    """Least milliseconds by number of inputs: packed against torch, one thread."""
    torch.set_num_threads(1)
    found, wide = {}, weight.float()
    for batch in (1, 2, 4, 8, 16, 32, 64, 128):
        x = torch.randn(batch, weight.shape[1])
        half = x.bfloat16()
        times = interleave({
            "packed fp32 x": lambda x=x: linear(x, packed),
            "packed bf16 x": lambda half=half: linear(half, packed),
            "torch fp32": lambda x=x: torch.nn.functional.linear(x, wide),
            "torch bf16": lambda half=half: torch.nn.functional.linear(half, weight),
        }, rounds)
        found[str(batch)] = {name: round(min(t) * 1e3, 3) for name, t in times.items()}
    return found


def call_costs(rounds: int) -> dict[str, dict[str, float]]:
    """Least microseconds of one call for the matrices of a small language model, batch 1."""
    torch.set_num_threads(1)
    found = {}
    for out, width in ((8, 8), (192, 576), (576, 576), (1536, 576), (576, 1536)):
        plain = torch.nn.Linear(width, out, bias=False, dtype=torch.bfloat16)
        weight = plain.weight.detach()
        support = select(weight.float().abs(), unstructured(), Keep.fraction(0.5))
        layers = {"nn.Linear bf16": plain, "nn.Linear fp32": torch.nn.Linear(width, out),
                  "packed 50 %": PackedLinear.from_linear(weight, None, support, "bitmask")}
        x = torch.randn(1, width)
        with torch.inference_mode():
            runs: dict[str, Run] = {}
            for name, layer in layers.items():
                given = x if "fp32" in name else x.bfloat16()
                runs[name] = lambda layer=layer, given=given: layer(given)
            times = interleave(runs, 40 * rounds)
        found[f"{out}x{width}"] = {name: round(min(t) * 1e6, 1) for name, t in times.items()}
    return found


def main() -> None:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, help="folder for packed_linear-<cpu>.json")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    shape = (512, 1024) if args.quick else (16384, 4096)
    rounds = 2 if args.quick else args.rounds
    result: dict = {
        "cpu": cpu_name(), "isa": native.isa(), "isas": native.isas(),
        "torch": torch.__version__, "matrix": shape, "dtype": "bfloat16", "rounds": rounds,
        "checked products": check(),
    }
    print(f"{result['checked products']} products agree with float64", file=sys.stderr)
    torch.manual_seed(0)
    weight = torch.randn(shape).bfloat16()
    cases = packed_cases(weight)
    result["batch 1"] = [compare(weight, cases, threads, rounds) for threads in args.threads]
    result["int8, batch 1"] = [compare_int8(weight, threads, rounds) for threads in args.threads]
    small = torch.randn(1024, 1024).bfloat16() if args.quick else weight[:4096].clone()
    support = select(small.float().abs(), unstructured(), Keep.fraction(0.5))
    result["by batch, 50 % bitmask, ms"] = batches(small, pack(small, support, "bitmask"), rounds)
    result["call, us"] = call_costs(rounds)
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        name = re.sub(r"[^a-z0-9]+", "-", result["cpu"].lower()).strip("-")
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"packed_linear-{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
