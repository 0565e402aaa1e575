"""The sections one after another, in this process."""

from __future__ import annotations

import gc
import importlib
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import torch

from on_gpu.bench import Bench, first_line
from on_gpu.header import header, in_words
from on_gpu.results import Results, State
from on_gpu.sections import Section
from on_gpu.sizes import FULL, TOY
from on_gpu.tables import text_facts, text_table
from orcinus.errors import ConfigError

AGAIN_S = 5.0  # where Python cannot raise (inside a destructor), it is tried once more
BROKEN = 3  # exit status: the device refuses everything after an error, and another process has to go on


class OutOfTime(BaseException):
    """A section's time is spent; no `Exception`, so that engines do not catch it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` inside after so many seconds.

    Only in the main thread; a call into C is waited for.
    """

    def over(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_sections(
    sections: Sequence[Section], results: Results, device: str, stretch: float, words: Sequence[str], tp: int = 1
) -> int:
    """Run them, each within its share times `stretch`; returns the exit status. Raises `ConfigError` for a foreign file."""
    toy = device == "cpu"
    if not toy and not torch.cuda.is_available():
        raise ConfigError("torch sees no CUDA device: give --device cpu for toys, or install a CUDA build of torch")
    found = header(device, toy, words)
    results.check(found["device"], toy)
    results.header = found
    print(in_words(found), flush=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if toy:
        torch.set_num_threads(1)
    for section in sections:
        run_section(section, results, torch.device(device), stretch, tp)
        free(device)
        if not usable(device):
            return BROKEN
    return 0


def run_section(section: Section, results: Results, device: torch.device, stretch: float, tp: int) -> None:
    """Run one section to its end or its limit, and print its tables."""
    share, began = section.share_s * stretch, time.time()
    print(f"\n== {section.name}: {section.about} (at most {share:.0f} s)\n", flush=True)
    results.begin(section.name, began + share, results.header.get("commit"))
    bench = Bench(device, TOY if device.type == "cpu" else FULL, results, section.name, began + share, tp)
    state, message = attempt(section, bench, share)
    results.end(section.name, state, message, time.time() - began)
    show(results, section.name)


def attempt(section: Section, bench: Bench, share: float) -> tuple[State, str]:
    """How it ended, and why. Only the user's Ctrl-C gets out of here."""
    try:
        module = importlib.import_module(f"on_gpu.{section.name}")  # before the limit: half an import would harm the next one
        with limited(share), torch.inference_mode():
            module.run(bench)
    except OutOfTime:
        return "cut", f"cut after its {share:.0f} s: what was measured until then is kept"
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        return "failed", first_line(error)
    return "done", ""


def show(results: Results, name: str) -> None:
    """What a section found, as text."""
    found = results.sections[name]
    for title, rows in found["tables"].items():
        print(text_table(title, rows))
    if found["facts"]:
        print(text_facts(found["facts"]), end="\n\n")
    message = f": {found['message']}" if found["message"] else ""
    print(f"{name}: {found['state']} in {found['seconds']:.1f} s{message}", flush=True)


def free(device: str) -> None:
    """Give back what a section left behind."""
    gc.collect()
    if device != "cpu" and usable(device):
        torch.cuda.empty_cache()


def usable(device: str) -> bool:
    """Whether the device still answers; not after an illegal access."""
    try:
        if device != "cpu":
            torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True
