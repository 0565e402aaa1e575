"""A result in a terminal: its tables, cautions and doubts."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from orcinus.bench.result import Result
from orcinus.bench.summary import counted, same_outputs
from orcinus.bench.validity import Doubt, cached_shares, cautions, doubts
from orcinus.cli.bench.view import print_sides
from orcinus.cli.bench.view_rates import print_rates
from orcinus.errors import plural
from orcinus.observe.interval import median_interval

WIDTH = 170  # width of a pipe, which has none of its own
LEAST = 90  # for narrower terminals: wrapped lines are better than cut names
ROOM = 140  # characters of an interval beside its median


def print_result(console: Console, result: Result) -> None:
    """Print all of a result."""
    if not console.is_terminal or console.width < LEAST:
        console = Console(width=LEAST if console.is_terminal else WIDTH, highlight=False)
    rates = result.kind in ("sweep", "capacity")
    brief = rates or console.width < ROOM
    console.print(heading(result), "", soft_wrap=True)
    if rates:
        print_rates(console, result)
    else:
        print_sides(console, result, brief)
    for line in _notes(result, brief):
        console.print(line, soft_wrap=True)
    for caution in cautions(result):
        print_doubt(console, "-", caution)
    for doubt in doubts(result):
        print_doubt(console, "[bold red]![/]", doubt)


def print_doubt(console: Console, mark: str, doubt: Doubt) -> None:
    """Print a doubt, and the evidence for it."""
    console.print(f"{mark} {escape('; '.join((doubt.what, *doubt.details)))}", soft_wrap=True)


def heading(result: Result) -> str:
    """What was measured, and where."""
    work, machine = result.work, result.machine
    where = ", ".join([machine.processor, plural(machine.cores, "core"), *machine.gpus])
    tokens = f"{work.prompt_tokens} prompt and {work.output_tokens} output tokens"
    requests = plural(work.requests, "request")
    return f"[bold]{escape(work.model)}[/] on {escape(where)}\n{requests}, {escape(work.workload)}: {tokens}"


def _notes(result: Result, brief: bool) -> list[str]:
    counts = [len(counted(side)) for side in result.sides] or [0]
    few, most = min(counts), max(counts)
    notes = []
    if few > 1:
        level = median_interval([float(number) for number in range(few)]).level
        said = f"{few}" if few == most else f"{few} to {most}"
        short = "" if level >= 0.9 else "; from 5 repeats on it is more than 90 %"
        notes.append(f"Medians of {said} repeats. The true ones lie within their intervals with {level:.0%}{short}.")
    if brief and most > 1:
        where = "orcinus bench report draws" if result.kind in ("sweep", "capacity") else f"terminals of {ROOM} characters show"
        notes.append(f"The intervals are left out here; {where} them.")
    if result.objectives and result.kind != "capacity":
        kept = ", ".join(f"{name} <= {seconds:g} s" for name, seconds in result.objectives.items())
        notes.append(f"Goodput: requests per second with {kept}.")
    return notes + _client(result) + _outputs(result, counts)


def _client(result: Result) -> list[str]:
    """How late the client was, in the worst case."""
    delays = [repeat.client for side in result.sides for repeat in side.repeats if repeat.client is not None]
    if not delays:
        return []
    sent, loop = max(each.send_p99 for each in delays), max(each.loop_p99 for each in delays)
    said = f"The client's own delay (P99): sent {sent * 1e3:.2g} ms late, read {loop * 1e3:.2g} ms late."
    served = [side for side in result.sides if any(each.outcome == "ok" for one in side.repeats for each in one.requests)]
    counted = sorted({str(side.settings.get("tokens_counted_by")) for side in served})
    shares = [share for share in cached_shares(result).values() if share is not None]
    return [
        f"{said} Tokens were counted by {', '.join(counted)}." if counted else said,
        f"Prompt tokens from the server's prefix cache: {f'at most {max(shares):.1%} of a run' if shares else 'unknown'}.",
    ]


def _outputs(result: Result, counts: Sequence[int]) -> list[str]:
    """A note on equal outputs, or on why outputs may differ."""
    same = same_outputs(result.sides)
    if same is None or sum(counts) < 2:
        return []
    if same:
        return ["All outputs are the same, token by token."]
    exact = all(side.settings.get("dtype") == "float32" for side in result.sides)
    return [] if exact else ["Below float32 tokens can tie, and batches of other sizes break ties differently."]
