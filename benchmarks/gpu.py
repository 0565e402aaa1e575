"""The GPU path on one device: ceilings, kernels, iterations and a workload, a section at a time.

    PYTHONPATH=src python benchmarks/gpu.py [--only NAME,NAME] [--out FILE.json] [--again] [--stretch 2]
    PYTHONPATH=src python benchmarks/gpu.py --device cpu    # toy sizes, kernels interpreted: shows only that it runs

It needs torch, triton, transformers, numpy, safetensors and this repository, and takes at most seven minutes: every section
has its share of seconds, and one that takes longer is cut. The file is written after every figure; sections that are in
it already are left out, so that a run can be continued, but failed ones are tried again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from on_gpu.results import Results
from on_gpu.sections import choose, listing
from on_gpu.supervise import supervise
from on_gpu.tables import text_table
from on_gpu.targets import target_rows

from orcinus.errors import ConfigError

ASKED = "ORCINUS_GPU_BENCHMARK"  # what the user wrote, for the header that a child writes


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME,NAME", help="these sections alone")
    parser.add_argument("--list", action="store_true", help="say which sections there are, and end")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="keep the results here, and go on from what is there")
    parser.add_argument("--again", action="store_true", help="run sections that the file has already")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu for toy sizes (default: cuda)")
    parser.add_argument("--tp", type=int, default=1, help="tensor ranks of the section golden, on devices 0 to N - 1")
    parser.add_argument("--stretch", type=float, default=1.0, help="multiply every section's seconds by this")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # this is the child: run them in this process
    return parser.parse_args(words)


def interpret(folder: str) -> None:
    """Let triton interpret kernels, with a cache of its own; call before importing triton."""
    os.environ.update(TRITON_INTERPRET="1", XDG_CACHE_HOME=folder)


def child(options: argparse.Namespace, words: Sequence[str]) -> NoReturn:
    """Run the sections in this process, and end it."""
    from on_gpu.in_turn import run_sections

    asked = os.environ.get(ASKED, "").split() or words
    status = run_sections(choose(options.only), Results(options.out), options.device, options.stretch, asked, options.tp)
    sys.stdout.flush()
    os._exit(status)  # the interpreter's own end may hang on a device that is broken


def parent(options: argparse.Namespace, words: Sequence[str], file: Path) -> int:
    """Run the missing sections in child processes, and sum up."""
    sections, results = choose(options.only), Results(file)
    os.environ.update({ASKED: " ".join(words), "HF_HUB_OFFLINE": "1"})  # no library fetches anything
    results.forget([section.name for section in sections], options.again)
    results.write()
    fixed = [sys.executable, __file__, "--here", "--device", options.device, "--stretch", str(options.stretch)]
    fixed += ["--tp", str(options.tp)]
    supervise(sections, results, lambda names: [*fixed, "--out", str(file), "--only", ",".join(names)])
    print(f"\n{text_table('Targets', target_rows(results))}")
    states = {section.name: results.sections[section.name] for section in sections}
    for name, section in states.items():
        print(f"{name:<10} {section['state']:<7} {section['seconds']:>6.1f} s  {section['message']}")
    return int(any(section["state"] == "failed" for section in states.values()))


def main(words: Sequence[str]) -> int:
    options = parse(words)
    try:
        if options.list:
            print(listing(choose(options.only)))
            return 0
        if options.here:
            child(options, words)
        with tempfile.TemporaryDirectory() as folder:
            if options.device == "cpu":
                interpret(folder)
            return parent(options, words, options.out or Path(folder) / "results.json")
    except ConfigError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted: what was measured until then is in the file.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
