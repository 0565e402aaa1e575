"""SARATHI (Agrawal et al., arXiv 2308.16369): LLaMA-13B on one A6000."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from orcinus.cost.fitted import IterationSample
from orcinus.cost.transformer import TransformerCost
from orcinus.papers.findings import Finding, Number, NumberSource, Ordering, within
from orcinus.papers.published_sarathi import (
    CHUNKS,
    DECODE_MAXIMAL,
    DECODE_ONLY,
    DECODE_TO_PREFILL,
    DECODE_TOKEN,
    LENGTHS,
    PIGGYBACKED_TOKEN,
    PREFILL_ONLY,
    SPEED_UP,
    TABLE_4,
    TILE_STEP,
)
from orcinus.papers.simulated.experiment import Experiment, Scope
from orcinus.papers.simulated.microbench import iterations
from orcinus.papers.simulated.sarathi_pipeline import PIPELINE
from orcinus.papers.simulated.sarathi_sweep import A6000, end_to_end, figure_13, gain, heights, positions
from orcinus.sim.outcome import Setup
from orcinus.sim.simulate import set_up

PAPER = "SARATHI"
FITTED = "nothing here; linears on figure 7, attention on table 2, figure 3 and figure 13a (benchmarks/fit_sarathi.py)"


def _setup(batch: int, longest: int) -> Setup:
    return set_up(replace(A6000, max_batch_size=batch, max_model_len=longest))


def _run(policy: str, requests: list[tuple[int, int]]) -> list[IterationSample]:
    """Iterations that serve (prompt, answer) requests, all of which fit together."""
    return iterations(_setup(len(requests), max(map(sum, requests))), policy, requests)


def _decode(batch: int, prompt: int) -> IterationSample:
    """The first decode-only iteration, after prompts of `context` tokens."""
    return _run("request-level", [(prompt, 2)] * batch)[1]


def _table_2() -> tuple[IterationSample, IterationSample, IterationSample]:
    """The three iterations of table 2.

    Decodes attend to 1024 tokens and a few more.
    """
    joined = _run("sarathi:chunk_size=1024", [(1023, 8)] * 3 + [(1021, 1)])
    (hybrid,) = (each for each in joined if each.work.tokens == 1024 and each.work.decodes == 3)
    return _run("orca", [(1024, 1)])[0], _decode(4, 1023), hybrid


def _as_table_2_counts(each: IterationSample) -> float:
    """Milliseconds as in table 2: linear layers and attention only."""
    cost, work = _setup(1, 1024).machine.cost, each.work
    assert isinstance(cost, TransformerCost)
    linears = cost.layer_seconds(work.tokens) - cost.elementwise_seconds(work.tokens)
    return 1e3 * cost.model.layers * (linears + cost.attention_seconds(work))


def row_14() -> Finding:
    """The cost of a decode, alone and piggybacked."""
    prefill, decode, hybrid = _table_2()
    prompt, four, joined = map(_as_table_2_counts, (prefill, decode, hybrid))
    alone, riding = four / 4, (joined - prompt) / 3
    checks = [
        within("1024 prompt tokens", PREFILL_ONLY, prompt, 0.05, "ms"),
        within("4 decodes at 1024", DECODE_ONLY, four, 0.05, "ms"),
        within("1021 prompt tokens and 3 decodes", DECODE_MAXIMAL, joined, 0.05, "ms"),
        within("a decode alone", DECODE_TOKEN, alone, 0.05, "ms"),
        within("gain of a decode that rides along", DECODE_TOKEN / PIGGYBACKED_TOKEN, alone / riding, 0.15),
    ]
    whole = ", ".join(f"{each.seconds * 1e3:.1f}" for each in (prefill, decode, hybrid))
    notes = [
        "The totals of table 2 are linear layers and attention, so that is compared. Whole iterations, with norms, sums, "
        f"activations and the projection onto the vocabulary, take {whole} ms; figure 3 has 246 and 52.4 ms for the first two.",
        f"A decode that rides along costs {riding:.2f} ms here, all of it attention. Table 2 has 1.2 ms although its "
        "attention grows by 1.73 ms a decode, because its linear layers of 1024 tokens are 1.6 ms faster in the hybrid batch.",
        "The rate of decodes was fitted on batches of 4 and 18, which agree; batch 1 (2.08 ms in figure 3) does not, and with "
        "it a fixed cost would appear and the gain would miss (about 8.1).",
    ]
    return Finding(checks, notes)


def row_15() -> Finding:
    """The cost of one token beyond a tile."""
    one, other = (_run("orca", [(tokens, 1)])[0].seconds for tokens in (256, 257))
    step = Number("257 against 256 tokens", 1 + TILE_STEP, other / one, -0.08 / (1 + TILE_STEP), 0.08 / (1 + TILE_STEP))
    found = {length: end_to_end(length) for length in LENGTHS}
    orders = [
        Ordering(f"chunks of 320 are worse than of 256 at {length}", gains[CHUNKS.index(320)] < gains[CHUNKS.index(256)])
        for length, gains in found.items()
    ]
    note = (
        "Each chunk size of figure 13c is compared at the P:D that balances it, (C - (B - 1)) / (B - 1), where its published "
        "values equal the peaks of figure 9."
    )
    return Finding([step, *orders], [note], [figure_13(found)])


def row_16() -> Finding:
    """The cost of a decode, in prefill tokens."""
    checks = []
    for batch, published in DECODE_TO_PREFILL.items():
        prefill, decode = _run("request-level", [(1024, 2)] * batch)
        ratio = (decode.seconds / decode.work.tokens) / (prefill.seconds / prefill.work.tokens)
        checks.append(within(f"batch {batch}", published, ratio, 0.12))
    return Finding(checks)


def _speed_up(batch: int) -> float:
    """Baseline decode time per token over a piggybacked decode's."""
    decodes, prompt = batch - 1, 4 * (256 - (batch - 1))
    hybrid = _seconds(
        each
        for each in _run("sarathi:chunk_size=256", [(prompt, 5 * batch)] * batch)
        if each.work.decodes == decodes and each.work.prompts
    )
    alone = _seconds(_run(f"sarathi:chunk_size={256 - decodes}", [(prompt, 1)]))
    return _decode(batch, prompt).seconds / batch / ((hybrid - alone) / (4 * decodes))


