"""Fits Sarathi-Serve's vLLM fork to its figure 9, with residuals.

    python benchmarks/fit_sarathi_serve.py [--check]

Writes src/orcinus/cost/constants/software/vllm.json; with --check it only prints the residuals of the constants that are
there. Every query head reads keys and values for itself (`query_reads`): one read for a group of four would be at a third of
the bandwidth, and one for each head is at 1.3 times the bandwidth, part of it from the cache. What does not depend on the
work, and what every request costs besides, is paid in every layer, whose kernels are launched one by one: one model cannot tell
that from costs of an iteration, but the authors' runs of Yi-34B, which has 60 layers instead of 32, can (docs/adr/0075). Four
constants are searched by Gauss and Newton's method, on the logarithms of 27 times and of the 18 ratios of hybrid iterations to
those of the decodes alone; what the device's matrix products reach stays as measured elsewhere.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orcinus.cost.software import Software, find_software
from orcinus.papers.published_sarathi_serve import FIGURE_9
from orcinus.papers.simulated.sarathi_serve import figure_9_seconds

FILE = Path(__file__).parents[1] / "src/orcinus/cost/constants/software/vllm.json"
START = {"layer": 1.6e-4, "request_layer": 6e-6, "prefill_attention": 0.3, "query_reads": 1.2}
# Not to be seen on one device and one model. Decodes of models without groups: vLLM's attention is 20 to 26 % slower than
# FasterTransformer's (vLLM, SOSP 2023, section 7.1), which was given 0.827. Sums over devices: as Orca's engine has them,
# the only one that was measured on several devices.
GIVEN = {"iteration": 0.0, "request": 0.0, "decode_attention": 0.672, "reduce": 2.54e-5}
DIGITS, STEPS, NUDGE = 4, 12, 1e-3
Floats = NDArray[np.float64]


def errors(software: Software) -> dict[str, Floats]:
    """Logarithms of simulated over published: of times, shape [9, 3], and of ratios to the decodes alone, shape [9, 2]."""
    simulated = np.array([figure_9_seconds(software, *place) for place in FIGURE_9]) * 1e3
    published = np.array(list(FIGURE_9.values()))
    times = np.log(simulated / published)
    return {"times": times, "ratios": times[:, 1:] - times[:, :1]}


def fit() -> dict[str, float]:
    """The constants with the least squares of errors."""
    logs = np.log(list(START.values()))
    for _ in range(STEPS):
        here = _flat(logs)
        slopes = np.array([(_flat(logs + NUDGE * unit) - here) / NUDGE for unit in np.eye(len(logs))])
        logs -= np.linalg.lstsq(slopes.T, here, rcond=None)[0]
    return {name: float(f"{value:.{DIGITS}g}") for name, value in zip(START, np.exp(logs), strict=True)} | GIVEN


def _flat(logs: Floats) -> Floats:
    found = errors(Software(**dict(zip(START, np.exp(logs).tolist(), strict=True)), **GIVEN))
    return np.concatenate([found["times"].ravel(), found["ratios"].ravel()])


def contents(constants: dict[str, float]) -> dict[str, Any]:
    """What the file says of these constants: residuals are [median, worst] of the relative errors."""
    found = {name: np.abs(np.expm1(logs)) for name, logs in errors(Software(**constants)).items()}
    return {
        "constants": constants,
        "fitted_on": "Sarathi-Serve (OSDI 2024), figure 9: Mistral-7B on an A100-80GB, 27 iteration times and their 18 ratios: "
        + ", ".join(START),
        "device": "a100-80g",
        "borrowed": {"reduce": "orca, a100-40g"},
        "residuals": {name: [round(float(np.median(e)), 4), round(float(e.max()), 4)] for name, e in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        used = find_software("vllm")
        print(json.dumps(contents({name: getattr(used, name) for name in (*START, *GIVEN)}), indent=1))
        return
    written = json.dumps(contents(fit()), indent=1)
    FILE.write_text(written + "\n", encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()
