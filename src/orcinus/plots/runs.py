"""Runs beside each other: how their latencies are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orcinus.observe.metrics import MetricsObserver
from orcinus.plots.style import picture, plain_log, styles

SHOWN = (
    ("ttft", "time to first token (s)"),
    ("tbt", "time between tokens (s)"),
    ("e2e", "end-to-end latency (s)"),
    ("normalized_latency", "latency per generated token (s)"),
)


def draw_runs(path: str | Path, runs: Sequence[tuple[str, MetricsObserver]]) -> None:
    """Cumulative distributions of four latencies, a line for every run. Raises `ConfigError` if the file cannot be written."""
    with picture(path, 2, 2) as axes:
        for panel, (name, label) in zip(axes.flat, SHOWN, strict=True):
            for (run, metrics), style in zip(runs, styles(), strict=False):
                values, shares = getattr(metrics, name).cumulative()
                if values:
                    panel.step(values, shares, where="post", label=run, **style)
            panel.set(
                xlabel=label, ylabel="share of tokens" if name == "tbt" else "share of requests", xscale="log", ylim=(0, 1)
            )
            plain_log(panel.xaxis)
        axes[0][0].legend(fontsize=8)
