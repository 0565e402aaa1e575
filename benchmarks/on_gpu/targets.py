"""What was hoped for, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from on_gpu.results import Results, Row


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that should be at least so much."""

    what: str
    section: str
    least: float
    share: bool  # whether it is a fraction
    values: Callable[[Results], Sequence[float]]  # all of them have to reach it; none if it was not measured

    def row(self, results: Results) -> Row:
        """The worst of the values, and how many reach the target."""
        found = self.values(results)
        worst = min(found, default=None)
        reached = sum(value >= self.least for value in found)
        verdict = "not measured" if worst is None else "met" if reached == len(found) else "missed"
        state = results.sections.get(self.section, {}).get("state", "done")
        if found and state != "done":
            verdict += f", but the section was {state}" if state == "cut" else f", but the section {state}"
        return {
            "target": self.what,
            "at_least": self._words(self.least),
            "measured": self._words(worst),
            "reached_by": f"{reached} of {len(found)}" if found else "-",
            "verdict": verdict,
        }

    def _words(self, value: float | None) -> str:
        if value is None:
            return "-"
        return f"{value:.1%}" if self.share else f"{value:,.0f}"


def numbers(rows: Sequence[Row], column: str) -> list[float]:
    """A column, without the cells that hold nothing."""
    return [row[column] for row in rows if row.get(column) is not None]


def decodes(results: Results) -> list[float]:
    rows = results.rows("iteration", "decode iterations")
    return numbers([row for row in rows if row["batch"] >= 64 and row["mode"] == "graphs"], "of_floor_share")


def attention(results: Results) -> list[float]:
    rows = results.rows("attention", "decodes")
    return numbers([row for row in rows if row["context"] >= 2048], "of_copy_share")


def prompts(results: Results) -> list[float]:
    rows = results.rows("iteration", "prompts")
    return numbers([row for row in rows if "8B" in row["model"] and row["mode"] == "graphs"], "of_gemm_share")


def workload(column: str, run: str) -> Callable[[Results], list[float]]:
    """A figure of the runs of that name."""
    return lambda results: numbers([row for row in results.rows("workload", "runs") if row["run"].startswith(run)], column)


TARGETS = (
    Target("decode iterations, batch >= 64: share of the byte floor", "iteration", 0.80, True, decodes),
    Target("decode attention, context >= 2K: share of the copy bandwidth", "attention", 0.75, True, attention),
    Target("workload: share of the time that the device is busy", "workload", 0.975, True, workload("busy_share", "watched")),
    Target(
        "workload: output tokens/s, as built and greedy",
        "workload",
        25_000,
        False,
        workload("tokens_per_s", "as built, greedy"),
    ),
    Target("prompts of Llama-3-8B: share of the measured GEMM rate", "iteration", 0.50, True, prompts),
)


def target_rows(results: Results) -> list[Row]:
    """A row for each target; a toy run is not judged."""
    rows = [target.row(results) for target in TARGETS]
    if results.header.get("toy"):
        for row in rows:
            row["verdict"] = "toy: not measured"
    return rows
