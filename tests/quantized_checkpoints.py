"""Quantised copies of checkpoints, written after the documented layouts, beside plain copies of what they stand for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Stored = tuple[dict[str, Tensor], Tensor]  # a module's tensors, and the matrix that they stand for
FP8 = torch.float8_e4m3fn


@dataclass(frozen=True)
class Written:
    """A way of writing matrices, and what a config says of it."""

    settings: Mapping[str, Any]
    store: Callable[[Tensor], Stored]


def levels(weight: Tensor, bits: int, group: int | None, symmetric: bool, order: Tensor | None = None) -> tuple[Tensor, ...]:
    """Codes from 0, scales and zero points `[outputs, groups]`, and the group of each input."""
    outputs, inputs = weight.shape
    count = 1 if group is None else inputs // group
    groups = torch.arange(inputs) * count // inputs
    groups = groups if order is None else groups[order]
    scale, zero = torch.empty(outputs, count), torch.empty(outputs, count)
    for index in range(count):
        some = weight[:, groups == index]
        low, high = some.amin(1).clamp(max=0), some.amax(1).clamp(min=0)
        if symmetric:
            scale[:, index] = torch.maximum(-low, high) / (2 ** (bits - 1) - 1)
            zero[:, index] = 2 ** (bits - 1)
        else:
            scale[:, index] = (high - low) / (2**bits - 1)
            zero[:, index] = (-low / scale[:, index]).round()
    codes = (weight / scale[:, groups] + zero[:, groups]).round().clamp(0, 2**bits - 1)
    return codes.long(), scale, zero.long(), groups


def pack(numbers: Tensor, bits: int) -> Tensor:
    """Numbers `[rows, count]` in int32 words, bit after bit, the lowest first."""
    rows, count = numbers.shape
    single = (numbers[:, :, None] >> torch.arange(bits)) & 1
    padded = torch.zeros(rows, -(-count * bits // 32) * 32, dtype=torch.int64)
    padded[:, : count * bits] = single.reshape(rows, -1)
    return (padded.reshape(rows, -1, 32) << torch.arange(32)).sum(-1).to(torch.int32)


def meant(codes: Tensor, scale: Tensor, zero: Tensor, groups: Tensor) -> Tensor:
    return (codes - zero[:, groups]).float() * scale[:, groups]


def compressed(bits: int, *, group: int | None = None, symmetric: bool = True, packed: bool = True) -> Written:
    """compressed-tensors' integers: pack-quantized, or int-quantized."""

    def store(weight: Tensor) -> Stored:
        codes, scale, zero, groups = levels(weight, bits, group, symmetric)
        tensors = {"weight_scale": scale}
        if packed:
            tensors |= {"weight_packed": pack(codes, bits), "weight_shape": torch.tensor(weight.shape)}
        else:
            tensors["weight"] = (codes - 2 ** (bits - 1)).to(torch.int8)
        if not symmetric:
            tensors["weight_zero_point"] = pack(zero.t(), bits).t() if packed else (zero - 2 ** (bits - 1)).to(torch.int8)
        return tensors, meant(codes, scale, zero, groups)

    strategy = {"strategy": "channel"} if group is None else {"strategy": "group", "group_size": group}
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, **strategy}
    inputs = None if packed else {"num_bits": 8, "type": "int", "dynamic": True, "strategy": "token"}
    return Written(compressed_settings(weights, "pack-quantized" if packed else "int-quantized", inputs), store)


def compressed_settings(weights: Mapping[str, Any], kind: str, inputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {"quant_method": "compressed-tensors", "format": kind, "config_groups": {"group_0": group}, "ignore": ["lm_head"]}


def gptq(bits: int, group: int, *, symmetric: bool = True, act_order: bool = False, version: str = "gptq") -> Written:
    """GPTQ: packed along inputs; the first version stores zero points less 1."""

    def store(weight: Tensor) -> Stored:
        order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(0)) if act_order else None
        codes, scale, zero, groups = levels(weight, bits, group, symmetric, order)
        less = int(version == "gptq")
        tensors = {
            "qweight": pack(codes, bits).t(),
            "qzeros": pack((zero - less).t() & (2**bits - 1), bits),
            "scales": scale.t(),
            "g_idx": groups.to(torch.int32),
            "bias": torch.zeros(len(weight)),
        }
        return tensors, meant(codes, scale, zero, groups)

    settings = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": symmetric, "desc_act": act_order}
    return Written(settings | {"checkpoint_format": version}, store)


