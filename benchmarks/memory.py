"""Peak memory of pruning a checkpoint from disk, against the forecast made before the run.

    python benchmarks/memory.py --layers 28 --out benchmarks/results/memory-3b.json

Writes a random bf16 Llama-shaped model of about three billion parameters as sharded safetensors,
then prunes it block by block in a fresh process and saves it packed, which reports the process's
high-water mark above what the interpreter and its libraries held before the run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from gossamer.measure import environment

SHAPE = {"hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 24,
         "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256}

CHILD = """
import json, sys, torch
from pathlib import Path
from gossamer.core.memory import PeakMemory, resident
from gossamer.cards import get_system
from gossamer.models import Checkpoint
import transformers.models.llama.modeling_llama

folder, work, out, system, sequences, length = sys.argv[1:]
tokens = torch.randint(0, 128256, (int(sequences), int(length)),
                       generator=torch.Generator().manual_seed(0))
torch.mm(torch.ones(8, 8), torch.ones(8, 8))
before = resident()
with PeakMemory() as prune:
    result = get_system(system)(density=0.5).run(Checkpoint(folder), tokens, workdir=work)
with PeakMemory() as save:
    result.save(out)
print(json.dumps({"system": system, "interpreter_bytes": before,
                  "forecast_bytes": result.report["memory"]["forecast"],
                  "walk_bytes": result.report["memory"]["peak"], "prune_bytes": prune.bytes,
                  "save_bytes": save.bytes, "seconds": result.report["seconds"],
                  "density": result.report["density"],
                  "saved_bytes": sum(p.stat().st_size for p in Path(out).iterdir())}))
"""


def write_model(folder: Path, layers: int) -> int:
    """A random sharded checkpoint, one shard a block; returns its number of parameters."""
    config = {**SHAPE, "model_type": "llama", "architectures": ["LlamaForCausalLM"],
              "num_hidden_layers": layers, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
              "torch_dtype": "bfloat16", "hidden_act": "silu", "max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    d, f = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    kv = SHAPE["num_key_value_heads"] * SHAPE["head_dim"]
    linear = {"self_attn.q_proj": (d, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d),
              "self_attn.o_proj": (d, d), "mlp.gate_proj": (f, d), "mlp.up_proj": (f, d),
              "mlp.down_proj": (d, f)}
    index: dict[str, str] = {}
    total = 0

    def write(name: str, tensors: dict[str, torch.Tensor]) -> None:
        nonlocal total
        save_file(tensors, str(folder / name), metadata={"format": "pt"})
        index.update(dict.fromkeys(tensors, name))
        total += sum(t.numel() for t in tensors.values())

    def random(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape) * shape[-1] ** -0.5).bfloat16()

    ones = torch.ones(d, dtype=torch.bfloat16)
    write("outside.safetensors", {"model.embed_tokens.weight": random(SHAPE["vocab_size"], d),
                                  "model.norm.weight": ones})
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        block = {f"{prefix}{name}.weight": random(*shape) for name, shape in linear.items()}
        block[f"{prefix}input_layernorm.weight"] = ones.clone()
        block[f"{prefix}post_attention_layernorm.weight"] = ones.clone()
        write(f"block-{layer:03d}.safetensors", block)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 2 * total}, "weight_map": index}), encoding="utf-8")
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--systems", nargs="+", default=["wanda", "sparsegpt"])
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--scratch", type=Path, default=None)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        parameters = write_model(folder, args.layers)
        rows = []
        for system in args.systems:
            command = [sys.executable, "-c", CHILD, str(folder), f"{scratch}/work-{system}",
                       f"{scratch}/out-{system}", system, str(args.sequences), str(args.length)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            row = json.loads(done.stdout.strip().splitlines()[-1])
            row["forecast_over_walk"] = row["forecast_bytes"] / row["walk_bytes"]
            row["peak_gib"] = max(row["prune_bytes"], row["save_bytes"]) / 2**30
            rows.append(row)
            print(json.dumps(row), flush=True)
    tokens = args.sequences * args.length
    result = {"benchmark": "memory", "parameters": parameters, "tokens": tokens,
              "environment": environment(), "runs": rows}
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
