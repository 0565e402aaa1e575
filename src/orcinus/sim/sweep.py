"""Simulations over a product of settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import product
from typing import Any

from orcinus.core.component_spec import options_of, with_option
from orcinus.core.policies import POLICIES
from orcinus.errors import ConfigError
from orcinus.sim.capacity import at_rate, own_rate
from orcinus.sim.config import SimulationConfig
from orcinus.sim.parallel import in_parallel
from orcinus.sim.record import config_record, outcome_record
from orcinus.sim.simulate import simulate
from orcinus.workload.lengths import LENGTHS
from orcinus.workload.workload import OWN_TIMES

CHUNKS = ("chunk_size", "token_budget")  # policies' options for the tokens of an iteration
INSIDE = {"rate": "float", "chunk_size": "int", "ratio": "float"}  # axes that stand inside other settings, and their kinds


def sweep(
    config: SimulationConfig,
    axes: Mapping[str, Sequence[Any]],
    *,
    workers: int | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Records of all `points`, simulated in parallel.

    Each is an `outcome_record` with its config and `settings`. An impossible point, for example a model that does not fit, has
    an `error` instead of metrics. `watch` hears how many are done, of how many. Raises `ConfigError` for unknown axes.
    """
    found, results = points(config, axes), []
    for result in in_parallel(partial(_point, axes=tuple(axes)), found, workers):
        results.append(result)
        if watch is not None:
            watch(len(results), len(found))
    return results


def points(config: SimulationConfig, axes: Mapping[str, Sequence[Any]]) -> list[SimulationConfig]:
    """The product of the axes, the last one fastest, without duplicates.

    An axis is a field of `SimulationConfig`; `rate` of the arrivals; `ratio` of prompt to output tokens, for lengths that have
    it; or `chunk_size`: SARATHI's chunk or stall-free's budget. A policy without a chunk size is simulated once, not once per
    size. Raises `ConfigError`.
    """
    known = {field.name for field in fields(config)} | set(INSIDE)
    for name, values in axes.items():
        if name not in known:
            raise ConfigError(f"cannot sweep over {name!r}: choose {', '.join(sorted(known))}")
        if not values:
            raise ConfigError(f"the axis {name!r} has no values")
    chosen = (_at(config, dict(zip(axes, values, strict=True))) for values in product(*axes.values()))
    return list(dict.fromkeys(chosen))


def _at(config: SimulationConfig, values: dict[str, Any]) -> SimulationConfig:
    rate, ratio, chunk_size = (values.pop(name, None) for name in ("rate", "ratio", "chunk_size"))
    if "paper" in values:  # it says both of these
        values = {"policy": "", "kv": ""} | values
    config = replace(config, **values)
    if rate is not None:
        config = at_rate(config, float(rate))
    if ratio is not None:
        config = _split(config, float(ratio))
    return config if chunk_size is None else _chunked(config, chunk_size)


def _split(config: SimulationConfig, ratio: float) -> SimulationConfig:
    """The same lengths at another prompt-to-output ratio. Raises `ConfigError`."""
    name = config.lengths.split(":")[0]
    if "ratio" not in options_of(LENGTHS.get(name)):
        raise ConfigError(f"the lengths {name!r} have no ratio of prompt to output to vary: use pd or sarathi-zipf")
    return replace(config, lengths=with_option(config.lengths, "ratio", repr(ratio)))


def _chunked(config: SimulationConfig, size: int) -> SimulationConfig:
    """The config with another chunk size, if its policy has one."""
    known = options_of(POLICIES.get(config.policy.split(":")[0]))
    option = next((each for each in CHUNKS if each in known), None)
    if option is None:
        return config
    return replace(config, paper=None, policy=with_option(config.policy, option, str(size)))


def settings(config: SimulationConfig, axes: Sequence[str]) -> dict[str, str]:
    """A point's values on the axes, as text; a dash without one."""
    plain = config_record(config)
    inside = {
        "rate": lambda: f"{own_rate(config):.6g}" if config.process == OWN_TIMES else _option(config.process, "rate"),
        "ratio": lambda: _option(config.lengths, "ratio"),
        "chunk_size": lambda: _option(config.policy, *CHUNKS),
    }
    return {axis: inside[axis]() if axis in inside else str(plain[axis]) for axis in axes}


def _option(spelled: str, *names: str) -> str:
    """The first of these options that the policy has, or a dash."""
    options = dict(part.split("=", 1) for part in spelled.split(":")[1:] if "=" in part)
    return next((value for name, value in options.items() if name in names), "-")


def _point(config: SimulationConfig, axes: Sequence[str]) -> dict[str, Any]:
    about = {"config": config_record(config), "settings": settings(config, axes)}
    try:
        return {**about, **outcome_record(simulate(config))}
    except ConfigError as error:
        return {**about, "error": str(error)}
