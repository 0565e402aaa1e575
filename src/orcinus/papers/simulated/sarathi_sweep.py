"""SARATHI, figures 9 and 13: throughput by P:D ratio and chunk size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from orcinus.cost.transformer import TransformerCost
from orcinus.papers.findings import Finding, Number, within
from orcinus.papers.published_sarathi import (
    BESIDE,
    CHUNKED_ATTENTION,
    CHUNKED_END_TO_END,
    CHUNKED_PREFILL,
    CHUNKS,
    LENGTHS,
    PEAKS,
    RATIOS,
)
from orcinus.papers.simulated.microbench import endings, iterations, seconds_each
from orcinus.plots.figures import Curve, Figure, Panel
from orcinus.sim.config import SimulationConfig
from orcinus.sim.simulate import set_up

A6000 = SimulationConfig(model="llama-13b", device="a6000", network="pcie", software="sarathi", kv="max-length")
COARSE = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 63, 80, 100, 126, 159, 200)  # P:D


def request(length: int, ratio: float) -> tuple[int, int]:
    """Prompt and answer tokens; D decodes make D + 1 answer tokens."""
    decodes = max(1, round(length / (ratio + 1)))
    return length - decodes, decodes + 1


@lru_cache(maxsize=1000)
def gain(length: int, batch: int, chunk: int, ratio: float) -> float:
    """Throughput of decode-maximal batches over the baseline's.

    The baseline runs a whole batch of prompts, and then its decodes to the end, as FasterTransformer does: with equal
    requests, every scheduler that separates the two does the same.
    """
    prompt, answer = request(length, ratio)
    config = replace(A6000, max_batch_size=batch)
    baseline = endings(replace(config, policy="request-level"), prompt, answer, batch)[-1] / batch
    return baseline / seconds_each(replace(config, policy=f"sarathi:chunk_size={chunk}"), prompt, answer)


@lru_cache(maxsize=100)
def curve(length: int, chunk: int) -> Mapping[int, float]:
    """A curve of figure 9: gain by P:D, denser around its peak."""
    batch = LENGTHS[length]
    coarse = {ratio: gain(length, batch, chunk, ratio) for ratio in COARSE}
    best = COARSE.index(max(coarse, key=coarse.__getitem__))
    low, high = COARSE[max(0, best - 1)], COARSE[min(best + 1, len(COARSE) - 1)]
    fine = {ratio: gain(length, batch, chunk, ratio) for ratio in range(low + 1, high)}
    return dict(sorted((coarse | fine).items()))


def peak(length: int, chunk: int) -> int:
    """The integer P:D with the highest gain.

    Of equal gains, the one closest to the requests' exact ratio.
    """
    gains = curve(length, chunk)

    def rounding(ratio: int) -> float:
        prompt, answer = request(length, ratio)
        return abs(ratio - prompt / (answer - 1))

    return max(gains, key=lambda ratio: (gains[ratio], -rounding(ratio)))


def positions() -> Finding:
    """The P:D ratios at which figure 9's nine curves peak."""
    checks = []
    for (length, chunk), (_, published) in PEAKS.items():
        checks.append(within(_name(length, chunk), published, peak(length, chunk), 1 / published))
    note = (
        "The paper's rule is C / (B - 1). A chunk holds C - (B - 1) prompt tokens, so prompts and decodes end together at "
        "C / (B - 1) - 1, and there the curves peak, published and simulated."
    )
    return Finding(checks, [note])


def heights() -> Finding:
    """The heights of these peaks."""
    checks = []
    for (length, chunk), (published, _) in PEAKS.items():
        checks.append(within(_name(length, chunk), published, max(curve(length, chunk).values()), 0.07))
    return Finding(checks, _bias(checks), [_figure_9()])


def _bias(checks: Sequence[Number]) -> list[str]:
    errors = [check.error for check in checks if check.error is not None]
    return [
        f"All nine are too high, by {min(errors):.1%} to {max(errors):.1%}: chunks cost more in the paper than their linears "
        "of figure 7 and their attention together (figure 13b says so too).",
        "Beyond the peak the published curves come down to 1, ours below it: the policy chunks every prompt, also where "
        "too few decodes are left to ride along. The published points there agree with chunks for as many tokens as B - 1 "
        "decodes at a time can use, and whole prompts for the rest (by arithmetic 1.06 and 1.02 for 1K, C = 128, 50 and 200).",
    ]


def _name(length: int, chunk: int) -> str:
    return f"{length // 1024}K, chunks of {chunk}"


def _figure_9() -> Figure:
    panels = []
    for length, batch in LENGTHS.items():
        curves = []
        for chunk in (128, 256, 512):
            height, best = PEAKS[length, chunk]
            published = sorted({best: height, **dict(zip(RATIOS, BESIDE[length, chunk], strict=True))}.items())
            ours = [(float(ratio), gained) for ratio, gained in curve(length, chunk).items()]
            curves += [Curve(f"C = {chunk}", published, published=True), Curve(f"C = {chunk}", ours)]
        panels.append(Panel(f"{length // 1024}K, batch {batch}", "P:D", "throughput against the baseline", curves, log_x=True))
    return Figure("sarathi-9", "SARATHI, figure 9: LLaMA-13B on an A6000", panels)


def end_to_end(length: int) -> list[float]:
    """Figure 13c: gains by chunk size at the balanced P:D."""
    others = LENGTHS[length] - 1
    return [gain(length, others + 1, chunk, (chunk - others) / others) for chunk in CHUNKS]


def chunked(length: int) -> tuple[list[float], list[float]]:
    """Figures 13a and b: relative speed by chunk size.

    Seconds without chunks over seconds with them: of attention alone, and of everything.
    """
    setup = set_up(replace(A6000, max_batch_size=1, max_model_len=length + 1))
    cost = setup.machine.cost
    assert isinstance(cost, TransformerCost)
    attention, whole = [], []
    for chunk in (length, *CHUNKS):
        steps = iterations(setup, f"sarathi:chunk_size={chunk}", [(length, 1)])
        attention.append(sum(cost.attention_seconds(step.work) for step in steps))
        whole.append(sum(step.seconds for step in steps))
    return [attention[0] / each for each in attention[1:]], [whole[0] / each for each in whole[1:]]


def figure_13(end_to_end: Mapping[int, Sequence[float]]) -> Figure:
    """Figure 13: costs and gains of chunks; `end_to_end` is 13c."""
    parts = {length: chunked(length) for length in LENGTHS}
    attention, whole = ({length: part[index] for length, part in parts.items()} for index in (0, 1))
    panels = [
        _by_chunk("attention of a prompt", "without over with chunks", CHUNKED_ATTENTION, attention),
        _by_chunk("whole prompt", "without over with chunks", CHUNKED_PREFILL, whole),
        _by_chunk("end to end", "throughput against the baseline", CHUNKED_END_TO_END, end_to_end),
    ]
    return Figure("sarathi-13", "SARATHI, figure 13: LLaMA-13B on an A6000", panels)


def _by_chunk(title: str, y: str, published: Mapping[int, Sequence[float]], ours: Mapping[int, Sequence[float]]) -> Panel:
    curves = []
    for length in published:
        label = f"{length // 1024}K"
        curves.append(Curve(label, [(float(x), y) for x, y in zip(CHUNKS, published[length], strict=True)], published=True))
        curves.append(Curve(label, [(float(x), y) for x, y in zip(CHUNKS, ours[length], strict=True)]))
    return Panel(title, "tokens in a chunk", y, curves)
