"""Packed 1x1 convolutions against the fastest dense ones of this machine; prints JSON.

    python benchmarks/conv.py --out benchmarks/results
    python benchmarks/conv.py --quick              (few shapes and rounds: does it run?)

The shapes are those of MobileNet-v1 and v2; then the whole of MobileNet-v1 at 224x224, width 1,
random weights, batch 1, with 90 % of the weights of its 1x1 layers pruned, and its depthwise layers
computed densely in the same form of the image. All contenders run in
turn, round after round, so that a change of the machine's load falls on all of them; a ratio is to
the contender with the least dense time of the same run. Dense contenders are torch's convolution in
both memory formats, torch's matrix product, and onnxruntime (with onnx) and OpenVINO where they are
installed. Before anything is timed, results are compared with float64.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gossamer import native
from gossamer.core import Keep, Site, block, select, sites, unstructured
from gossamer.edit import Swap, apply
from gossamer.measure import environment
from gossamer.models.mobilenet import Layer, MobileNet, fold_batchnorm
from gossamer.ops import PackedConv2d
from gossamer.ops.conv import RELU6, DepthwiseConv2d

Run = Callable[[], object]
# Pixels, inputs, outputs of 1x1 layers.
V1 = ((12544, 32, 64), (3136, 64, 128), (3136, 128, 128), (784, 128, 256), (784, 256, 256),
      (196, 256, 512), (196, 512, 512), (49, 512, 1024), (49, 1024, 1024))
V2 = ((3136, 24, 144), (784, 192, 32), (196, 384, 64), (196, 576, 96), (49, 960, 160))
SHARES = (0.8, 0.9, 0.95)  # pruned
CL = torch.channels_last


def onnx_model(layers: list[nn.Module], x: Tensor, classifier: nn.Linear | None = None) -> bytes:
    """The layers one after the other as an ONNX model; a `Layer` is followed by a clip to 0..6."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, held, at = [], [], "x"
    for i, layer in enumerate(layers):
        conv = layer.conv if isinstance(layer, Layer) else layer
        names = [f"w{i}"] + ([f"b{i}"] if conv.bias is not None else [])
        for name, value in zip(names, (conv.weight, conv.bias)):
            held.append(numpy_helper.from_array(value.detach().numpy(), name))
        down, along = conv.padding
        nodes.append(helper.make_node(
            "Conv", [at, *names], [f"c{i}"], kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride), pads=[down, along, down, along], group=conv.groups))
        at = f"c{i}"
        if isinstance(layer, Layer):
            held += [numpy_helper.from_array(torch.tensor(v).numpy(), f"{n}{i}")
                     for n, v in (("low", 0.0), ("high", 6.0))]
            nodes.append(helper.make_node("Clip", [at, f"low{i}", f"high{i}"], [f"y{i}"]))
            at = f"y{i}"
    if classifier is not None:
        held += [numpy_helper.from_array(classifier.weight.detach().numpy(), "w"),
                 numpy_helper.from_array(classifier.bias.detach().numpy(), "b")]
        nodes += [helper.make_node("GlobalAveragePool", [at], ["mean"]),
                  helper.make_node("Flatten", ["mean"], ["flat"]),
                  helper.make_node("Gemm", ["flat", "w", "b"], ["scores"], transB=1)]
        at = "scores"
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", kind, list(x.shape))],
        [helper.make_tensor_value_info(at, kind, None)], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model.SerializeToString()


def peers(model: Callable[[], bytes], x: Tensor, threads: int) -> dict[str, Run]:
    """onnxruntime and OpenVINO, where they are installed."""
    found: dict[str, Run] = {}
    if not importlib.util.find_spec("onnx"):
        return found
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(model(), options, ["CPUExecutionProvider"])
        found["dense onnxruntime"] = lambda: session.run(None, {"x": x.numpy()})[0]
    if importlib.util.find_spec("openvino"):
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(core.read_model(model(), b""), "CPU", {
            "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY"})
        request, tensor = compiled.create_infer_request(), openvino.Tensor(x.numpy(), True)
        request.set_input_tensor(tensor)

        def infer() -> object:
            request.infer()
            return request.get_output_tensor().data

        found["dense openvino"] = infer
    return found


def packed_layers(conv: nn.Conv2d) -> dict[str, PackedConv2d]:
    """The layer at every share of pruned weights; at 90 % also by rows that share columns."""
    score, found = conv.weight.detach().flatten(1).abs(), {}
    for share in SHARES:
        support = select(score, unstructured(), Keep.fraction(1 - share))
        found[f"csr {share:.0%}"] = PackedConv2d.from_conv(conv, support, "csr")
    for rows in (2, 4):
        support = select(score, block(rows, 1), Keep.fraction(0.1))
        found[f"bsr {rows}x1 90%"] = PackedConv2d.from_conv(conv, support, "bsr")
    return found


def check(layer: PackedConv2d, x: Tensor) -> None:
    """Raise where a packed layer is off by more than rounding."""
    from gossamer.layout import unpack

    weight = unpack(layer.packed).double()
    wanted = weight @ x.double().flatten(2)[0]
    size = weight.abs() @ x.double().abs().flatten(2)[0] + 1e-3
    error = float(((layer(x).double().flatten(2)[0] - wanted).abs() / size).max())
    if not error <= 3e-6:
        raise SystemExit(f"{layer}: error {error}")


