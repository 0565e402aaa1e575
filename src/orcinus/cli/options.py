"""Options that several commands share, made from the fields of the objects they fill."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any

import typer

from orcinus.config import EngineConfig
from orcinus.core.request import SamplingParams

SAMPLING = {  # the parameters worth a flag, but the seed: the engine's own --seed repeats a whole command
    "max_tokens": (int, "Most tokens to generate."),
    "temperature": (float, "0 = always the most likely token; higher = more varied."),
    "top_k": (int, "Choose among the k most likely tokens; 0 = all."),
    "top_p": (float, "Choose among the likeliest tokens that reach this probability."),
    "min_p": (float, "Drop tokens less likely than this share of the likeliest."),
    "repetition_penalty": (float, "Above 1: tokens already seen become less likely."),
    "ignore_eos": (bool, "Go on after the model's end-of-text."),
}


def takes_engine(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for every field of `EngineConfig`, and the config itself as its argument `config`."""
    parameters = [
        _flag(
            f.name,
            str if f.name in ("model", "policy") else _plain(f.type),
            defaults.get(f.name, f.default),
            EngineConfig.doc(f.name),
        )
        for f in fields(EngineConfig)
    ]
    return _extend("config", parameters, EngineConfig)


def takes_sampling(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the sampling flags, and `SamplingParams` as its argument `params`."""
    default = {f.name: f.default for f in fields(SamplingParams)} | defaults
    parameters = [_flag(name, kind, default[name], text) for name, (kind, text) in SAMPLING.items()]
    parameters.append(_flag("stop", list[str], None, "End the text before this string. May be given several times."))
    return _extend("params", parameters, lambda stop, **rest: SamplingParams(stop=tuple(stop or ()), **rest))


def _flag(name: str, kind: Any, default: Any, text: str) -> inspect.Parameter:
    option = typer.Option("--" + name.replace("_", "-"), help=text, show_default=default is not None)
    annotation = Annotated[kind if default is not None else kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _plain(annotation: Any) -> Any:
    """`int | None` -> int, from the text that an annotation is."""
    return {"int": int, "str": str}[str(annotation).split(" ")[0]]


def _extend(
    argument: str, parameters: list[inspect.Parameter], make: Callable[..., Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that swaps the command's parameter `argument` for `parameters`, from which it is made."""
    names = [parameter.name for parameter in parameters]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_flags(**given: Any) -> None:
            command(**{argument: make(**{name: given.pop(name) for name in names})}, **given)

        signature = inspect.signature(command, eval_str=True)
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in signature.parameters.values()
            if parameter.name != argument
        ]
        with_flags.__signature__ = signature.replace(parameters=[*own, *parameters])  # type: ignore[attr-defined]
        return with_flags

    return decorate
