"""How an architecture's config is read, and where the tensors of its checkpoints go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from orcinus.errors import ModelError
from orcinus.model_config import shown
from orcinus.runtime.models.rope import read_ropes
from orcinus.runtime.models.row_order import RowOrder
from orcinus.runtime.models.spec import DecoderSpec

# What stands before a tensor's own name depends on what was saved: a whole model, its base alone (nothing then, as in
# OpenAI's release of GPT-2), the text part of a larger one, or a model wrapped for training.
WRAPPERS = re.compile(r"^(?:(?:model|transformer|gpt_neox|decoder|language_model|base_model|module|_orig_mod)\.)+")

EVERY = ".*."  # the experts in a name
NUMBER = re.compile(r"(?<=\bexperts)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkpoint's tensor goes: a parameter, or a part of one.

    `*` in the name of a parameter stands for the number of an expert. If a tensor's own name has none, the tensor holds the
    parameters of all experts, one after the other along its first dimension.
    """

    parameter: str
    part: int | None = None  # 0, 1, 2 = query, key, value; 0, 1 = gate, up
    transposed: bool = False
    order: RowOrder | None = None  # of the checkpoint's rows; None = as the decoder has them

    @property
    def stacked(self) -> bool:
        """Whether the tensor holds a parameter of all experts."""
        return EVERY in self.parameter

    def parameters(self, num_experts: int) -> list[str]:
        """The parameters in the tensor, in its order."""
        if not self.stacked:
            return [self.parameter]
        return [self.parameter.replace(EVERY, f".{expert}.") for expert in range(num_experts)]


@dataclass(frozen=True, slots=True)
class TensorNames:
    """Names of a checkpoint's tensors, inside `WRAPPERS`, and their places."""

    outer: Mapping[str, Place]  # module name -> place, outside the layers
    layer: re.Pattern[str]  # matches a layer's tensor: (index, module, kind of tensor: weight, bias, scale, …)
    inner: Mapping[str, Place]  # module name inside a layer -> place
    ignored: re.Pattern[str]  # buffers of old checkpoints
    layers: str = "layers"  # what a layer's number follows

    def but(self, inner: Mapping[str, Place], outer: Mapping[str, Place] | None = None) -> TensorNames:
        """The same with other names, which come first."""
        return replace(self, inner=_first(inner, self.inner), outer=_first(outer or {}, self.outer))


