"""Runs the commands of docs/studies and draws the pictures that need more than `--plot`: `python docs/studies/draw.py [page]`.

What a page says and what its picture shows come from the same command, so neither can drift away from the other.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orcinus.plots.style import COLOURS, picture, plain_log, styles

HERE = Path(__file__).parent
PICTURES = HERE.parent / "pictures/studies"
KINDS = ("used", "reserved", "internal", "external", "idle")  # of K/V memory
PROMISED = (0.05, 0.1)  # seconds between tokens, in latency-target.md

Row = dict[str, Any]


def commands(page: str) -> list[list[str]]:
    """The commands of a page, in words."""
    text = (HERE / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("orcinus ")]


def rows(command: Sequence[str]) -> list[Row]:
    """What a command finds, an object a run."""
    done = subprocess.run([sys.executable, "-m", *command, "--json"], stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def plotted(page: str) -> None:
    """A picture that the command draws by itself."""
    for command in commands(page):
        if "--plot" in command:
            subprocess.run([sys.executable, "-m", *command], cwd=HERE.parents[1], check=True)


def pipeline(page: str) -> None:
    """Seconds to serve all, and bubbles per request, as bars."""
    stages, replicas = (rows(command) for command in commands(page))
    names = [f"{size}: {row['run']}" for size, found in (("TP8 x PP8", stages), ("8 x TP8", replicas)) for row in found]
    found = [*stages, *replicas]
    colours = [COLOURS[0]] * len(stages) + [COLOURS[1]] * len(replicas)
    with picture(PICTURES / f"{page}.svg", 1, 2, width=4.8) as ((whole, bubbles),):
        whole.barh(names, [row["seconds"] for row in found], color=colours)
        whole.set(xlabel="seconds to serve all requests")
        whole.invert_yaxis()
        for share, alpha in (("p99", 0.35), ("p50", 1.0)):
            seconds = [row["bubbles"][share] if row["bubbles"] else 0.0 for row in found]
            bubbles.barh(names, seconds, color=colours, alpha=alpha)
        bubbles.set(xlabel="seconds of bubbles a request: P50, P99 (pale)", yticks=[])
        bubbles.invert_yaxis()


def memory(page: str) -> None:
    """K/V memory by what it is used for, and the requests in a batch."""
    found = rows(commands(page)[0])
    names = [row["run"] for row in found]
    with picture(PICTURES / f"{page}.svg", 1, 2) as ((shares, batches),):
        left = [0.0] * len(found)
        for kind, colour in zip(KINDS, COLOURS, strict=False):
            widths = [row["kv"][kind] for row in found]
            shares.barh(names, widths, left=left, color=colour, label=kind)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        shares.set(xlabel="share of K/V memory", xlim=(0, 1))
        shares.legend(fontsize=7, ncols=len(KINDS), loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=0.8)
        batches.barh(names, [row["mean_batch_size"] for row in found], color=COLOURS[0])
        batches.set(xlabel="requests in a batch")
        for axes in (shares, batches):
            axes.invert_yaxis()


def promises(page: str) -> None:
    """Time between tokens and time to first token against the rate, a line for every policy."""
    found = rows(commands(page)[0])
    panels = (("tbt", "P99 time between tokens (s)"), ("ttft", "P99 time to first token (s)"))
    with picture(PICTURES / f"{page}.svg", 1, 2, height=3.6) as (axes,):
        for panel, (name, label) in zip(axes, panels, strict=True):
            for policy, style in zip(dict.fromkeys(row["config"]["policy"] for row in found), styles(), strict=False):
                mine = [row for row in found if row["config"]["policy"] == policy]
                rates = [float(row["config"]["arrivals"].split("rate=")[1]) for row in mine]
                panel.plot(rates, [row[name]["p99"] for row in mine], label=policy, marker="o", markersize=3, **style)
            panel.set(xlabel="requests per second", ylabel=label)
        for promise in PROMISED:
            axes[0].axhline(promise, color="black", linewidth=0.8, linestyle=":")
        axes[0].set_ylim(bottom=0)
        axes[0].legend(fontsize=7)
        axes[1].set_yscale("log")
        plain_log(axes[1].yaxis)


PAGES: dict[str, Callable[[str], None]] = {
    "pd-ratio-and-chunk-size": plotted,
    "tile-effect": plotted,
    "pipeline-bubbles": pipeline,
    "reservation-against-paging": memory,
    "latency-target": promises,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the pictures of docs/studies.")
    parser.add_argument("pages", nargs="*", metavar="page", help=f"{', '.join(PAGES)}; default: all of them")
    for page in parser.parse_args().pages or PAGES:
        PAGES[page](page)


if __name__ == "__main__":
    main()