def _seconds(each: Iterable[IterationSample]) -> float:
    return sum(iteration.seconds for iteration in each)


def row_17() -> Finding:
    """Decodes piggybacked on chunks of 256 tokens."""
    ours = {batch: _speed_up(batch) for batch in SPEED_UP}
    falling = list(ours.values())
    checks = [within(f"batch {batch}", published, ours[batch], 0.2) for batch, published in SPEED_UP.items()]
    return Finding([*checks, Ordering("falls with the batch", falling == sorted(falling, reverse=True))])


def row_18() -> Finding:
    """Throughput with long prompts."""
    return Finding([within(f"{length} tokens", gained, gain(length, 6, 256, 50), 0.07) for length, gained in TABLE_4.items()])


ALIKE = (
    "all requests alike and there from the start; P prompt tokens and D decode iterations with P + D = L in whole numbers "
    "nearest to P:D, so the answer has D + 1 tokens; throughput of two batches of requests after a first one has filled the "
    "replica"
)

ROWS: tuple[Experiment, ...] = (
    Experiment(
        14,
        PAPER,
        "Table 2",
        "LLaMA-13B on an A6000: iterations of 1024 prompt tokens, of 4 decodes, and of 1021 prompt tokens with 3 decodes.",
        "±5 %, gain ±15 %",
        "linears on figure 7, two attention rates on this table (and figure 3), the form of chunked attention on figure 13a",
        NumberSource.PRINTED,
        row_14,
        Scope.ITERATION,
        "a6000",
    ),
    Experiment(
        15,
        PAPER,
        "tile effect (section 2, figure 13)",
        f"LLaMA-13B on an A6000: iterations of 256 and 257 prompt tokens; chunks of 64 to 512 end to end, {ALIKE}.",
        "±8 points; ordering strict",
        "linears on figure 7, which shows the step; attention in chunks on figure 13a",
        NumberSource.VECTOR,
        row_15,
        Scope.ITERATION,
        "a6000",
    ),
    Experiment(
        16,
        PAPER,
        "Figure 3, cost of a decode in prefill tokens",
        "LLaMA-13B on an A6000: a batch of prompts of 1024 tokens, then of decodes, both per token.",
        "±12 %",
        FITTED,
        NumberSource.PRINTED,
        row_16,
        Scope.ITERATION,
        "a6000",
    ),
    Experiment(
        17,
        PAPER,
        "Figure 8, decode speed-up",
        "LLaMA-13B on an A6000, about 1024 tokens, chunks of 256: seconds of a decode in a batch of decodes over what it adds "
        "to an iteration with one chunk; mean over four chunks of a prompt.",
        "±20 %, falling",
        FITTED,
        NumberSource.VECTOR,
        row_17,
        Scope.ITERATION,
        "a6000",
    ),
    Experiment(
        18,
        PAPER,
        "Table 4, throughput of LLaMA-13B",
        f"A6000, batch 6, P:D 50, chunks of 256 against whole prompts and decodes in batches of their own; {ALIKE}.",
        "±7 %",
        FITTED,
        NumberSource.PRINTED,
        row_18,
        Scope.RUN,
        "a6000",
    ),
    Experiment(
        20,
        PAPER,
        "Figure 9, best P:D",
        "LLaMA-13B on an A6000, batches of 18, 10 and 6 at 1K, 2K and 3K: the whole P:D of the best throughput, looked for on "
        f"a coarse grid and then one by one around its best; {ALIKE}.",
        "±1",
        FITTED,
        NumberSource.VECTOR,
        positions,
        Scope.RUN,
        "a6000",
    ),
    Experiment(
        21,
        PAPER,
        "Figure 9, best throughput",
        "The same runs, against whole prompts and decodes in batches of their own.",
        "±7 %",
        FITTED,
        NumberSource.VECTOR,
        heights,
        Scope.RUN,
        "a6000",
    ),
    PIPELINE,
)
