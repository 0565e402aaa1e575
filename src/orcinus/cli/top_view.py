"""The picture of `orcinus top`, and the same as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orcinus.cli.server_metrics import ENGINE_UP, ScrapeWindow

LABEL, COLUMN = 15, 11  # characters of a row's name, and of a replica's column
LATENCIES = (("ttft", "time_to_first_token_seconds", (0.5, 0.9, 0.99)), ("tbt", "inter_token_latency_seconds", (0.5, 0.99)))
PROMISES = ("made", "kept", "broken", "refused")
Value = float | None


class TopRow(NamedTuple):
    """A line of the picture: its key in JSON, its name, its value for a replica (None: all), and the value as text."""

    key: str
    name: str
    value: Callable[[str | None], Value]
    shown: Callable[[float], str]


def rows(recent: ScrapeWindow, whole: ScrapeWindow) -> list[TopRow]:
    """All lines: rates of the `recent` window, latencies and shares of the `whole` one."""
    now = recent.now
    found = [
        TopRow("replicas_up", "engines up", lambda r: now.total(ENGINE_UP, r), _count),
        TopRow("running", "running", lambda r: now.total("orcinus_num_requests_running", r), _count),
        TopRow("waiting", "waiting", lambda r: now.total("orcinus_num_requests_waiting", r), _count),
        TopRow("batch_size", "batch", lambda r: recent.mean("orcinus_iteration_requests", r), _number),
        TopRow("budget_use", "token budget", lambda r: recent.mean("orcinus_iteration_budget_use_ratio", r), _percent),
        TopRow("iteration_s", "iteration", lambda r: recent.mean("orcinus_iteration_duration_seconds", r), _seconds),
        TopRow("kv_use", "K/V memory", lambda r: _kv_use(recent, r), _percent),
        TopRow(
            "prefix_hits",
            "prefix hits",
            lambda r: whole.share("orcinus_prefix_cache_hits_total", "orcinus_prefix_cache_queries_total", r),
            _percent,
        ),
        TopRow("generated_per_s", "generated / s", lambda r: recent.rate("orcinus_generation_tokens_total", r), _number),
        TopRow("prompt_per_s", "prompt / s", lambda r: recent.rate("orcinus_prompt_tokens_total", r), _number),
    ]
    for key, metric, quantiles in LATENCIES:
        for q in quantiles:
            p = f"p{round(100 * q)}"
            found.append(TopRow(f"{key}_{p}_s", f"{key.upper()} {p}", _of(whole, metric, q), _seconds))
    found.append(TopRow("preemptions", "preemptions", lambda r: now.total("orcinus_num_preemptions_total", r), _count))
    found.append(TopRow("restarts", "restarts", lambda r: now.total("orcinus_engine_restarts_total", r), _count))
    return found


def _of(whole: ScrapeWindow, metric: str, q: float) -> Callable[[str | None], Value]:
    return lambda replica: whole.quantile(f"orcinus_{metric}", q, replica)


def _kv_use(window: ScrapeWindow, replica: str | None) -> float:
    """The share of K/V blocks in use; of all replicas the fullest one's."""
    replicas = window.now.replicas() if replica is None else [replica]
    return max((window.now.total("orcinus_kv_cache_usage_perc", one) for one in replicas), default=0.0)


def as_json(recent: ScrapeWindow, whole: ScrapeWindow) -> dict[str, Any]:
    """The picture as an object: the server, all replicas together, and each of them."""
    now, found = recent.now, rows(recent, whole)
    return {
        "version": now.fact("orcinus_info", "version"),
        "model": now.fact("orcinus_info", "model"),
        "state": now.state,
        "seconds": recent.now.at - recent.before.at,
        "all": {row.key: row.value(None) for row in found},
        "replicas": {name: {row.key: row.value(name) for row in found} for name in now.replicas()},
        "waiting_because": now.by("orcinus_num_requests_waiting_by_reason", "reason"),
        "promises": promises(recent),
        "ended": now.by("orcinus_request_success_total", "finished_reason"),
        "refused": now.by("orcinus_admission_rejections_total", "reason"),
    }


def promises(window: ScrapeWindow) -> dict[str, float]:
    """Answers with an SLO so far; empty if the server makes no promises."""
    made = {name: window.now.total(f"orcinus_promises_{name}_total") for name in PROMISES}
    return made if made["made"] or made["refused"] else {}


def picture(recent: ScrapeWindow, whole: ScrapeWindow, url: str, width: int, trouble: str | None = None) -> RenderableType:
    """The picture, at most `width` characters wide. `trouble` says why it is not a new one."""
    now = recent.now
    names = now.replicas()
    many = names if len(names) > 1 else []
    room = max(0, (width - LABEL - COLUMN) // COLUMN)
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=bool(many), pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("all" if many else "", justify="right", no_wrap=True)
    for name in many[:room]:
        table.add_column(f"replica {name}", justify="right", no_wrap=True)
    for row in rows(recent, whole):
        table.add_row(row.name, *(_cell(row, name) for name in (None, *many[:room])))
    head = Text.assemble((now.fact("orcinus_info", "model"), "bold"), f"  {url}  ", (now.state, _style(now.state, trouble)))
    lines: list[RenderableType] = [head, Text(trouble, "bold red") if trouble else Text(), table]
    if len(many) > room:
        lines.append(Text(f"{len(many) - room} more replicas do not fit", "dim"))
    lines += [Text(line) for line in _notes(recent)]
    for line in lines:
        if isinstance(line, Text):
            line.truncate(width, overflow="ellipsis")
    return Group(*lines)


def _notes(window: ScrapeWindow) -> Iterable[str]:
    """Lines below the table, as far as there is something to say."""
    now = window.now
    for title, counts in (
        ("waiting because", now.by("orcinus_num_requests_waiting_by_reason", "reason")),
        ("ended", now.by("orcinus_request_success_total", "finished_reason")),
        ("refused", now.by("orcinus_admission_rejections_total", "reason")),
        ("promises", promises(window)),
    ):
        if counts:
            kept = _kept(counts) if title == "promises" else ""
            yield f"{title}: " + ", ".join(f"{name} {count:.0f}" for name, count in counts.items()) + kept


def _kept(counts: dict[str, float]) -> str:
    judged = counts["kept"] + counts["broken"]
    return f" ({100 * counts['kept'] / judged:.1f} % kept)" if judged else ""


def _cell(row: TopRow, replica: str | None) -> str:
    value = row.value(replica)
    return "-" if value is None else row.shown(value)


def _style(state: str, trouble: str | None) -> str:
    return "dim" if trouble else "green" if state == "ready" else "yellow"


def _count(value: float) -> str:
    return f"{value:.0f}"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _seconds(value: float) -> str:
    return f"{1000 * value:.1f} ms" if value < 1 else f"{value:.2f} s"