def _first(names: Mapping[str, Place], others: Mapping[str, Place]) -> dict[str, Place]:
    return {**names, **{name: place for name, place in others.items() if name not in names}}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a config, as the value of a switch."""

    name: str
    otherwise: Any = None  # if the config has none

    def __call__(self, config: Any) -> Any:
        found = getattr(config, self.name, None)
        return self.otherwise if found is None else found


@dataclass(frozen=True, slots=True)
class Flag:
    """A field that is on or off, as the value of a switch."""

    name: str

    def __call__(self, config: Any) -> bool:
        return bool(getattr(config, self.name, False))


def head_size(config: Any) -> int:
    """Dimensions of each head: `head_dim`, or hidden size / heads."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def equal_heads(config: Any) -> int:
    """Dimensions of each head, where all heads together are as wide as the model. Raises `ModelError`."""
    if config.hidden_size % config.num_attention_heads:
        raise ModelError(f"{config.num_attention_heads} heads cannot share {config.hidden_size} dimensions equally")
    return int(config.hidden_size // config.num_attention_heads)


def no_windows(config: Any) -> tuple[None, ...]:
    """Every token sees all before it; some configs have a window without effect."""
    layers: int = config.num_hidden_layers
    return (None,) * layers


def windows(config: Any) -> tuple[int | None, ...]:
    """Each layer's sliding window, by `layer_types` if the config has it."""
    window = getattr(config, "sliding_window", None)
    if window is not None and window < 1:
        raise ModelError(f"sliding_window must be at least 1, not {window}")
    return tuple(window if kind == "sliding_attention" else None for kind in _layer_types(config, "sliding_attention"))


def _layer_types(config: Any, otherwise: str) -> list[str]:
    types = getattr(config, "layer_types", None) or [otherwise] * config.num_hidden_layers
    unknown = set(types) - {"sliding_attention", "full_attention"}
    if unknown:
        raise ModelError(f"attention of type {', '.join(sorted(unknown))} is not supported")
    return list(types)


def everywhere(config: Any) -> list[bool]:
    """Every layer has rotary positions."""
    return [True] * config.num_hidden_layers


def nowhere(config: Any) -> list[bool]:
    """No layer has rotary positions."""
    return [False] * config.num_hidden_layers


# A plain Llama, by fields of `DecoderSpec`: each a constant, or a function of the config. `rotated` says which layers have
# rotary positions.
LLAMA_SWITCHES: dict[str, Any] = {
    "vocab_size": Field("vocab_size"),
    "hidden_size": Field("hidden_size"),
    "intermediate_size": Field("intermediate_size"),
    "num_heads": Field("num_attention_heads"),
    "num_kv_heads": lambda config: getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
    "head_dim": head_size,
    "max_position_embeddings": Field("max_position_embeddings"),
    "norm": "rms",
    "norm_eps": Field("rms_norm_eps"),
    "activation": Field("hidden_act"),
    "gated_mlp": True,
    "qkv_bias": False,
    "out_bias": False,
    "mlp_bias": False,
    "tied": Flag("tie_word_embeddings"),
    "scales": lambda config: (head_size(config) ** -0.5,) * config.num_hidden_layers,
    "windows": no_windows,
    "rotated": everywhere,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """An architecture: a row of the registry."""

    model_type: str  # in configs
    base: str  # the architecture of a checkpoint without a head; the same model if the head is tied
    examples: str
    names: TensorNames
    switches: Mapping[str, Any]  # that differ from `LLAMA_SWITCHES`
    required: Mapping[str, bool]  # fields of the config that must be on, or off: the decoder cannot do otherwise
    text_type: str | None = None  # model_type of the `text_config`, if the config is of a model that also sees images
    reads: tuple[str, ...] = ()  # fields that functions among the switches read, besides those of every architecture

    @property
    def config_fields(self) -> set[str]:
        """Fields of its config that this architecture alone reads."""
        named = {switch.name for switch in self.switches.values() if isinstance(switch, Field | Flag)}
        return named | self.required.keys() | set(self.reads)

    def read(self, config: Any) -> DecoderSpec:
        """The spec of a config. Raises `ModelError` if it says what the decoder cannot do."""
        for name, wanted in self.required.items():
            if bool(getattr(config, name, wanted)) is not wanted:
                raise ModelError(f"{name} {shown(getattr(config, name))} is not supported in models of type {self.model_type}")
        switches = LLAMA_SWITCHES | dict(self.switches)
        found = {name: value(config) if callable(value) else value for name, value in switches.items()}
        heads, kv_heads = found["num_heads"], found["num_kv_heads"]
        if heads % kv_heads:
            raise ModelError(f"{heads} query heads cannot be shared out to {kv_heads} key/value heads")
        rotated = found.pop("rotated")
        if not any(rotated):
            return DecoderSpec(rotary=(None,) * len(rotated), **found)
        ropes, which = read_ropes(config, found["head_dim"], _layer_types(config, "full_attention"))
        if len(rotated) != len(which):
            raise ModelError(f"there are {len(which)} layers, but lists with an entry per layer have another length")
        rotary = tuple(rope if on else None for rope, on in zip(which, rotated, strict=True))
        return DecoderSpec(ropes=ropes, rotary=rotary, **found)

    def place(self, name: str) -> Place | None:
        """The place of tensor `name`; None if this architecture has none."""
        name = WRAPPERS.sub("", name)
        module, _, kind = name.rpartition(".")
        if match := self.names.layer.fullmatch(name):
            index, module, kind = match.groups()
            place, kind = self._inner(module, kind)
            prefix = f"layers.{index}."
        else:
            place, prefix = self.names.outer.get(module), ""
        if place is None:
            return None
        return Place(f"{prefix}{place.parameter}.{kind}", place.part, place.transposed and kind == "weight", place.order)

    def _inner(self, module: str, kind: str) -> tuple[Place | None, str]:
        """The place of a tensor inside a layer, and the kind of it; stacked experts may have a name without a kind."""
        numbers = NUMBER.search(module)
        place = self.names.inner.get(NUMBER.sub(EVERY, module))
        if numbers is not None:
            return place and replace(place, parameter=place.parameter.replace(EVERY, numbers[0])), kind
        if place is None:
            return self.names.inner.get(f"{module}.{kind}"), "weight"
        return place, kind

    def module(self, name: str) -> Place | None:
        """The place of a module, the same in every layer; None if this architecture has none."""
        name = WRAPPERS.sub("", name)
        match = self.names.layer.fullmatch(f"{name}.weight")
        return self.names.inner.get(match[2]) if match else self.names.outer.get(name)

    def source(self, parameter: str, part: int) -> str:
        """A checkpoint's name for a parameter or its part: `place`, inverted."""
        name, _, kind = parameter.rpartition(".")
        number = NUMBER.search(name)
        name = NUMBER.sub(EVERY, name)
        for module, place in [*self.names.outer.items(), *self.names.inner.items()]:
            if place.part in (None, part) and f".{name}".endswith(f".{place.parameter}"):
                prefix = name.removesuffix(place.parameter)
                found = f"{prefix.replace('layers', self.names.layers)}{module}.{kind}"
                return found if number is None else found.replace(EVERY, number[0])
        return parameter

    def skips(self, name: str) -> bool:
        """Whether a tensor is an old buffer, which may be ignored."""
        return self.names.ignored.fullmatch(WRAPPERS.sub("", name)) is not None
