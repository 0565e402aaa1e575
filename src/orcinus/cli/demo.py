"""`orcinus demo`: the same requests under two policies, so that a person sees what iteration-level scheduling changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live

from orcinus.cli import demo_view as view
from orcinus.cli.options import takes_engine, takes_sampling
from orcinus.cli.prompts import read_prompts
from orcinus.config import EngineConfig
from orcinus.core.policies.spelled import make_policy
from orcinus.core.request import SamplingParams
from orcinus.errors import RequestFailed
from orcinus.observe.latency import LatencyObserver
from orcinus.observe.slots import SlotObserver

PROMPTS = (  # five at once, two of them much shorter: the situation of Orca's figure 3
    "Tell me a story about a dragon.",
    "Hi",
    "What is Orca?",
    "Hi",
    "Give me a pasta idea.",
)
REFRESH_S = 1 / 12


@dataclass(slots=True)
class Run:
    """One policy's run, while it goes on and afterwards."""

    policy: str
    prompts: tuple[str, ...]
    slots: SlotObserver
    latency: LatencyObserver = field(default_factory=LatencyObserver)
    texts: list[str] = field(default_factory=list)
    token_ids: list[list[int]] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.texts = [""] * len(self.prompts)
        self.token_ids = [[] for _ in self.prompts]
        self.reasons = [None] * len(self.prompts)

    @property
    def held(self) -> bool:
        """Whether the policy hands answers out only when their batch has ended."""
        return make_policy(self.policy).holds_answers

    def index(self, request_id: str) -> int:
        """Which prompt a request is: requests are submitted in the order of the prompts."""
        return list(self.latency.requests).index(request_id)


@takes_sampling(temperature=0.0)
@takes_engine(policy="request-level,orca", max_batch_size=2)
def demo(
    prompts_file: Annotated[
        str | None, typer.Option("--prompts-file", help="Prompts to serve, one per line, instead of the five.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Without the model's chat template.")] = False,
    *,
    config: EngineConfig,
    params: SamplingParams,
) -> None:
    """Serve five prompts at once, with each policy in turn, and compare.

    Slots of the batch are rows, iterations are columns. With request-level (static) batching slots stay empty until the
    longest answer of the batch is done; with iteration-level batching (orca) they are filled again at once.
    Compare others with `--policy a,b`.
    """
    prompts = tuple(read_prompts([], prompts_file)) if prompts_file else PROMPTS
    policies = [name.strip() for name in str(config.policy).split(",")]
    for policy in policies:
        make_policy(policy)  # a misspelled one is reported before the model loads
    from orcinus.llm import LLM

    console = Console(highlight=False)
    one = replace(config, policy=policies[0])
    with LLM(**{name: getattr(one, name) for name in EngineConfig.__dataclass_fields__}) as llm:
        chats = not raw and llm.tokenizer is not None and llm.tokenizer.chats
        ready: list[Any] = [llm.encode_chat([{"role": "user", "content": prompt}]) if chats else prompt for prompt in prompts]
        llm.generate(ready[:1], replace(params, max_tokens=2), progress=False)  # let everything be loaded before clocks run
        console.print(view.title(llm.resolved, len(prompts)), soft_wrap=not console.is_terminal)
        runs = [Run(policy, prompts, SlotObserver(config.max_batch_size)) for policy in policies]
        _show(console, runs, lambda run, watch: _serve(llm, run, ready, params, watch))
    console.print(view.answers(runs[0]))
    console.print(view.comparison(runs, console))
    errors = [error for run in runs for error in run.errors]
    if errors:
        raise RequestFailed(f"{len(errors)} requests failed: {errors[0]}")


def _serve(llm: Any, run: Run, prompts: list[Any], params: SamplingParams, watch: Callable[[], None]) -> None:
    """Serve all prompts with the run's policy; `watch` is called after every piece."""
    llm.engine.use(make_policy(run.policy))
    llm.engine.observers[:] = [run.slots, run.latency]
    for piece in llm.stream(prompts, params):
        run.texts[piece.index] += piece.text
        if piece.token_id is not None:
            run.token_ids[piece.index].append(piece.token_id)
        run.reasons[piece.index] = piece.finish_reason
        run.errors += [piece.error] if piece.error else []
        watch()


def _show(console: Console, runs: list[Run], serve: Callable[[Run, Callable[[], None]], None]) -> None:
    """Serve the runs: live and side by side, live one after the other, or as plain text, as the terminal allows."""
    if not console.is_terminal:
        for run in runs:
            serve(run, lambda: None)
            console.print(view.panel(run, console.width, runs))
    elif console.width >= view.SIDE_BY_SIDE:
        with Live(console=console, auto_refresh=False) as live:
            for run in runs:
                serve(run, _at_times(lambda: live.update(view.side_by_side(runs, console.width), refresh=True)))
            live.update(view.side_by_side(runs, console.width), refresh=True)
    else:
        for run in runs:
            with Live(console=console, auto_refresh=False) as live:
                serve(run, _at_times(lambda: live.update(Group(view.panel(run, console.width, runs)), refresh=True)))  # noqa: B023
                live.update(view.panel(run, console.width, runs), refresh=True)


def _at_times(draw: Callable[[], None]) -> Callable[[], None]:
    """Call `draw` at most a dozen times a second, so that watching takes little from what is watched."""
    last = 0.0

    def maybe() -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= REFRESH_S:
            last = now
            draw()

    return maybe
