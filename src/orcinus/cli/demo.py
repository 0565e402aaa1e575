"""`orcinus demo`: the same requests under two policies, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from orcinus.bench.runner import turns
from orcinus.cli import demo_view as view
from orcinus.cli.demo_comparison import comparison
from orcinus.cli.demo_run import Run, serve
from orcinus.cli.engine import check_takes_text, engine
from orcinus.cli.options import ADAPTERS, takes_engine, takes_sampling
from orcinus.cli.progress import progress
from orcinus.cli.prompts import as_messages, read_prompts
from orcinus.config import EngineConfig
from orcinus.core.component_spec import make_policy
from orcinus.core.sampling_params import SamplingParams
from orcinus.errors import RequestFailed, plural
from orcinus.observe.slots import SlotObserver

SHIPPED = Path(__file__).parent / "demo_prompts"  # files of prompts, by name
PROMPTS = (  # five at once, two of them much shorter: the situation of Orca's figure 3
    "Tell me a story about a dragon.",
    "Hi",
    "What is Orca?",
    "Hi",
    "Give me a pasta idea.",
)
REFRESH_S = 1 / 12
RunOne = Callable[[Run, Callable[[], None]], None]  # serves a run and calls back after every iteration


@takes_sampling(temperature=0.0)
@takes_engine(
    without=ADAPTERS, policy="request-level,orca", kv="reservation", max_batch_size=2, dtype="float32"
)  # exact, so that answers can be compared
def demo(
    prompts_file: Annotated[
        str | None,
        typer.Option(
            "--prompts-file",
            help="Prompts to serve, one per line, instead of the five; `long-prompt`: those that come with Orcinus, where "
            "a long prompt arrives while others read their answers.",
        ),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(min=1, help="How often each policy serves them, in turn: from 7 on, differences can be told from noise."),
    ] = 7,
    raw: Annotated[bool, typer.Option("--raw", help="Without the model's chat template.")] = False,
    *,
    config: EngineConfig,
    params: SamplingParams,
) -> None:
    """Serve five prompts at once, with each policy in turn, and compare.

    Slots of the batch are rows, iterations are columns. With request-level (static) batching slots stay empty until the
    longest answer of the batch is done; with iteration-level batching (orca) they are filled again at once.
    The first round is shown. All rounds are compared, and a ratio is printed only where the difference is beyond the noise.
    Example: `orcinus demo --prompts-file long-prompt --max-batch-size 4 --policy orca,stall-free:token_budget=64`
    """
    prompts = tuple(read_prompts([], _path(prompts_file))) if prompts_file else PROMPTS
    policies = [name.strip() for name in str(config.policy).split(",") if name.strip()] or [""]
    for policy in policies:
        make_policy(policy)  # report a misspelled policy before the model loads
    console = Console(highlight=False)
    check_takes_text(config)
    with engine(replace(config, policy=policies[0])) as llm:
        ready = as_messages(llm, prompts, raw)
        warm_up = replace(params, max_tokens=2)  # load everything before clocks run
        llm.generate(ready, warm_up, progress=False, cache_salt="warm-up")
        console.print(view.title(llm.resolved, len(prompts)), soft_wrap=not console.is_terminal)
        rounds = [
            [Run(policy, prompts, SlotObserver(config.max_batch_size), number) for policy in policies]
            for number in range(repeats)
        ]
        _show(console, rounds[0], lambda run, watch: serve(llm, run, ready, params, watch))
        _again(rounds, lambda run, watch: serve(llm, run, ready, params, watch))
    console.print(view.answers(rounds[0][0]))
    console.print(comparison(rounds, console))
    errors = [error for runs in rounds for run in runs for error in run.errors]
    if errors:
        raise RequestFailed(f"{plural(len(errors), 'request')} failed: {errors[0]}")


def _path(file: str) -> str:
    """A file of prompts that ships with Orcinus, or the file itself."""
    shipped = SHIPPED / f"{file}.txt"
    return str(shipped) if shipped.parent == SHIPPED and shipped.exists() and not Path(file).exists() else file


def _again(rounds: list[list[Run]], run_one: RunOne) -> None:
    """Serve the rounds after the first without showing them.

    Each begins with another policy.
    """
    places = len(rounds[0])
    with progress() as bars:
        done = bars.bar("repeats", len(rounds) - 1)
        for number, place in turns(range(places), len(rounds)):
            if number > 0:
                run_one(rounds[number][place], lambda: None)
                done(number)


def _show(console: Console, runs: list[Run], run_one: RunOne) -> None:
    """Serve the runs, live or as plain text, as the terminal allows."""
    if not console.is_terminal:
        for run in runs:
            run_one(run, lambda: None)
            console.print(view.panel(run, console.width, runs))
    elif console.width >= view.SIDE_BY_SIDE:
        _live(console, partial(view.side_by_side, runs, console.width), runs, run_one)
    else:
        for run in runs:
            _live(console, partial(view.panel, run, console.width, runs), [run], run_one)


def _live(console: Console, draw: Callable[[], RenderableType], runs: list[Run], run_one: RunOne) -> None:
    """Serve the runs, and keep one picture of them up to date."""
    with Live(console=console, auto_refresh=False) as live:
        for run in runs:
            run_one(run, _at_times(lambda: live.update(draw(), refresh=True)))
        live.update(draw(), refresh=True)


def _at_times(draw: Callable[[], None]) -> Callable[[], None]:
    """Call `draw` at most a dozen times a second."""
    last = 0.0

    def maybe() -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= REFRESH_S:
            last = now
            draw()

    return maybe
