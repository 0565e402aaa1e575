"""The format of compressed-tensors and llm-compressor: schemes for groups of modules.

A module's own tensors say how it is packed; its scheme says bits, groups and symmetry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orcinus.errors import ModelError
from orcinus.runtime.quant_methods.layout import CodeLayout
from orcinus.runtime.quant_methods.packed import PackedRows
from orcinus.runtime.quant_methods.settings import (
    BITS,
    ModuleRules,
    block_size,
    choice,
    flag,
    group_size,
    names,
    objects,
    unsupported,
)
from orcinus.runtime.quant_methods.unpacked import FLOAT8, INT8, Unpacked, is_narrow
from orcinus.runtime.weight_files import TensorHeader

FORMATS = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mixed-precision", "dense")
STRATEGIES = ("tensor", "channel", "group", "block")
CLASSES = ("Linear", "Conv1D")


@dataclass(frozen=True, slots=True)
class ModuleGroup:
    """A scheme of weights, and the modules that have it."""

    targets: ModuleRules
    everything: bool  # whether a target is a class of modules
    packed: PackedRows | None  # None: floats are not packed
    unpacked: Unpacked


@dataclass(frozen=True, slots=True)
class CompressedTensors:
    """Schemes by modules."""

    groups: tuple[ModuleGroup, ...]
    notes: tuple[str, ...] = ()

    def layout(self, module: str, headers: Mapping[str, TensorHeader]) -> CodeLayout | None:
        packed = "weight_packed" in headers
        if not packed and not is_narrow(headers, INT8 + FLOAT8):
            return None
        named = [group for group in self.groups if group.targets.match(module)]
        found = next(iter(named or [group for group in self.groups if group.everything]), None)
        if found is None:
            raise ModelError(f"{module} is quantized, and no target in config_groups of config.json matches it")
        return found.packed if packed else found.unpacked


def read_compressed_tensors(settings: Mapping[str, Any]) -> CompressedTensors:
    """The schemes of a `quantization_config`. Raises `ModelError` for those that are unknown here."""
    choice(settings, "format", FORMATS, "dense")
    unsupported(settings, "transform_config")
    choice(objects(settings.get("sparsity_config"), "sparsity_config"), "format", ("dense",), "dense")
    listed = objects(settings.get("config_groups"), "config_groups")
    if not listed:
        raise ModelError("config_groups is empty: nothing says how its weights are stored")
    groups, notes = [], []
    for name, value in listed.items():
        group = objects(value, name)
        if group.get("weights") is not None:
            groups.append(_group(group))
        inputs = objects(group.get("input_activations"), "input_activations")
        if inputs and not inputs.get("dynamic"):
            notes.append(
                "its fixed scales of activations are not used: activations keep their numbers, or rows have own scales"
            )
    if settings.get("kv_cache_scheme"):
        notes.append("its kv_cache_scheme is not used: kv_cache_dtype says how keys and values are stored")
    return CompressedTensors(tuple(groups), tuple(dict.fromkeys(notes)))


def _group(group: Mapping[str, Any]) -> ModuleGroup:
    choice(group, "format", FORMATS, "dense")
    targets = names(group, "targets")
    weights = objects(group["weights"], "weights")
    kind = choice(weights, "type", ("int", "float"), "int")
    size = group_size(weights)
    usual = "tensor" if weights.get("group_size") is None else "channel" if size is None else "group"
    strategy = choice(weights, "strategy", STRATEGIES, usual)
    symmetric = flag(weights, "symmetric", True)
    bits = choice(weights, "num_bits", BITS if kind == "int" else (8,), 8)
    if strategy == "group" and size is None:
        raise ModelError("strategy group needs a group_size in config_groups of config.json")
    outputs, group_inputs = 1, size if strategy == "group" else None
    if strategy == "block":
        outputs, group_inputs = block_size(weights.get("block_structure"), "block_structure")
    ordered = choice(weights, "actorder", ("group", "dynamic", "weight", "static", False), False) in ("group", "dynamic")
    packed = PackedRows(bits, group_inputs, symmetric, strategy == "tensor", ordered) if kind == "int" else None
    dtypes = INT8 if kind == "int" else FLOAT8
    unpacked = Unpacked(dtypes, group=group_inputs, block_outputs=outputs, zero_point=not symmetric)
    everything = any(target in CLASSES for target in targets)
    return ModuleGroup(ModuleRules(tuple(target for target in targets if target not in CLASSES)), everything, packed, unpacked)
