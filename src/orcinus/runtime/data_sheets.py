"""The simulator's models and devices, known by data sheet, for plans."""

from __future__ import annotations

from pathlib import Path

import torch

from orcinus.cost.architecture import ARCHITECTURES, Architecture
from orcinus.cost.devices import DEVICES, DeviceSpec
from orcinus.errors import ConfigError
from orcinus.runtime.checkpoint import Checkpoint
from orcinus.runtime.device import DTYPES, Device
from orcinus.runtime.models import DecoderSpec, Rope

ROPE_THETA = 10_000.0


def known_model(name: str | Path) -> Checkpoint | None:
    """A model of the simulator, as a checkpoint without a folder.

    None if the name is unknown, or a folder's.
    """
    found = ARCHITECTURES.get(str(name).lower())
    if found is None or Path(name).exists():
        return None
    return Checkpoint(Path(found.name), f"shape of {found.name}", spec_of(found), torch.bfloat16)


def known_device(name: str) -> DeviceSpec | None:
    """A device of the simulator."""
    return DEVICES.get(name.lower())


def device_of(sheet: DeviceSpec, dtype: str) -> Device:
    """The device of a data sheet, whether or not it is here.

    Raises `ConfigError` for an unknown dtype.
    """
    if dtype == "auto":
        return Device(torch.device("cuda"), torch.bfloat16, "bfloat16 is what a GPU computes fastest")
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}: choose auto, {', '.join(DTYPES)}")
    return Device(torch.device("cuda"), DTYPES[dtype], "asked for")


def spec_of(model: Architecture) -> DecoderSpec:
    """The decoder of a shape, with biases and norms of its family.

    Shapes leave biases and norms out. Gated ones are Llamas, parallel ones Falcons (whose attention and MLP run side by side,
    which changes no size), all others GPT-3 or OPT.
    """
    learned = not (model.gated or model.parallel)
    half = range(0, model.head_dim, 2)
    ropes = () if learned else (Rope(tuple(ROPE_THETA ** (-pair / model.head_dim) for pair in half)),)
    return DecoderSpec(
        vocab_size=model.vocab,
        hidden_size=model.hidden,
        intermediate_size=model.ffn,
        num_heads=model.heads,
        num_kv_heads=model.kv_heads,
        head_dim=model.head_dim,
        max_position_embeddings=model.max_model_len,
        norm="rms" if model.gated else "layer",
        norm_eps=1e-5,
        activation="silu" if model.gated else "gelu_new",
        gated_mlp=model.gated,
        qkv_bias=learned,
        out_bias=learned,
        mlp_bias=learned,
        norm_bias=not model.gated,
        parallel=model.parallel,
        tied=model.tied,
        ropes=ropes,
        learned_positions=learned,
        scales=(model.head_dim**-0.5,) * model.layers,
        windows=(model.window,) * model.layers,
        rotary=(None if learned else 0,) * model.layers,
    )
