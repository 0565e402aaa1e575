"""All rows of docs/peers.md: many workloads and models through Orcinus and other engines, in one command.

    python benchmarks/peers/rows.py --write docs/peers.md [--minutes 25] [--repeats 3] [--only float32]
        [--without vllm]

Rows with the same model and limits are measured by peers that are loaded once. The order is that of weight: when the minutes
are over, no further row begins, and the page says which are missing. After each row the page is written again.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peers import BASE, PEERS
from rich.console import Console
from run import measure_each, parse
from table import METRIC, latency_cells, ratio

from orcinus import interrupt
from orcinus.bench.result import Result
from orcinus.bench.summary import summarize
from orcinus.errors import ConfigError

console = Console(stderr=True, highlight=False)
MARKS = "<!-- begin rows -->\n", "<!-- end rows -->\n"
TWO, THREE = "--peers orcinus,vllm", "--peers orcinus,vllm,llama.cpp"
LONG = "--workload fixed:tokens=2048,fixed:tokens=1 --requests 4"
CONTEXT = "--workload fixed:tokens=2048,fixed:tokens=64 --requests 4"
# Groups of rows: options that decide what is loaded, and the rows' own.
GROUPS: Sequence[tuple[str, Sequence[str]]] = (
    (
        "--dtype float32",
        (
            f"{TWO} --workload prefill-only --requests 16",
            f"{TWO} {LONG}",
            f"{THREE} --workload mixed --requests 16",
            f"{TWO} --workload short_long_mix --requests 16",
            f"{TWO} --workload equal_size --requests 16",
            f"{TWO} --workload decode-only --requests 16",
            f"{TWO} {CONTEXT}",
        ),
    ),
    (
        "--dtype bfloat16",
        (
            f"{TWO} --workload prefill-only --requests 16",
            f"{TWO} {LONG}",
            f"{THREE} --workload mixed --requests 16",
            f"{TWO} {CONTEXT}",
        ),
    ),
    ("--dtype bfloat16 --geometry qwen3-0.6b", (f"{THREE} --workload mixed --requests 8",)),
    (
        "--dtype bfloat16 --geometry qwen3-0.6b --quantization int4",
        ("--peers orcinus,llama.cpp --workload uniform:low=32:high=128,fixed:tokens=64 --requests 8",),
    ),
    (
        "--dtype bfloat16 --geometry qwen3-0.6b --quantization int8",
        ("--peers orcinus,llama.cpp --workload uniform:low=32:high=128,fixed:tokens=64 --requests 8",),
    ),
    (
        "--dtype bfloat16 --geometry qwen3-0.6b --quantization int4 --max-batch-size 1",
        ("--peers orcinus,llama.cpp --workload fixed:tokens=32,fixed:tokens=64 --requests 2",),
    ),
    (
        "--dtype bfloat16 --geometry qwen3-0.6b --quantization int8 --max-batch-size 1",
        ("--peers orcinus,llama.cpp --workload fixed:tokens=32,fixed:tokens=64 --requests 2",),
    ),
    (
        "--dtype bfloat16 --geometry qwen3-0.6b --quantization int4 --max-batch-size 16",
        ("--peers orcinus,llama.cpp --workload uniform:low=32:high=128,fixed:tokens=64 --requests 16",),
    ),
    (
        "--dtype bfloat16 --geometry qwen3-0.6b --quantization int8 --max-batch-size 16",
        ("--peers orcinus,llama.cpp --workload uniform:low=32:high=128,fixed:tokens=64 --requests 16",),
    ),
    ("--dtype bfloat16 --max-batch-size 1", (f"{TWO} --workload decode-only --requests 4",)),
    ("--dtype float32 --max-batch-size 32", (f"{TWO} --workload decode-only --requests 32",)),
    ("--dtype bfloat16 --max-batch-size 16", (f"{TWO} --workload mixed --requests 32",)),
    ("--dtype float32", ("--peers orcinus,hf-generate,hf-continuous --workload mixed --requests 16",)),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A measured row: its words, and its result."""

    words: str
    result: Result


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 if a row or a peer is missing, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="put the table between this page's marks, or into a new file"
    )
    parser.add_argument("--minutes", type=float, default=25.0, help="no row begins after these")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", metavar="WORDS", help="rows whose options have these words alone")
    others = [name for name in PEERS if name != BASE]
    parser.add_argument("--without", default="", choices=others, help="leave out this engine, and rows that have no other one")
    options = parser.parse_args(words)
    interrupt.raise_exception()
    chosen = chosen_rows(options.only, options.without)
    if not chosen:
        without = f" and another engine than {options.without}" if options.without else ""
        parser.error(f"no row has {options.only!r} among its options{without}")
    if options.write is not None:
        around(options.write)  # a page without marks is refused before anything is measured
    found, missing = measure_rows(chosen, options)
    if options.write is None:
        print("\n".join(page_lines(found, missing)))
    return interrupt.STATUS if found and not found[-1].result.complete else int(bool(missing) or any(map(_lacks, found)))


