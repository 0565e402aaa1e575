"""Many simulations, over a product of settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from orcinus.core.policies import POLICIES
from orcinus.core.spelled import options_of
from orcinus.errors import ConfigError
from orcinus.sim.capacity import at_rate
from orcinus.sim.config import SimulationConfig
from orcinus.sim.parallel import in_parallel
from orcinus.sim.record import outcome_record
from orcinus.sim.run import simulate

CHUNKS = ("chunk_size", "token_budget")  # what policies call the tokens of an iteration that they aim at


def sweep(
    config: SimulationConfig,
    axes: Mapping[str, Sequence[Any]],
    *,
    workers: int | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Simulate every point of `points`, in parallel; returns what `outcome_record` says of each, and its config.

    A point that is impossible, because the model does not fit for example, has an `error` instead of metrics. `watch` hears
    how many are done, of how many. Raises `ConfigError` for axes that there are not.
    """
    found, results = points(config, axes), []
    for result in in_parallel(_point, found, workers):
        results.append(result)
        if watch is not None:
            watch(len(results), len(found))
    return results


def points(config: SimulationConfig, axes: Mapping[str, Sequence[Any]]) -> list[SimulationConfig]:
    """The product of the axes, the last one fastest, without repetitions.

    An axis is a field of `SimulationConfig`, or `rate` of the arrivals, or `chunk_size` of the policy: of SARATHI's chunks
    or of stall-free's budget. Policies that know neither are simulated once, not once for every size. Raises `ConfigError`.
    """
    known = {field.name for field in fields(config)} | {"rate", "chunk_size"}
    for name, values in axes.items():
        if name not in known:
            raise ConfigError(f"cannot sweep over {name!r}: choose {', '.join(sorted(known))}")
        if not values:
            raise ConfigError(f"the axis {name!r} has no values")
    chosen = (_at(config, dict(zip(axes, values, strict=True))) for values in product(*axes.values()))
    return list(dict.fromkeys(chosen))


def _at(config: SimulationConfig, values: dict[str, Any]) -> SimulationConfig:
    rate, chunk_size = values.pop("rate", None), values.pop("chunk_size", None)
    config = replace(config, **values)
    if rate is not None:
        config = at_rate(config, float(rate))
    return config if chunk_size is None else _chunked(config, chunk_size)


def _chunked(config: SimulationConfig, size: int) -> SimulationConfig:
    """The config with another chunk size in its policy, if that has one."""
    name, *options = config.policy.split(":")
    known = options_of(POLICIES.get(name))
    option = next((each for each in CHUNKS if each in known), None)
    if option is None:
        return config
    kept = [each for each in options if not each.startswith(f"{option}=")]
    return replace(config, paper=None, policy=":".join([name, f"{option}={size}", *kept]))


def _point(config: SimulationConfig) -> dict[str, Any]:
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}
    try:
        return {"config": plain, **outcome_record(simulate(config))}
    except ConfigError as error:
        return {"config": plain, "error": str(error)}