def awq(group: int) -> Written:
    """AWQ's layout gemm: eight outputs a word, in the order 0, 2, 4, 6, 1, 3, 5, 7."""

    def words(numbers: Tensor) -> Tensor:
        eights = numbers.reshape(len(numbers), -1, 8)[:, :, [0, 2, 4, 6, 1, 3, 5, 7]]
        return pack(eights.reshape(len(numbers), -1), 4)

    def store(weight: Tensor) -> Stored:
        codes, scale, zero, groups = levels(weight, 4, group, symmetric=False)
        tensors = {"qweight": words(codes.t()), "qzeros": words(zero.t()), "scales": scale.t()}
        return tensors, meant(codes, scale, zero, groups)

    settings = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    return Written(settings | {"modules_to_not_convert": ["lm_head"]}, store)


def fp8(block: int | None) -> Written:
    """8-bit floats with a scale for each block of `block` × `block`, or for the tensor."""

    def store(weight: Tensor) -> Stored:
        outputs, inputs = weight.shape
        size = block or max(outputs, inputs)
        scale = torch.empty(-(-outputs // size), -(-inputs // size))
        for row in range(len(scale)):
            for column in range(scale.shape[1]):
                part = weight[row * size : (row + 1) * size, column * size : (column + 1) * size]
                scale[row, column] = part.abs().max() / 448
        spread = scale.repeat_interleave(size, 0)[:outputs].repeat_interleave(size, 1)[:, :inputs]
        codes = (weight / spread).to(FP8)
        name = "weight_scale" if block is None else "weight_scale_inv"
        return {"weight": codes, name: scale if block else scale.reshape(())}, codes.float() * spread

    size = None if block is None else [block, block]
    return Written({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": size}, store)


def compressed_fp8() -> Written:
    """compressed-tensors' 8-bit floats, with a scale for each output."""

    def store(weight: Tensor) -> Stored:
        scale = weight.abs().amax(1, keepdim=True) / 448
        codes = (weight / scale).to(FP8)
        return {"weight": codes, "weight_scale": scale.to(torch.bfloat16)}, codes.float() * scale.to(torch.bfloat16).float()

    weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}
    return Written(compressed_settings(weights, "float-quantized", {"num_bits": 8, "dynamic": False}), store)


def bitsandbytes() -> Written:
    """bitsandbytes' 8-bit integers: each output's largest value stands for 127."""

    def store(weight: Tensor) -> Stored:
        most = weight.abs().amax(1)
        codes = (weight * 127 / most[:, None]).round().to(torch.int8)
        tensors = {"weight": codes, "SCB": most, "weight_format": torch.tensor(0, dtype=torch.uint8)}
        return tensors, codes.float() * (most / 127)[:, None]

    return Written({"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False}, store)


def write(folder: Path, to: Path, written: Written, plain: str = "lm_head") -> tuple[Path, Path]:
    """A quantised copy of a checkpoint, and a plain one of what it stands for; matrices with `plain` in their names stay so."""
    exact, rounded = (Path(shutil.copytree(folder, to / name)) for name in ("quantised", "rounded"))
    stored: dict[str, Tensor] = {}
    means: dict[str, Tensor] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if tensor.dim() == 2 and "layers." in name and plain not in name:
            tensors, means[name] = written.store(tensor.float())
            stored |= {f"{name.removesuffix('weight')}{kind}": each.contiguous() for kind, each in tensors.items()}
        else:
            stored[name] = means[name] = tensor
    for name, tensor in means.items():  # biases that the model has are no zeros
        if name.endswith("bias"):
            stored[name] = tensor
    save_file(stored, exact / "model.safetensors", metadata={"format": "pt"})
    save_file(means, rounded / "model.safetensors", metadata={"format": "pt"})
    edit_settings(exact, **written.settings)
    return exact, rounded


def edit_settings(folder: Path, **settings: Any) -> None:
    """Change fields of a `quantization_config`."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"quantization_config": config.get("quantization_config", {}) | settings}))
