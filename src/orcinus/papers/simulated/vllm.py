"""Besides the table: vLLM (SOSP 2023), its paging and the Orca that its authors wrote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orcinus.papers.findings import Finding, Number, NumberSource, within
from orcinus.papers.published_sarathi_serve import BATCHED_13, KV_PLACES, ORCA_MAX_BATCH, SHARES_2
from orcinus.papers.simulated.experiment import Experiment, Scope
from orcinus.sim.config import SimulationConfig
from orcinus.sim.simulate import set_up, simulate

PAPER = "vLLM (SOSP 2023)"
SHAREGPT_13 = SimulationConfig(
    model="opt-13b",
    device="a100-40g",
    software="vllm",
    lengths="sharegpt-vllm",
    arrivals="poisson:rate=2",
    max_total=2048,
    requests=400,
)
BASELINES_13: dict[str, dict[str, Any]] = {
    "Orca (Pow2)": {"policy": "orca", "kv": "buddy", "max_tokens": "pow2"},
    "Orca (Oracle)": {"policy": "orca", "kv": "buddy"},
    "vLLM": {"policy": "prefill-first", "kv": "paged"},
}


def run_orca_max() -> Finding:
    """How many requests run together if each reserves the longest length."""
    config = replace(SHAREGPT_13, policy="orca", kv="max-length")
    outcome = simulate(config, setup=(setup := set_up(config)))
    batch = outcome.metrics.batch_size
    checks = [
        within("K/V places", KV_PLACES, setup.machine.kv_tokens, 0.05, "tokens"),
        Number("requests that fit", ORCA_MAX_BATCH, float(setup.machine.kv_tokens // setup.machine.limits.max_model_len)),
        Number("median batch of the run", ORCA_MAX_BATCH, batch.percentile(50)),
    ]
    return Finding(checks, [f"Mean over the run with its beginning and end: {batch.mean:.2f}."])


def run_baselines(seed: int = 0) -> Finding:
    """Requests that run together with other reservations, and what their memory holds."""
    checks = []
    for system, chosen in BASELINES_13.items():
        outcome = simulate(replace(SHAREGPT_13, requests=1000, seed=seed, **chosen))
        checks.append(within(f"{system}: requests in a batch", BATCHED_13[system], outcome.metrics.batch_size.mean, 0.25))
        shares = outcome.kv_shares
        rest = shares["internal"] + shares["external"] + shares["idle"]
        for what, share in (("tokens", shares["used"]), ("reserved", shares["reserved"]), ("the rest", rest)):
            if (system, what) in SHARES_2:
                checks.append(within(f"{system}: memory of {what}", SHARES_2[system, what], 100 * share, 0.25, "%"))
    note = (
        "The mean is over iterations, with the beginning and end of the run. Figure 2 counts a piece's rounding to a power of "
        "two as external fragmentation, so the rest is compared as a sum."
    )
    return Finding(checks, [note])


ROWS: tuple[Experiment, ...] = (
    Experiment(
        0,
        PAPER,
        "Figure 13a, Orca (Max)",
        "OPT-13B, 1x A100-40GB, ShareGPT at 2 req/s, 400 requests, K/V room for 2048 tokens each",
        "exact; K/V places ±5 %",
        "nothing",
        NumberSource.PRINTED,
        run_orca_max,
        Scope.OTHER,
        "a100-40g",
    ),
    Experiment(
        0,
        PAPER,
        "Figures 2 and 13a, other systems",
        "OPT-13B, 1x A100-40GB, ShareGPT at 2 req/s, 1000 requests; Orca with a buddy allocator, which reserves the answer's "
        "length (Oracle) or the next power of two (Pow2), and vLLM",
        "±25 %, shown only",
        "nothing on this figure; four constants on Sarathi-Serve's figure 9",
        NumberSource.PRINTED,
        run_baselines,
        Scope.RUN,
        "a100-40g",
        chance=True,
    ),
)
