"""Options that are on or off, checked against the device and the model."""

from __future__ import annotations

from orcinus.config import EngineConfig
from orcinus.errors import ConfigError
from orcinus.runtime.device import Device
from orcinus.runtime.models import DecoderSpec
from orcinus.runtime.packed_weights import packed_format
from orcinus.runtime.panel_weights import PanelWeight
from orcinus.runtime.transformers_backend import TransformersSpec


def check_switches(config: EngineConfig, device: Device, attention: str, spec: DecoderSpec) -> None:
    """Raise `ConfigError` for a switch that means nothing here."""
    if config.enforce_eager and device.device.type == "cpu":
        raise ConfigError("enforce_eager is for GPUs, where it turns CUDA graphs off: leave it out on a CPU")
    if config.speculative != "none" and device.device.type == "cuda":
        raise ConfigError("speculative is for CPUs: on a GPU it is untried, and would end overlap; leave it out")
    if not config.deterministic:
        return
    if device.device.type != "cpu":
        raise ConfigError("deterministic is for CPUs: leave it out on a GPU")
    if attention != "cpu":
        raise ConfigError(f"deterministic needs attention cpu, not {attention!r}: leave one of them out")
    if config.tp * config.pp > 1:
        raise ConfigError("deterministic is for a model on one device: leave out tp and pp, or deterministic")
    if isinstance(spec, TransformersSpec):  # torch computes the last few numbers of a tensor in another way than the rest
        raise ConfigError(
            f"deterministic needs operators of our own, and the layers of {spec.architecture} are transformers': leave it out"
        )


def is_deterministic(config: EngineConfig, device: Device, attention: str, spec: DecoderSpec) -> bool:
    """Whether scheduling changes no bit: wherever that is free, and where the config asks for it."""
    ours = attention == "cpu" and config.tp * config.pp == 1 and not isinstance(spec, TransformersSpec)
    return config.deterministic or (ours and packed_format(device.device.type, device.dtype) is PanelWeight)


def check_model_impl(config: EngineConfig, spec: DecoderSpec, *, shape_only: bool) -> None:
    """Raise `ConfigError` if layers cannot be transformers', or be adapted, as the config asks."""
    needs_files = {"model_impl transformers": config.model_impl == "transformers", "lora": bool(config.lora)}
    for option, asked in needs_files.items():
        if shape_only and asked:
            raise ConfigError(f"{option} needs the files of a model, and {config.model} is one of the simulator's")
    if isinstance(spec, TransformersSpec) and config.lora:
        raise ConfigError(
            f"lora adapts layers of our own, and those of {spec.architecture} are transformers': leave it out, or merge the "
            "adapter into the weights with peft first"
        )
