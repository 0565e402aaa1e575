"""LoRA adapters of tiny checkpoints, in peft's format, and the same models with the adapters merged into their weights."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor


def linears(model: Any, ends: Sequence[str] | None = None) -> dict[str, Any]:
    """Linear modules inside the layers of a model of transformers, by name; those whose names end so."""
    found = {name: module for name, module in model.named_modules() if type(module).__name__.endswith(("Linear", "Conv1D"))}
    inside = {name: module for name, module in found.items() if re.search(r"\.\d+\.", name) and "vision" not in name}
    return {name: module for name, module in inside.items() if ends is None or name.endswith(tuple(ends))}


def updates(
    model: Any, seed: int, rank: int = 3, ends: Sequence[str] | None = None, size: float = 0.3
) -> dict[str, tuple[Tensor, Tensor]]:
    """Random A `[rank, inputs]` and B `[outputs, rank]` of modules."""
    draws = torch.Generator().manual_seed(seed)
    found = {}
    for name, module in linears(model, ends).items():
        shape = module.weight.shape
        outputs, inputs = shape[::-1] if type(module).__name__ == "Conv1D" else shape
        found[name] = torch.randn(rank, inputs, generator=draws) * size, torch.randn(outputs, rank, generator=draws) * size
    return found


def save_adapter(folder: Path, found: dict[str, tuple[Tensor, Tensor]], **config: Any) -> Path:
    """An adapter's folder as peft writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, (a, b) in found.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.contiguous()
    save_file(tensors, folder / "adapter_model.safetensors")
    rank = len(next(iter(found.values()))[0])
    usual = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", "target_modules": "all-linear"}
    (folder / "adapter_config.json").write_text(json.dumps(usual | config))
    return folder


def merged(model: Any, found: dict[str, tuple[Tensor, Tensor]], scale: float = 2.0) -> Any:
    """A copy of the model with B A · scale added to its weights."""
    model = copy.deepcopy(model)
    modules = dict(model.named_modules())
    with torch.no_grad():
        for name, (a, b) in found.items():
            delta = (b.double() @ a.double() * scale).float()
            modules[name].weight += delta.t() if type(modules[name]).__name__ == "Conv1D" else delta
    return model


def stabilized(alpha: float, rank: int) -> float:
    """The scale of rsLoRA."""
    return alpha / math.sqrt(rank)
