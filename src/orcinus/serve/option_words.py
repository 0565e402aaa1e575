"""Options of an engine and its server as words, for launchers other than our command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from orcinus.config import EngineConfig
from orcinus.errors import ConfigError
from orcinus.serve.config import ServerConfig
from orcinus.serve.engines import Asked
from orcinus.sim.live_config import LiveConfig

NOT_HERE = ("host", "port", "access_log", "drain_delay", "replace")  # the launcher listens, replaces servers, and has a log
KINDS = {"int": int, "float": float}


def options_of(args: Mapping[str, Any]) -> tuple[Asked, ServerConfig]:
    """Engine and server that these options ask for; values may be words. Raises `ConfigError`."""
    args = dict(args)
    simulated = args.pop("simulate", None)
    kind = EngineConfig if simulated is None else LiveConfig
    of_server = {f.name: str(f.type) for f in fields(ServerConfig) if f.name not in NOT_HERE}
    of_engine = {f.name: str(f.type) for f in fields(kind) if kind is EngineConfig or f.name in LiveConfig.options()}
    for name in args:
        if name in NOT_HERE:
            raise ConfigError(f"{name} is for orcinus serve: here the launcher decides, so leave it out")
        if name not in of_server and name not in of_engine:
            known = ", ".join(sorted([*of_server, *of_engine, "simulate"]))
            raise ConfigError(f"unknown option {name!r}: choose among {known}")
    server = ServerConfig(**{name: typed(name, of_server[name], value) for name, value in args.items() if name in of_server})
    engine = {name: typed(name, of_engine[name], value) for name, value in args.items() if name in of_engine}
    return kind(**engine | ({} if simulated is None else {"model": simulated})), server


def typed(name: str, annotation: str, value: Any) -> Any:
    """The value as a field of this type, if it is a word. Raises `ConfigError`."""
    kind = annotation.split(" ")[0]
    if not isinstance(value, str):
        return value
    if kind == "bool":
        if value.lower() not in ("true", "false"):
            raise ConfigError(f"{name} must be true or false, not {value!r}")
        return value.lower() == "true"
    try:
        return KINDS.get(kind, str)(value)
    except ValueError:
        raise ConfigError(f"{name} must be a number, not {value!r}") from None
