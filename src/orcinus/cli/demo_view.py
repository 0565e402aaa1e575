"""The demo's chart of slots by iterations, and its texts."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from orcinus.cli.demo_run import Run
from orcinus.config import Resolved
from orcinus.errors import plural
from orcinus.observe.slots import Cell, Phase

SIDE_BY_SIDE = 120  # terminals at least this wide show two policies side by side
STYLE = {Phase.PREFILL: "bold black on yellow", Phase.DECODE: "white on blue"}
IDLE = "."
LABEL = "slot 99 "
LONGEST_PROMPT = 40  # characters shown of a prompt


def letter(index: int) -> str:
    """The letter of a request: A to Z, then A again."""
    return chr(ord("A") + index % 26)


def title(resolved: Resolved, count: int) -> Text:
    """The title: requests to serve, and how to read the chart."""
    size = f"{resolved.num_parameters / 1e6:.1f} M parameters, {resolved.dtype}, {resolved.device}"
    requests = f"{plural(count, 'request')} at once, at most {resolved.limits.max_batch_size} in a batch"
    text = Text(f"{requests}. {resolved.architecture}, {size}.\n")
    text.append("A", STYLE[Phase.PREFILL])
    text.append(" prefill of request A   ")
    text.append("a", STYLE[Phase.DECODE])
    text.append(f" decode: one token of its answer   {IDLE} idle slot")
    return text


def _short(prompt: str) -> str:
    """A prompt's short form: the beginning of a long one."""
    return prompt if len(prompt) <= LONGEST_PROMPT else f"{prompt[:LONGEST_PROMPT]}... ({len(prompt)} characters)"


def side_by_side(runs: Sequence[Run], width: int) -> RenderableType:
    """All runs in one row, equally wide."""
    grid = Table.grid(expand=True)
    for _ in runs:
        grid.add_column(ratio=1)
    grid.add_row(*(panel(run, width // len(runs), runs) for run in runs))
    return grid


def panel(run: Run, width: int, runs: Sequence[Run]) -> RenderableType:
    """A run's chart, then a line per request with its last words."""
    inner = max(20, width - 4)
    per_column = _iterations_per_column(runs, inner - len(LABEL))
    lines: list[RenderableType] = [*_chart(run, per_column), Text()]
    lines += [_text_line(run, index, inner) for index in range(len(run.prompts))]
    scale = plural(len(run.slots.columns), "iteration") + (f", {per_column} per column" if per_column > 1 else "")
    return Panel(Group(*lines), title=f"{run.policy}: {scale}", title_align="left", box=box.ASCII2, width=width)


def _iterations_per_column(runs: Sequence[Run], room: int) -> int:
    """Iterations per column at which the longest run fits."""
    return max(1, -(-max(len(run.slots.columns) for run in runs) // max(1, room)))


def _chart(run: Run, per_column: int) -> list[Text]:
    rows = []
    for slot in range(run.slots.num_slots):
        row = Text(f"slot {slot + 1}".ljust(len(LABEL)))
        history = [column[slot] for column in run.slots.columns]
        for start in range(0, len(history), per_column):
            cell = _summary(history[start : start + per_column])
            if cell is None:
                row.append(IDLE, "dim")
            else:
                name = letter(run.index(cell.request_id))
                row.append(name if cell.phase is Phase.PREFILL else name.lower(), STYLE[cell.phase])
        rows.append(row)
    return rows


def _summary(cells: Sequence[Cell | None]) -> Cell | None:
    """The phase shown where a column covers several iterations; prefill wins."""
    prefill = next((cell for cell in cells if cell and cell.phase is Phase.PREFILL), None)
    return prefill or max(cells, key=cells.count)


def _text_line(run: Run, index: int, width: int) -> Text:
    text = " ".join(run.texts[index].split())
    head = f"{letter(index)} {_short(run.prompts[index])} "
    mark = "> " if run.reasons[index] is None else "= "
    room = width - len(head) - len(mark)
    shown = text if len(text) <= room else ("..." + text[len(text) - room + 3 :] if room > 10 else "")
    line = Text.assemble((head, "bold"), (mark, "dim"), shown)
    line.truncate(width)
    return line


def answers(run: Run) -> RenderableType:
    """The full texts."""
    lines = []
    for index, (prompt, text) in enumerate(zip(run.prompts, run.texts, strict=True)):
        lines.append(Text.assemble((f"{letter(index)} {_short(prompt)}\n", "bold"), text.strip(), "\n"))
    return Group(*lines)
