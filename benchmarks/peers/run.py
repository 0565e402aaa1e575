"""The same requests through other engines, side by side: Hugging Face, vLLM, llama.cpp, and Orcinus.

    python benchmarks/peers/run.py [--peers orcinus,vllm] [--geometry qwen3-0.6b] [--dtype bfloat16] [--out FILE.json]

Makes a checkpoint with random weights and every peer's environment by itself, keeps all peers loaded, and lets them take
turns. docs/peers.md says what was made equal and what could not be.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from driver import Peer, PeerFailed
from environments import FOLDER, NotInstalled
from geometry import GEOMETRIES, write_checkpoint
from peers import BASE, PEERS, log_of
from rich.console import Console
from system import PeerSystem, requests_of_round, with_agreement
from table import markdown, print_table

from orcinus import interrupt
from orcinus.bench.config import LoadConfig, work_of
from orcinus.bench.result import Result, Side, write_result
from orcinus.bench.runner import make_result, measure_sides
from orcinus.cli.progress import progress
from orcinus.errors import ConfigError

LOAD_PATIENCE = 1800.0  # seconds: vLLM compiles
console = Console(stderr=True, highlight=False)


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 if a peer is missing or something must not be believed, 2 for a wrong option, 130 after Ctrl-C."""
    options = parse(words)
    interrupt.raise_exception()
    try:
        result = measure(options)
        if options.out:
            write_result(options.out, result)
            console.print(f"Everything that was measured is in {options.out}.", soft_wrap=True)
    except ConfigError as error:
        console.print(f"error: {error}", soft_wrap=True, markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("Interrupted before anything was measured.")
        return interrupt.STATUS
    if options.markdown:
        options.markdown.write_text(markdown(result))
    print_table(Console(highlight=False), result)
    if not result.complete:
        return interrupt.STATUS
    return int(any(not side.repeats or not all(repeat.valid for repeat in side.repeats) for side in result.sides))


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The same requests through other engines, side by side.")
    add = parser.add_argument
    add("--peers", help=f"with commas between: {', '.join(PEERS)} (default: all that can)")
    add("--geometry", default="small", choices=list(GEOMETRIES), help="sizes of the model, whose weights are random")
    add("--dtype", default="float32", choices=["float32", "bfloat16"])
    add("--quantization", choices=["int8", "int4"], help="matrices as integers: Orcinus's option, llama.cpp's Q8_0 or Q4_0")
    add("--workload", default="mixed", help="lengths: mixed (32 to 256 in and out), equal_size, short_long_mix, …")
    add("--requests", type=int, default=32)
    add("--max-batch-size", type=int, default=8, help="most requests that an engine runs at once")
    add("--repeats", type=int, default=7)
    add("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of every engine")
    add("--seed", type=int, default=0, help="of lengths")
    add("--out", type=Path, help="write everything that was measured to this file, as JSON")
    add("--markdown", type=Path, help="write the table to this file, in Markdown")
    options = parser.parse_args(words)
    able = [name for name, kind in PEERS.items() if kind.quantizes or not options.quantization]
    options.peers = able if options.peers is None else [name.strip() for name in options.peers.split(",") if name.strip()]
    unknown = [name for name in options.peers if name not in PEERS]
    if unknown or not options.peers:
        parser.error(f"unknown peer {', '.join(unknown)}: choose among {', '.join(PEERS)}")
    unable = [name for name in options.peers if name not in able]
    if unable:
        parser.error(
            f"{', '.join(unable)} cannot round weights while loading: leave out --quantization, or choose {', '.join(able)}"
        )
    options.peers.sort(key=lambda name: name != BASE)  # the first one is the one that others are compared with
    return options


def measure(options: argparse.Namespace) -> Result:
    """Load all peers, let them take turns, compare. Raises `ConfigError`."""
    return next(measure_each([options]))


def measure_each(rows: Sequence[argparse.Namespace]) -> Iterator[Result]:
    """One result for each row's options, by peers that are loaded once.

    Rows may differ in workload, requests, repeats, seed and peers, and the limit of lengths is that of the longest row. An
    interrupted row is the last one. Raises `ConfigError`.
    """
    options, geometry = rows[0], GEOMETRIES[rows[0].geometry]
    loads = [LoadConfig(workload=row.workload, requests=row.requests, repeats=row.repeats) for row in rows]
    firsts = [requests_of_round(load.make(row.seed), 0, geometry.vocab_size) for load, row in zip(loads, rows, strict=True)]
    longest = max(len(each.prompt) + each.output_tokens for first in firsts for each in first)
    max_model_len = 64 * math.ceil(longest / 64)
    if max_model_len > geometry.max_position_embeddings:
        raise ConfigError(
            f"a request has {longest} tokens and the model takes {geometry.max_position_embeddings}: choose shorter ones"
        )
    limits = {"threads": options.threads, "max_batch_size": options.max_batch_size, "max_model_len": max_model_len}
    with console.status("making the checkpoint"):
        folder = write_checkpoint(geometry, options.dtype, FOLDER / "models" / f"{options.geometry}-{options.dtype}")
    asked = {"op": "load", "model": str(folder), "dtype": options.dtype, "quantization": options.quantization, **limits}
    names = sorted(dict.fromkeys(name for row in rows for name in row.peers), key=lambda name: name != BASE)
    number_format = f"{options.dtype}, {options.quantization} weights" if options.quantization else options.dtype
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        loaded, missing = load_peers(names, asked, geometry.vocab_size, versions, stack)
        for place, (row, load, first) in enumerate(zip(rows, loads, firsts, strict=True)):
            systems = [replace(system, outputs={}, row=place) for system in loaded if system.name in row.peers]
            with progress() as bars:
                sides, complete = measure_sides(systems, load.make(row.seed), row.repeats, row.requests, bars.bar)
            if not complete:
                console.print("Interrupted: what was measured until then is kept.")
            base = next((system.outputs for system in systems if system.name == BASE), {})
            compared = [with_agreement(side, system.outputs, base) for side, system in zip(sides, systems, strict=True)]
            absent = [side for side in missing if side.name in row.peers]
            work = work_of(load, row.seed, first, f"random {options.geometry} in {number_format}")
            result = make_result("peers", replace(work, limits=limits), [*compared, *absent], complete=complete)
            yield replace(result, versions=result.versions | versions)
            if not complete:
                return


def load_peers(
    names: Sequence[str], asked: dict[str, Any], vocabulary: int, versions: dict[str, str], stack: ExitStack
) -> tuple[list[PeerSystem], list[Side]]:
    """Those that are ready, and sides without repeats for those that are not. `versions` is filled."""
    systems, missing = [], []
    for name in names:
        try:
            systems.append(load_peer(name, asked, vocabulary, versions, stack))
        except (NotInstalled, PeerFailed) as failed:
            console.print(f"{name}: left out: {failed}", soft_wrap=True, markup=False)
            missing.append(Side(name=name, settings={"left_out": str(failed)}, repeats=()))
    return systems, missing


def load_peer(name: str, asked: dict[str, Any], vocabulary: int, versions: dict[str, str], stack: ExitStack) -> PeerSystem:
    """Install it if need be, start it and let it load the model. Raises `NotInstalled` or `PeerFailed`."""
    with console.status(f"{name}: starting") as status:
        command = PEERS[name].command(lambda what: status.update(f"{name}: {what}"))
        status.update(f"{name}: loading")
        peer = Peer(name, command, PEERS[name].variables(asked["threads"]), log_of(name))
        stack.callback(peer.close)
        loaded = peer.ask(asked, LOAD_PATIENCE)
    found = list(loaded["versions"].values())
    versions |= {name: found[0]} | {f"{name}: {package}": version for package, version in loaded["versions"].items()}
    console.print(f"{name} {found[0]} is ready", markup=False)
    return PeerSystem(name, peer, loaded["settings"], vocabulary, asked["max_batch_size"])


if __name__ == "__main__":
    sys.exit(main())
