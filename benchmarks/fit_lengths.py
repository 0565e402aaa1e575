"""Fits the length presets to published traces and tables, with residuals.

    python benchmarks/fit_lengths.py

The traces are not part of the project: they are read from ../shared/data/traces, or from $ORCINUS_DATA/traces. What is
kept of a trace is, for prompt and output, the lengths at 25 shares (straight lines between them are the distribution), and
the rank correlation of both as a Gaussian copula. Of a table of medians and 90th percentiles, it is two lognormals.
"""

from __future__ import annotations

import json
import os
from math import pi, sin
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orcinus.workload.lengths import Correlated
from orcinus.workload.marginals import Lognormal, Quantiles
from orcinus.workload.processes import Gamma
from orcinus.workload.summary import Spread, spread
from orcinus.workload.trace import Trace

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("ORCINUS_DATA", ROOT.parent / "shared" / "data")) / "traces"
TARGET = ROOT / "src" / "orcinus" / "workload" / "fitted.json"
SHARES = (0.0, 0.001, 0.01, *(round(0.05 * step, 2) for step in range(1, 20)), 0.99, 0.999, 1.0)
DRAWS = 200_000
SIDES = ("prompt", "output")
MEASURES = ("median", "p90", "mean", "std")
TRACES = {  # preset: file, most tokens in total, where it is from
    "sharegpt": ("sharegpt_8k.csv", 8192, "openchat_sharegpt4 as traced by Sarathi-Serve (OSDI 2024, table 2), Apache-2.0"),
    "arxiv": ("arxiv_4k.csv", 4096, "arXiv summarization cut at 4096 tokens, published with Vidur (MLSys 2024), MIT"),
    "azure-conversation": ("splitwise_conv.csv", 16384, "Azure LLM inference trace 2023, conversation, as in Vidur, MIT"),
}
TABLE = {  # Sarathi-Serve, table 2, arxiv_summarization: median, P90, std. The std of outputs is the one printed elsewhere in
    "prompt": (7059, 12985, 3638),  # its column: the two datasets' are exchanged, as the openchat trace shows.
    "output": (208, 371, 101),
}

Ints = NDArray[np.int64]


def drawn(lengths: Correlated) -> Ints:
    return lengths.pairs(np.random.default_rng(1).random((DRAWS, 2)))


def compared(data: dict[str, float], fit: Spread) -> dict[str, Any]:
    """Data, fit and what is between them as a share of the data."""
    return {
        name: {"data": round(value, 1), "fit": round(getattr(fit, name), 1), "error": round(getattr(fit, name) / value - 1, 4)}
        for name, value in data.items()
    }


def distance(data: Ints, fit: Ints) -> float:
    """Kolmogorov-Smirnov: the largest difference of the two shares of requests up to a length."""
    at = np.unique(np.concatenate([data, fit]))
    shares = [np.searchsorted(np.sort(side), at, side="right") / len(side) for side in (data, fit)]
    return round(float(np.abs(shares[0] - shares[1]).max()), 4)


def rank_correlation(pairs: Ints) -> float:
    ranks = pairs.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    return float(np.corrcoef(ranks, rowvar=False)[0, 1])


def fit_trace(pairs: Ints, max_total: int) -> dict[str, Any]:
    sides = [Quantiles(SHARES, tuple(float(round(q, 1)) for q in np.quantile(side, SHARES))) for side in pairs.T]
    correlation = round(2 * sin(pi * rank_correlation(pairs) / 6), 3)  # exact for a Gaussian copula
    fit = drawn(Correlated(*sides, correlation, max_total))
    residuals = {}
    for name, data, found in zip(SIDES, pairs.T, fit.T, strict=True):
        residuals[name] = compared({measure: getattr(spread(data), measure) for measure in MEASURES}, spread(found))
        residuals[name]["kolmogorov-smirnov"] = distance(data, found)
    known = {name: {"shares": side.shares, "tokens": side.tokens} for name, side in zip(SIDES, sides, strict=True)}
    return {**known, "correlation": correlation, "max_total": max_total, "requests": len(pairs), "residuals": residuals}


def fit_table(max_total: int) -> dict[str, Any]:
    """Lognormals which, cut at the total, have the published medians and 90th percentiles."""
    known, sides = {}, []
    for name, (median, p90, _) in TABLE.items():
        asked = np.array([median, p90], float)
        for _ in range(100):
            side = Lognormal(median=asked[0], p90=asked[1], high=max_total)
            asked *= np.array([median, p90]) / side.at(np.array([0.5, 0.9]))
        known[name] = {"median": round(asked[0], 1), "p90": round(asked[1], 1), "high": max_total}
        sides.append(Lognormal(**known[name]))
    fit = drawn(Correlated(*sides, 0.0, max_total))
    published = {name: dict(zip(("median", "p90", "std"), row, strict=True)) for name, row in TABLE.items()}
    residuals = {name: compared(published[name], spread(found)) for name, found in zip(TABLE, fit.T, strict=True)}
    return {**known, "correlation": 0.0, "max_total": max_total, "residuals": residuals}


def fit_gaps(moments: NDArray[np.float64]) -> dict[str, Any]:
    """A gamma process with the mean and the variation of the gaps; how far its percentiles are off."""
    gaps = np.diff(moments)
    rate, cv = round(float(1 / gaps.mean()), 3), round(float(gaps.std() / gaps.mean()), 3)
    process = Gamma(rate, cv).moments(np.random.default_rng(1))
    fit = np.diff(np.fromiter(process, float, DRAWS))
    percentiles = {
        f"p{p}": {"data": round(float(np.percentile(gaps, p)), 4), "fit": round(float(np.percentile(fit, p)), 4)}
        for p in (10, 50, 90, 99)
    }
    minutes = np.bincount((moments // 60).astype(int))[:-1]  # a gamma process varies less from minute to minute
    dispersion = {"data": round(float(minutes.var() / minutes.mean()), 2), "fit": round(cv**2, 2)}
    return {"rate": rate, "cv": cv, "residuals": {"seconds": percentiles, "variance to mean of a minute's count": dispersion}}


def lines(preset: dict[str, Any]) -> list[str]:
    """One line a key: a file that can be read, and compared after the next fit."""
    return [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in preset.items()]


def main() -> None:
    known: dict[str, dict[str, Any]] = {}
    for name, (file, max_total, source) in TRACES.items():
        arrivals = list(Trace(str(DATA / file)).arrivals())
        pairs = np.array([(a.prompt_tokens, a.output_tokens) for a in arrivals], np.int64)
        known[name] = {"source": source, **fit_trace(pairs, max_total)}
        if name == "azure-conversation":
            known[name]["gaps"] = fit_gaps(np.array([a.at for a in arrivals]))
    known["arxiv-16k"] = {"source": "Sarathi-Serve (OSDI 2024), table 2: arxiv_summarization", **fit_table(16384)}
    presets = [f"{json.dumps(name)}: {{\n" + ",\n".join(lines(preset)) + "\n}" for name, preset in known.items()]
    TARGET.write_text("{\n" + ",\n".join(presets) + "\n}\n", encoding="utf-8")
    for name, preset in known.items():
        print(name, json.dumps(preset["residuals"]), json.dumps(preset.get("gaps", "")), sep="\n  ")


if __name__ == "__main__":
    main()
