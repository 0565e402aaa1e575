"""What adapters cost in iterations of decodes, beside the same requests without any, in turn.

    python benchmarks/lora.py [--rounds 7] [--geometry qwen3-0.6b|toy] [--rank 16] [--batch 8] [--prompt 0] [--dtype bfloat16]

One engine with made-up weights and four adapters of all linear layers. The sides are a batch of which no request has an
adapter, all have the same one, or equal numbers have each of the four. Seconds are of the clock and of the CPU; figures are
medians, and the ratios medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from on_gpu.geometry import QWEN, TOY_QWEN, Geometry
from safetensors.torch import save_file

from orcinus import LLM, SamplingParams
from orcinus.machine_load import load_average

GEOMETRIES = {"qwen3-0.6b": QWEN, "toy": TOY_QWEN}
ADAPTERS = ("a", "b", "c", "d")
STEPS = 16


def save_adapter(folder: Path, shape: Geometry, rank: int, seed: int) -> Path:
    """A random adapter of all linear layers."""
    folder.mkdir()
    width, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    sizes = {"self_attn.q_proj": (width, shape.hidden), "self_attn.k_proj": (kv, shape.hidden)}
    sizes |= {"self_attn.v_proj": (kv, shape.hidden), "self_attn.o_proj": (shape.hidden, width)}
    sizes |= {"mlp.gate_proj": (shape.ffn, shape.hidden), "mlp.up_proj": (shape.ffn, shape.hidden)}
    sizes |= {"mlp.down_proj": (shape.hidden, shape.ffn)}
    draws, tensors = torch.Generator().manual_seed(seed), {}
    for layer in range(shape.layers):
        for module, (outputs, inputs) in sizes.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, inputs, generator=draws).bfloat16() * 0.01
            tensors[f"{name}.lora_B.weight"] = torch.randn(outputs, rank, generator=draws).bfloat16() * 0.01
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank}))
    return folder


def decodes(llm: LLM, adapters: list[str], context: int) -> tuple[float, float]:
    """Milliseconds of an iteration of decodes, by the clock (the median) and of the CPU (the mean)."""
    params = SamplingParams(max_tokens=STEPS, temperature=0, ignore_eos=True)
    times, began, cpu = list[float](), 0.0, 0.0
    prompts = [[5 + number] * context for number in range(len(adapters))]
    for place, _ in enumerate(llm.stream(prompts, params, lora=adapters), 1):
        if place % len(adapters) == 0:
            times.append(1e3 * (time.perf_counter() - began))
            began = time.perf_counter()
        if place == 4 * len(adapters):
            cpu = time.process_time()
    return median(times[4:]), 1e3 * (time.process_time() - cpu) / (STEPS - 4)


def prompt(llm: LLM, adapters: list[str], tokens: int) -> tuple[float, float]:
    """Milliseconds of a prompt, by the clock and of the CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    llm.generate([[5] * tokens], SamplingParams(max_tokens=1, temperature=0), lora=adapters[-1], progress=False)
    return 1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--geometry", choices=GEOMETRIES, default="qwen3-0.6b")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=0, help="tokens of a prompt, to be measured instead of decodes")
    parser.add_argument("--dtype", default="bfloat16")
    given = parser.parse_args()
    shape = GEOMETRIES[given.geometry]
    sides = {
        "none": [""] * given.batch,
        "one adapter": ["a"] * given.batch,
        "four adapters": [ADAPTERS[place % 4] for place in range(given.batch)],
    }
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "config.json").write_text(json.dumps(shape.config(2048, given.dtype)))
        lora = {name: save_adapter(folder / name, shape, given.rank, seed) for seed, name in enumerate(ADAPTERS)}
        options = {"max_batch_size": given.batch, "max_model_len": 1024, "kv": "paged", "policy": "orca", "dtype": given.dtype}
        with LLM(folder, load_format="dummy", lora=lora, **options) as llm:
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
            for round_number in range(given.rounds + 1):  # the first one warms up
                for name, adapters in sides.items():
                    work, size = (prompt, given.prompt) if given.prompt else (decodes, given.context)
                    times = work(llm, adapters, size)
                    found[name] += [times] if round_number else []
    work_name = f"a prompt of {given.prompt}" if given.prompt else f"{given.batch} decodes"
    print(f"{shape.name}, {given.dtype}, rank {given.rank}, {work_name}, load {load_average():.1f}")
    for name, rows in found.items():
        ratios = [[row[kind] / base[kind] for row, base in zip(rows, found["none"], strict=True)] for kind in (0, 1)]
        clock, cpu = (median(row[kind] for row in rows) for kind in (0, 1))
        print(f"{name:<14} {clock:7.1f} ms, {median(ratios[0]):.2f}; CPU {cpu:7.1f} ms, {median(ratios[1]):.2f}")


if __name__ == "__main__":
    main()
