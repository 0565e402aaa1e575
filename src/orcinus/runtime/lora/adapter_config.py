"""An adapter's adapter_config.json, as peft writes it: ranks and scales, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

from orcinus.errors import ModelError
from orcinus.model_config import read_object, shown

CONFIG = "adapter_config.json"
MOST_REPEATS = 3  # in the regular expression of a pattern, which a folder brings along: more could match for ever
# Fields that must be off, and what they would mean.
REFUSED = {
    "use_dora": "DoRA, which also rescales the weights",
    "lora_bias": "biases of its own",
    "modules_to_save": "whole modules trained beside the adapter",
    "layer_replication": "repeated layers",
    "trainable_token_indices": "trained embeddings of single tokens",
    "target_parameters": "updates of parameters that are not linear layers",
    "use_qalora": "quantisation-aware LoRA",
    "alora_invocation_tokens": "an adapter that begins inside a prompt (activated LoRA)",
    "arrow_config": "a router between adapters",
    "kasa_config": "KaSA, which also changes the weights",
    "monteclora_config": "Monte Carlo LoRA",
    "use_bdlora": "block-diagonal LoRA",
}
OWN_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # ways to begin that change the base model's own weights


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Ranks and scales of an adapter's modules."""

    base: str | None  # the model it was trained on
    targets: frozenset[str]  # ends of names of the adapted modules; empty if the config gives no plain list
    rank: int
    alpha: float
    ranks: Mapping[str, Any]  # by pattern of a module's name
    alphas: Mapping[str, Any]
    rank_stabilized: bool  # scale by the root of the rank (rsLoRA: Kalajdzievski, 2023)

    def rank_of(self, module: str) -> int:
        """The rank of a module's update."""
        return int(_matching(self.ranks, module, self.rank))

    def scale_of(self, module: str) -> float:
        """The factor of a module's B A x: alpha / rank."""
        alpha, rank = float(_matching(self.alphas, module, self.alpha)), self.rank_of(module)
        return alpha / (sqrt(rank) if self.rank_stabilized else rank)


def read_adapter_config(folder: Path) -> AdapterConfig:
    """The config of an adapter's folder.

    Raises `ModelError` if there is none, or if it says what cannot be served.
    """
    if not (folder / CONFIG).is_file():
        raise ModelError(f"no {CONFIG} in {folder}: give a folder in which peft saved an adapter")
    config = read_object(folder / CONFIG)
    _check_kind(config, folder)
    base = config.get("base_model_name_or_path")
    found = AdapterConfig(
        base=base if isinstance(base, str) and base else None,
        targets=_targets(config),
        rank=_rank(config.get("r", 8), "r", folder),
        alpha=_alpha(config.get("lora_alpha", 8), "lora_alpha", folder),
        ranks=_patterns(config, "rank_pattern", folder),
        alphas=_patterns(config, "alpha_pattern", folder),
        rank_stabilized=config.get("use_rslora") is True,
    )
    for name, value in found.ranks.items():
        _rank(value, f"rank_pattern of {shown(name)}", folder)
    for name, value in found.alphas.items():
        _alpha(value, f"alpha_pattern of {shown(name)}", folder)
    return found


def _check_kind(config: Mapping[str, Any], folder: Path) -> None:
    """Raise `ModelError` for what is no plain LoRA."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"the adapter in {folder} is of type {shown(kind)}: only LORA is supported")
    for name, meaning in REFUSED.items():
        if config.get(name):
            raise ModelError(
                f"{name} of the adapter in {folder} is not supported: {meaning}; merge it into the model with peft"
            )
    if config.get("bias", "none") != "none":
        raise ModelError(
            f"bias {shown(config['bias'])} of the adapter in {folder} is not supported: it changes the model's own biases; "
            "merge it into the model with peft"
        )
    begun = config.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(OWN_BASE):
        raise ModelError(
            f"init_lora_weights {shown(begun)} of the adapter in {folder} is not supported: its base model was changed, too; "
            "convert it to a plain LoRA with peft (path_initial_model_for_weight_conversion)"
        )


def _targets(config: Mapping[str, Any]) -> frozenset[str]:
    """The adapted modules, if each of them is in every layer."""
    names = config.get("target_modules")
    some = any(config.get(name) for name in ("layers_to_transform", "layers_pattern", "exclude_modules"))
    return frozenset(map(str, names)) if isinstance(names, list) and not some else frozenset()


def _rank(value: object, what: str, folder: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{what} of the adapter in {folder} must be a whole number of at least 1, not {shown(value)}")
    return value


def _alpha(value: object, what: str, folder: Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        raise ModelError(f"{what} of the adapter in {folder} must be a finite number, not {shown(value)}")
    return float(value)


def _patterns(config: Mapping[str, Any], name: str, folder: Path) -> Mapping[str, Any]:
    """A table by patterns of modules' names, in peft's form: regular expressions of the end of a name."""
    found = config.get(name) or {}
    if not isinstance(found, Mapping):
        raise ModelError(f"{name} of the adapter in {folder} must be an object, not {shown(found)}")
    for pattern in found:
        if "(" in pattern or sum(pattern.count(sign) for sign in "*+{") > MOST_REPEATS:
            raise ModelError(f"{name} of the adapter in {folder} has {shown(pattern)}, which is not a name or a plain pattern")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ModelError(f"{name} of the adapter in {folder} has {shown(pattern)}: {error}") from None
    return found


def _matching(patterns: Mapping[str, Any], module: str, otherwise: Any) -> Any:
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise
