"""The overheads of serving systems, fitted to what papers published."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from importlib import resources
from typing import Any

from orcinus.core.component_spec import make
from orcinus.cost.devices import DeviceSpec
from orcinus.errors import ConfigError

SHARES = ("prefill_attention", "decode_attention", "matmul", "streaming")


@dataclass(frozen=True, slots=True)
class Software:
    """Constants of a serving system's code. Raises `ConfigError` for impossible values."""

    iteration: float = 0.002  # seconds of every iteration in every stage: planning, launching, reading the result
    request: float = 2e-5  # seconds of every request in every iteration
    layer: float = 0.0  # seconds of every layer in every iteration: launching its kernels one by one
    request_layer: float = 0.0  # seconds of every request in every layer: attention kernels that run one by one
    prompt_token: float = 0.0  # seconds of every token of the longest prompt in every layer: kernels that go token by token
    reduce: float = 0.0  # seconds of every sum over devices, besides what the network takes
    hand_over: float = 0.0  # seconds of every passage between two pipeline stages, besides the transfer
    jitter: float = 0.0  # standard deviation of the seconds of a stage in an iteration, as a share of them
    prefill_attention: float = 0.45  # share of peak FLOP/s that the attention of prompts reaches
    decode_attention: float = 0.6  # share of peak bandwidth at which decodes read keys and values
    query_reads: float | None = None  # rate at which every query head reads keys and values for itself, in multiples of the
    # peak bandwidth (a cache serves some of it); None: the query heads of a group share one read
    attention_kernel: float = 0.0  # seconds of every chunk of a prompt in every layer, besides computing
    attention_rows: int | None = None  # tokens of a prompt in one thread block of its kernel; None: it fills any device
    matmul: float | None = None  # share of peak FLOP/s of its linear layers, if not the device's usual one
    streaming: float | None = None  # share of peak bandwidth at which it reads weights, likewise
    elementwise: float = 1.0  # norms, sums and activations, in multiples of what the kernels measured on the device take

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None and each.default is None:
                continue
            if each.name == "attention_rows":
                valid, rule = isinstance(value, int) and value >= 1, "a whole number of at least 1"
            elif each.name == "jitter":
                valid, rule = isinstance(value, (int, float)) and 0 <= value <= 1, "at least 0 and at most 1"
            elif each.name == "query_reads":
                valid, rule = isinstance(value, (int, float)) and value > 0, "above 0"
            elif each.name in SHARES:
                valid, rule = isinstance(value, (int, float)) and 0 < value <= 1, "above 0 and at most 1"
            else:
                valid, rule = isinstance(value, (int, float)) and value >= 0, "at least 0 seconds"
            if not valid:
                raise ConfigError(f"{each.name} of a serving system's software must be {rule}, not {value!r}")

    def on(self, device: DeviceSpec) -> DeviceSpec:
        """The device with this software's efficiency."""
        reached = device.efficiency
        return replace(
            device,
            efficiency=replace(
                reached,
                flops=reached.flops if self.matmul is None else self.matmul,
                bandwidth=reached.bandwidth if self.streaming is None else self.streaming,
            ),
        )


def known_software() -> dict[str, Any]:
    """The fitted constants of each serving system, with sources and residuals."""
    folder = resources.files("orcinus.cost.constants").joinpath("software")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return {file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8")) for file in files}


def find_software(spelled: str) -> Software:
    """A serving system's constants, with changes: `orca:request=0.0001`.

    `default`, or the name of a fitted system. Raises `ConfigError`.
    """
    name, colon, options = spelled.partition(":")
    known = known_software()
    if name != "default" and name not in known:
        raise ConfigError(f"unknown software {name!r}: choose default, {', '.join(known)}")
    base = Software() if name == "default" else Software(**known[name]["constants"])
    if not colon:
        return base
    changed = make("software", {name: Software}, spelled)
    named = [option.partition("=")[0] for option in options.split(":")]
    return replace(base, **{option: getattr(changed, option) for option in named})