def layer_runs(shape: tuple[int, int, int], threads: int) -> dict[str, Run]:
    """Every contender for one 1x1 layer."""
    pixels, inputs, outputs = shape
    side = int(pixels**0.5)
    torch.manual_seed(0)
    x, conv = torch.randn(1, inputs, side, side), nn.Conv2d(inputs, outputs, 1, bias=False)
    last, other = x.to(memory_format=CL), copy.deepcopy(conv).to(memory_format=CL)
    weight, flat = conv.weight.detach().flatten(1), x.flatten(2)[0]
    runs: dict[str, Run] = {
        "dense torch": lambda: conv(x), "dense torch channels_last": lambda: other(last),
        "dense torch matmul": lambda: weight @ flat,
        **peers(lambda: onnx_model([conv], x), x, threads),
    }
    for name, layer in packed_layers(conv).items():
        check(layer, x)
        runs[f"packed {name}"] = lambda layer=layer: layer(x)
    return runs


def net_runs(threads: int, size: int) -> dict[str, Run]:
    """The whole net, dense and with 90 % of its 1x1 layers pruned."""
    torch.manual_seed(0)
    model = fold_batchnorm(MobileNet())
    x = torch.randn(1, 3, size, size)
    last, other = x.to(memory_format=CL), copy.deepcopy(model).to(memory_format=CL)
    packed = copy.deepcopy(model)
    found = sites(packed, "*pointwise*")
    edits = []
    for site in found:
        support = select(site.view().abs(), unstructured(), Keep.fraction(0.1))
        site.write(support.apply(site.view()))
        edits.append(Swap(site, PackedConv2d.from_conv(site.module, support, "csr", bounds=RELU6)))
    pruned = copy.deepcopy(packed)
    edits += [Swap(Site(f"{name}.weight", module, "conv2d"), DepthwiseConv2d(module, RELU6))
              for name, module in packed.named_modules()
              if isinstance(module, nn.Conv2d) and module.groups > 1]
    apply(packed, edits)
    torch.testing.assert_close(packed(x), pruned(x), rtol=1e-3, atol=1e-4)
    layers = [module for module in model.modules() if isinstance(module, Layer)]
    return {
        "dense torch": lambda: model(x), "dense torch channels_last": lambda: other(last),
        **peers(lambda: onnx_model(layers, x, model.classifier), x, threads),
        "packed csr 90%": lambda: packed(x),
    }


def compare(runs: dict[str, Run], rounds: int) -> dict:
    """Least and median microseconds of each, and ratios to the fastest dense contender."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for turn in range(rounds + 2):
            order = list(runs)[turn % len(runs):] + list(runs)[: turn % len(runs)]
            for name in order:  # each round begins with another, so that none always follows one
                begin = time.perf_counter()
                runs[name]()
                if turn > 1:
                    times[name].append(time.perf_counter() - begin)
    dense = min((n for n in runs if n.startswith("dense")), key=lambda name: min(times[name]))
    return {"fastest dense": dense, "us": {
        name: {
            "least": round(1e6 * min(t), 1), "median": round(1e6 * statistics.median(t), 1),
            "ratio of least": round(min(times[dense]) / min(t), 2),
            "median ratio": round(statistics.median(
                [a / b for a, b in zip(times[dense], t)]), 2),
        } for name, t in times.items()}}


def geometric(table: dict[str, dict], names: list[str], contender: str) -> float:
    """Geometric mean of a contender's ratios of least times."""
    ratios = [table[name]["us"][contender]["ratio of least"] for name in names]
    return round(statistics.geometric_mean(ratios), 2)


def at(threads: int, rounds: int, quick: bool) -> dict:
    """Everything at one number of threads."""
    torch.set_num_threads(threads)
    load = os.getloadavg()[0]
    shapes = {f"{p} {i}->{o}": (p, i, o) for p, i, o in (V1 + V2)[:: 6 if quick else 1]}
    layers = {name: compare(layer_runs(shape, threads), rounds) for name, shape in shapes.items()}
    packed = [n for n in next(iter(layers.values()))["us"] if n.startswith("packed")]
    first = [n for n, s in shapes.items() if s in V1]
    second = [n for n, s in shapes.items() if s in V2]
    return {
        "threads": threads, "layers": layers,
        "geometric mean of ratios, v1": {n: geometric(layers, first, n) for n in packed},
        "geometric mean of ratios, v2": {n: geometric(layers, second, n) for n in packed},
        "MobileNet-v1": compare(net_runs(threads, 64 if quick else 224), rounds),
        "load average": [load, os.getloadavg()[0]],
    }


def main() -> None:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, help="folder for conv-<cpu>.json")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    machine = environment()
    result = {
        "environment": machine, "isa": native.isa(), "dtype": "float32", "batch": 1,
        "rounds": args.rounds,
        "runs": [at(n, 2 if args.quick else args.rounds, args.quick) for n in args.threads],
    }
    text = json.dumps(result, indent=1, default=str)
    print(text)
    if args.out:
        name = re.sub(r"[^a-z0-9]+", "-", str(machine.get("cpu", "cpu")).lower()).strip("-")
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"conv-{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
