"""The figures of docs/performance.md: tables of operators, and curves of an iteration's cost.

    python benchmarks/performance.py [bundled] [qwen3-0.6b] [curves] [--repeats 15] [--write docs/performance.md] [--quick]

bundled, qwen3-0.6b: what `orcinus profile` shows of the bundled model, and of Qwen3-0.6B's sizes with made-up weights.
curves: whole iterations of Qwen3-0.6B's sizes against batch, context and prompt, beside their floor, and a picture of them.
Without names all three run, in under ten minutes on two quiet cores. Markdown goes to standard output; `--write` puts it
into the page, between the marks of each part, and the picture beside it. `--quick` runs a toy model, to see that all works.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from on_gpu.geometry import QWEN, TOY_QWEN, Geometry

from orcinus.bench.machine import commit
from orcinus.build import build
from orcinus.config import EngineConfig
from orcinus.plots.costs import CostPanel, CostPoint, draw_costs
from orcinus.plots.style import check_picture
from orcinus.profile.batches import ProfiledBatch, batches_of, profile_config
from orcinus.profile.profiler import profile
from orcinus.profile.result import BatchProfile, Profile
from orcinus.profile.tables import heading, markdown, markdown_table, tables

POSITIONS = 40_960  # of Qwen3-0.6B
PICTURE = "pictures/performance.svg"  # beside the page


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What is measured."""

    geometry: Geometry
    decodes: tuple[int, ...]
    context: int
    prompt: int
    later: tuple[int, int]  # tokens of a later chunk, and of its prompt before it: what the default policy runs
    batches: tuple[int, ...]  # of the first curve, at `short` tokens
    short: int
    contexts: tuple[int, ...]  # of the second, each with one decode
    prompts: tuple[int, ...]


FULL = Sizes(
    geometry=QWEN,
    decodes=(1, 8, 32),
    context=512,
    prompt=512,
    later=(128, 1024),
    batches=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    short=128,
    contexts=(256, 1024, 2048, 4096, 8192, 16_384, 32_768),
    prompts=(16, 32, 64, 128, 256, 512, 1024),
)
QUICK = Sizes(
    geometry=TOY_QWEN,
    decodes=(1, 2),
    context=32,
    prompt=16,
    later=(8, 16),
    batches=(1, 4),
    short=24,
    contexts=(32, 64),
    prompts=(8, 32),
)


def measured(config: EngineConfig, batches: Sequence[ProfiledBatch], repeats: int, name: str) -> Profile:
    """The profile of an engine that is built for these batches, under the name of a model."""
    built = build(profile_config(config, batches, repeats))
    return replace(profile(built, batches, repeats, lambda done: tell(f"{name}: {done} of {len(batches)}")), model=name)


def dummy(sizes: Sizes, folder: Path) -> EngineConfig:
    """Made-up weights in bfloat16, if this CPU multiplies them, else in float32."""
    return EngineConfig(model=sizes.geometry.write(folder, POSITIONS, "bfloat16"), load_format="dummy")


def tell(line: str) -> None:
    """Progress, apart from the results."""
    print(line, file=sys.stderr, flush=True)


def with_operators(sizes: Sizes, repeats: int) -> list[ProfiledBatch]:
    """The iterations that have a table of operators."""
    tokens, start = sizes.later
    firsts = batches_of(sizes.decodes, [sizes.context], [sizes.prompt], repeats)
    return [*firsts, *batches_of([], [], [tokens], repeats, [start])]


def operators_of_bundled(sizes: Sizes, repeats: int, page: Path | None) -> str:
    """`orcinus profile`, in Markdown."""
    return markdown(measured(EngineConfig(), with_operators(sizes, repeats), repeats, "the bundled model"))


def operators_of_qwen(sizes: Sizes, repeats: int, page: Path | None) -> str:
    """`orcinus profile` of made-up weights, in Markdown."""
    batches = with_operators(sizes, repeats)
    with tempfile.TemporaryDirectory() as folder:
        return markdown(measured(dummy(sizes, Path(folder)), batches, repeats, f"{sizes.geometry.name} (made-up weights)"))


def curves(sizes: Sizes, repeats: int, page: Path | None) -> str:
    """Whole iterations in Markdown; a picture of them beside the page."""
    repeats = max(2, repeats // 3)
    batches = [
        *batches_of(sizes.batches, [sizes.short], [], repeats),
        *batches_of([1], sizes.contexts, sizes.prompts, repeats),
    ]
    with tempfile.TemporaryDirectory() as folder:
        found = measured(dummy(sizes, Path(folder)), batches, repeats, f"{sizes.geometry.name} (made-up weights)")
    parts = [f"{heading(found)}.", markdown_table(tables(found)[0]), *(f"In doubt: {doubt}." for doubt in found.doubts)]
    if page is not None:
        draw_costs(page.parent / PICTURE, panels(sizes, found.batches), heading(found))
        parts.insert(1, f"![cost of an iteration against batch, context and prompt]({PICTURE})")
    return "\n\n".join(parts) + "\n"


def panels(sizes: Sizes, found: Sequence[BatchProfile]) -> list[CostPanel]:
    """The three curves, from one list of iterations."""
    firsts, rest = found[: len(sizes.batches)], found[len(sizes.batches) :]
    contexts, prompts = rest[: len(sizes.contexts)], rest[len(sizes.contexts) :]
    return [
        CostPanel(f"decodes, each at {sizes.short} tokens", points(firsts, lambda batch: batch.decodes)),
        CostPanel("context of one decode, tokens", points(contexts, lambda batch: batch.context)),
        CostPanel("prompt, tokens", points(prompts, lambda batch: batch.prompt)),
    ]


def points(found: Iterable[BatchProfile], at: Callable[[ProfiledBatch], int]) -> list[CostPoint]:
    """Milliseconds of each, at its place on the axis."""
    return [
        CostPoint(
            at(each.batch),
            *(1e3 * seconds for seconds in (each.quartiles[0], each.seconds, each.quartiles[1], each.floor_seconds)),
        )
        for each in found
    ]


PARTS = {"bundled": operators_of_bundled, "qwen3-0.6b": operators_of_qwen, "curves": curves}


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of a part."""
    before = page.read_text(encoding="utf-8")
    marks = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
    pattern = re.compile(f"({re.escape(marks[0])}).*?({re.escape(marks[1])})", re.DOTALL)
    if not pattern.search(before):
        raise SystemExit(f"{page} has no marks of the part {name}: {' and '.join(mark.strip() for mark in marks)}")
    page.write_text(pattern.sub(lambda found: f"{found[1]}\n{text}\n{found[2]}", before), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--repeats", type=int, default=15, help="iterations of each kind; the curves take a third")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the results into this page")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}: choose {', '.join(PARTS)}")
    if options.write is not None and "curves" in (options.parts or PARTS):
        check_picture(options.write.parent / PICTURE)
    for name in options.parts or PARTS:
        text = PARTS[name](QUICK if options.quick else FULL, options.repeats, options.write)
        command = f"python benchmarks/performance.py {name} --repeats {options.repeats}"
        text += f"\n{time.strftime('%Y-%m-%d')}, commit {commit() or 'unknown'}: `{command}`.\n"
        if options.write is not None:
            put(options.write, name, text)
        else:
            print(f"## {name}\n\n{text}")


if __name__ == "__main__":
    main()