def chosen_rows(only: str, without: str = "") -> list[list[str]]:
    """The words of rows that are measured together, for each group.

    Only rows that have the words `only`, and another engine than Orcinus and `without`, which they do not have.
    """
    groups = [[_left(f"{shared} {own}", without) for own in rows if only in f"{shared} {own}"] for shared, rows in GROUPS]
    return [left for group in groups if (left := [row for row in group if row])]


def _left(row: str, without: str) -> str:
    """A row's words without an engine; none if only Orcinus is left."""
    peers = [peer for peer in parse(row.split()).peers if peer != without]
    return re.sub(r"--peers \S+", f"--peers {','.join(peers)}", row) if peers != [BASE] else ""


def measure_rows(groups: Sequence[Sequence[str]], options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """The rows that were measured, and the words of others. The page is written after each row."""
    end = time.monotonic() + 60 * options.minutes
    found: list[Row] = []
    left = [row for group in groups for row in group]
    for group in groups:
        if time.monotonic() > end:
            break
        asked = [parse([*row.split(), "--repeats", str(options.repeats)]) for row in group]
        try:
            for row, result in zip(group, measure_each(asked), strict=False):
                found.append(Row(row, result))
                left.remove(row)
                console.print(f"{len(found)} of {len(found) + len(left)}: {row}", soft_wrap=True, markup=False)
                if options.write is not None:
                    put(options.write, "\n".join(page_lines(found, left)))
                if not result.complete or time.monotonic() > end:
                    break
        except ConfigError as error:
            console.print(f"error: {error}", soft_wrap=True, markup=False)
        except KeyboardInterrupt:
            break
        if found and not found[-1].result.complete:
            break
    return found, left


def page_lines(rows: Sequence[Row], missing: Sequence[str]) -> list[str]:
    """The table, who is ahead how often, and what is missing."""
    lines = [
        "| row | engine | output tokens/s | to Orcinus | TTFT ms | ms a token | cores busy | output tokens per CPU second |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        *(line for row in rows for line in _lines_of(row)),
        "",
        _verdict(rows),
    ]
    if missing:
        lines += ["", "Not measured in this run: " + ", ".join(f"`{_own(words)}`" for words in missing) + "."]
    if rows:
        result = rows[-1].result
        lines += [
            "",
            f"{result.machine.processor}, {result.machine.cores} cores; {result.when[:10]}; commit {result.commit}: "
            f"`python benchmarks/peers/rows.py {' '.join(sys.argv[1:])}`.",
        ]
    return lines


def best_of(result: Result) -> float | None:
    """The largest output of another engine to ours; None without one."""
    found = [each.median for summary in summarize(result.sides)[1:] if (each := ratio(summary, result)) is not None]
    return max(found, default=None)


def _lines_of(row: Row) -> list[str]:
    lines, words = [], f"`{_own(row.words)}`"
    for summary in summarize(row.result.sides):
        rate, to_ours = summary.intervals.get(METRIC), ratio(summary, row.result)
        if rate is None:
            continue
        share = "1" if to_ours is None else f"{to_ours.median:.2f} ({to_ours.low:.2f} to {to_ours.high:.2f})"
        share = f"**{share}**" if to_ours is not None and to_ours.median > 1 else share
        cores, thrift = (summary.median(name) for name in ("cores_busy", "output_tokens_per_cpu_second"))
        last = ("" if cores is None else f"{cores:.2f}", "" if thrift is None else f"{thrift:.3g}")
        cells = (f"{rate.median:.4g} ({rate.low:.4g} to {rate.high:.4g})", share, *latency_cells(summary), *last)
        lines.append(f"| {words} | {summary.name} | " + " | ".join(cells) + " |")
        words = ""
    return lines


def _own(words: str) -> str:
    """A row's options without the peers, which stand beside it."""
    return re.sub(r" ?--peers \S+", "", words)


def _verdict(rows: Sequence[Row]) -> str:
    best = [found for row in rows if (found := best_of(row.result)) is not None]
    if not best:
        return "No row has another engine."
    ahead = sum(found < 1 for found in best)
    return (
        f"{BASE} is ahead of the best other engine on {ahead} of {len(best)} rows; in the median its output is "
        f"{1 / statistics.median(best):.2f} times that engine's, {1 / max(best):.2f} to {1 / min(best):.2f} times."
    )


def _lacks(row: Row) -> bool:
    """Whether a peer of the row was not measured."""
    return any(not side.repeats or not all(repeat.valid for repeat in side.repeats) for side in row.result.sides)


def put(page: Path, text: str) -> None:
    """Replace what stands between the marks, in a new file if there is none. Raises `SystemExit` as `around` does."""
    before, behind = around(page)
    page.write_text(f"{before}\n{text}\n\n{behind}", encoding="utf-8")


def around(page: Path) -> tuple[str, str]:
    """The page up to the first mark and from the second one on. Raises `SystemExit` if it has none."""
    text = page.read_text(encoding="utf-8") if page.exists() else "".join(MARKS)
    begin, end = (text.find(mark) for mark in MARKS)
    if begin < 0 or end < begin:
        raise SystemExit(f"{page} has no marks: {' and '.join(mark.strip() for mark in MARKS)}")
    return text[: begin + len(MARKS[0])], text[end:]


if __name__ == "__main__":
    sys.exit(main())
