"""Options of several commands, made from fields of dataclasses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from orcinus.cli.answer_form import answer_form
from orcinus.config import EngineConfig
from orcinus.core.sampling_params import SamplingParams
from orcinus.errors import ConfigError

NAMED = "named_model"
ADAPTERS = ("lora", "merge_lora")  # options of commands whose requests choose an adapter
SAMPLING = {  # parameters with a flag; the engine's own --seed replaces the seed: it repeats a whole command
    "temperature": (float, "0 = always the most likely token; higher = more varied."),
    "top_k": (int, "Choose among the k most likely tokens; 0 = all."),
    "top_p": (float, "Choose among the likeliest tokens that reach this probability."),
    "min_p": (float, "Drop tokens less likely than this share of the likeliest."),
    "repetition_penalty": (float, "Above 1: tokens already seen become less likely."),
    "ignore_eos": (bool, "Go on after the model's end-of-text."),
}


def takes_engine(
    *, names_model: bool = False, without: Sequence[str] = (), **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for every field of `EngineConfig` but those `without` which it does.

    The config is its argument `config`.
    With `names_model` the model may also stand right behind the command: `orcinus serve Qwen/Qwen3-0.6B`.
    """
    parameters = [flag for flag in _flags(EngineConfig, defaults) if flag.name not in without]
    if not names_model:
        return _extend("config", parameters, EngineConfig)
    argument = typer.Argument(metavar="MODEL", help="The same as --model.", show_default=False)
    named = inspect.Parameter(NAMED, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, argument])
    return _extend("config", [named, *parameters], _config_of_named_model)


def _config_of_named_model(**options: Any) -> EngineConfig:
    """The config with its model from an argument.

    Raises `ConfigError` if argument and option differ.
    """
    named, flagged = options.pop(NAMED), options["model"]
    if None not in (named, flagged) and named != flagged:
        raise ConfigError(f"two models were given, {named} and --model {flagged}: leave one of them out")
    return EngineConfig(**options | {"model": flagged if named is None else named})


def takes(argument: str, kind: type, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for every field of a dataclass.

    The object is its argument `argument`.
    """
    return _extend(argument, _flags(kind, defaults), kind)


def takes_some(argument: str, kind: type, names: Sequence[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command flags for some fields, and their values by name."""
    return _extend(argument, [flag for flag in _flags(kind, {}) if flag.name in names], dict)


def takes_several(
    argument: str, kind: type, several: Sequence[str], without: Sequence[str] = (), **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command flags that take lists; one config per combination.

    Only the fields in `several` may hold values separated by commas.
    """
    kinds = {f.name: _plain(f.type) for f in fields(kind)}
    flags = [flag for flag in _flags(kind, defaults, several) if flag.name not in without]

    def make(**options: Any) -> list[Any]:
        values = [[None] if options[name] is None else _values(name, kinds[name], str(options[name])) for name in several]
        return [kind(**options | dict(zip(several, chosen, strict=True))) for chosen in product(*values)]

    return _extend(argument, flags, make)


def _values(name: str, kind: type, words: str) -> list[Any]:
    """`8,16` -> [8, 16]. Raises `ConfigError`."""
    try:
        return [kind(word.strip()) for word in words.split(",")]
    except ValueError:
        raise ConfigError(f"--{name.replace('_', '-')} wants numbers with commas between, not {words!r}") from None


def _flags(kind: type, defaults: dict[str, Any], several: Sequence[str] = ()) -> list[inspect.Parameter]:
    """A flag for every field, from its metadata.

    Those in `several` are text.
    """
    flags = []
    for f in fields(kind):
        limits = {name: value for name, value in f.metadata.items() if name not in ("doc", "short")}
        names = [f.metadata["short"]] if "short" in f.metadata else []
        default = defaults.get(f.name, f.default)
        plain = str if f.name in several else _plain(f.type)
        default = default or None if plain == list[str] else default
        shown = default if plain is not str or default is None else str(default)
        flags.append(_flag(f.name, plain, shown, f.metadata["doc"], *names, **limits))
    return flags


def takes_sampling(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the sampling flags, and `SamplingParams` as its argument `params`."""
    default: dict[str, Any] = {f.name: f.default for f in fields(SamplingParams)} | defaults
    flags = [_flag(name, kind, default[name], text) for name, (kind, text) in SAMPLING.items()]
    most = default["max_tokens"]
    length = _flag("max_tokens", int, None, f"Most tokens to generate. Without it {most}, or what the context still holds.")
    stop = _flag("stop", list[str], None, "End the text before this string. May be given several times.")

    def make(max_tokens: int | None, stop: list[str] | None, **rest: Any) -> SamplingParams:
        return SamplingParams(max_tokens=most if max_tokens is None else max_tokens, stop=tuple(stop or ()), **rest)

    return _extend("params", [length, *flags, stop], make)


def takes_answer_form() -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command flags for the form of its answers.

    Its argument `form` is a `StructuredOutputs`, or None for any text.
    """
    flags = [
        _flag("json_schema", str, None, "Answer with JSON of this schema: a file, or the schema itself."),
        _flag("regex", str, None, "Answer with text that matches this regular expression as a whole."),
        _flag("choice", list[str], None, "Answer with one of these texts: give the flag once for each."),
        _flag("grammar", str, None, "Answer with text of the grammar in this file, in Lark's or llama.cpp's notation."),
    ]
    return _extend("form", flags, answer_form)


def _flag(name: str, kind: Any, default: Any, text: str, *names: str, **limits: Any) -> inspect.Parameter:
    option = typer.Option("--" + name.replace("_", "-"), *names, help=text, show_default=default is not None, **limits)
    annotation = Annotated[kind if default is not None else kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _plain(annotation: Any) -> Any:
    """`int | None` -> int, from an annotation's text; str if unknown."""
    kinds = {"int": int, "float": float, "bool": bool, "Path": Path, "Adapters": list[str]}
    return kinds.get(str(annotation).split(" ")[0], str)


def _extend(
    argument: str, parameters: list[inspect.Parameter], make: Callable[..., Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that makes the parameter `argument` from `parameters`."""
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
