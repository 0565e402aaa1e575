"""Fits Orca's engine and FasterTransformer to Orca's figure 9 (OSDI 2022).

    python benchmarks/fit_orca.py [--check]

Writes src/orcinus/cost/constants/software/{orca,fastertransformer}.json; with --check it only prints the residuals of the
constants that are there. One set for each engine: 13B on one A100-40GB, 101B on eight and 175B on two stages of eight. What
the time of a batch depends on linearly is found by least squares of relative errors. Devices and network are those that
benchmarks/fit_costs.py fitted to measured kernels. Keys and values are read as well as weights are.

Figure 9 was measured without Orca's scheduler. What that costs an iteration in every stage (`iteration`: the control message,
planning, launching, the tokens' way back) is fitted to three points of figure 10b at low load (LOW), where requests hardly
wait for each other; every other point of figure 10 is a check.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from orcinus.cost.architecture import Parallel, find_architecture
from orcinus.cost.cluster import Cluster
from orcinus.cost.device_file import find_device
from orcinus.cost.network_file import find_network
from orcinus.cost.software import Software
from orcinus.cost.transformer import TransformerCost
from orcinus.cost.work import IterationWork
from orcinus.papers.published_orca import BATCH_MS, GENERATED, LOADED, SIZES, Series
from orcinus.papers.simulated.orca import MANY, ask

FOLDER = Path(__file__).parents[1] / "src/orcinus/cost/constants/software"
DEVICE, NETWORK = find_device("a100-40g"), find_network("a100-nd96asr")
PARALLEL = {"13b": Parallel(1, 1), "101b": Parallel(8, 1), "175b": Parallel(8, 2)}
FITTED = {
    "orca": ("request_layer", "prompt_token", "reduce"),
    "fastertransformer": ("request_layer", "reduce", "hand_over"),
}
GIVEN = {"iteration": 0.0, "request": 0.0, "decode_attention": round(DEVICE.efficiency.bandwidth, 3)}
LOW: tuple[str, Series, int] = ("175b", ("orca", 8), 3)  # model and series of figure 10, and how many of its first points
TRIED = 0.002  # seconds of scheduling: the latency at low load is a line through 0 and this
UNIT = 1e-6  # seconds by which a constant is raised to see what it does

Bar = tuple[str, int, int]  # model, tokens of a prompt, requests


def bars(engine: str) -> dict[Bar, float]:
    """Seconds that were measured."""
    rows = {(model, prompt): row for (model, name, prompt), row in BATCH_MS.items() if name == engine}
    return {(*key, size): ms / 1e3 for key, row in rows.items() for size, ms in zip(SIZES, row, strict=False)}


def batch_seconds(bar: Bar, constants: dict[str, float]) -> float:
    """Seconds that the cost model says: one iteration with all prompts, the others with a decode of every request."""
    (model, prompt, size), software = bar, Software(**{**constants, "iteration": 0.0})
    cluster = Cluster(software.on(DEVICE), NETWORK, PARALLEL[model], software)
    cost = TransformerCost(find_architecture(f"gpt3-{model}"), cluster)
    first = IterationWork(size * prompt, size, 0, 0, ((0, prompt),) * size, size)
    decodes = IterationWork(size, size, size, size * (prompt + 1), (), size)
    return sum(cost.stages(first)) + sum(sum(cost.stages(decodes.repeated(done))) for done in range(GENERATED - 1))


def fit(engine: str) -> dict[str, float]:
    """All constants of an engine, the fitted ones to three digits. Raises `ValueError` if one of them came out negative."""
    measured, names = bars(engine), FITTED[engine]
    without = {bar: batch_seconds(bar, GIVEN) for bar in measured}
    effects = [
        [(batch_seconds(bar, {**GIVEN, name: UNIT}) - without[bar]) / UNIT / seconds for name in names]
        for bar, seconds in measured.items()
    ]
    missing = [1 - without[bar] / seconds for bar, seconds in measured.items()]
    found, *_ = np.linalg.lstsq(np.array(effects), np.array(missing), rcond=None)
    if (found < 0).any():
        raise ValueError(
            f"{engine}: a constant is negative, so the formula does not suit: {dict(zip(names, found, strict=True))}"
        )
    return {**GIVEN, **{name: float(f"{value:.3g}") for name, value in zip(names, found, strict=True)}}


def scheduling(constants: dict[str, float]) -> float:
    """Seconds of Orca's scheduler in an iteration and stage, with which the latencies in LOW are right on average."""
    model, series, count = LOW
    points = LOADED[model, series][:count]

    def missing(seconds: float) -> float:
        software = "orca:" + ":".join(f"{name}={value!r}" for name, value in {**constants, "iteration": seconds}.items())
        rows = (ask(model, series, "orca", f"poisson:rate={rate!r}", MANY, None, software=software) for rate, _ in points)
        found = [1e3 * row.metrics.normalized_latency.percentile(50) for row in rows]
        return float(np.mean([1 - each / ms for each, (_, ms) in zip(found, points, strict=True)]))

    without, tried = missing(0.0), missing(TRIED)
    return float(f"{TRIED * without / (without - tried):.2g}")


def residuals(engine: str, constants: dict[str, float]) -> dict[str, list[float]]:
    """Relative error of every bar, a row of the figure at a time."""
    found: dict[str, list[float]] = {}
    for (model, prompt, size), seconds in bars(engine).items():
        error = batch_seconds((model, prompt, size), constants) / seconds - 1
        found.setdefault(f"{model}, {prompt} tokens", []).append(round(error, 4))
    return found


def contents(engine: str, constants: dict[str, float] | None = None) -> dict[str, Any]:
    """What belongs into the file of this engine: fitted anew, or with the constants given."""
    if constants is None:
        constants = fit(engine)
        if engine == "orca":
            constants["iteration"] = scheduling(constants)
    source = f"Orca figure 9, {len(bars(engine))} bars of 13B, 101B and 175B: {', '.join(FITTED[engine])}"
    if engine == "orca":
        source += "; figure 10b, the first three points of orca(8): iteration"
    return {"fitted_on": source, "device": DEVICE.name, "constants": constants, "residuals": residuals(engine, constants)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="print residuals, write nothing")
    check = parser.parse_args().check
    for engine in FITTED:
        file = FOLDER / f"{engine}.json"
        found = contents(engine, json.loads(file.read_text(encoding="utf-8"))["constants"] if check else None)
        if not check:
            file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{engine}: {found['constants']}")
        for row, errors in found["residuals"].items():
            print(f"  {row:18}", "  ".join(f"{100 * error:+5.1f} %" for error in errors))


if __name__ == "__main__":
    main()
