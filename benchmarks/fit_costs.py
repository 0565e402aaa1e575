"""Fits the cost model's constants to published measurements, with residuals.

    python benchmarks/fit_costs.py [--data ../shared/data] [--check]

Writes linear.json and elementwise.json in src/orcinus/cost/constants; with --check it only prints the residuals of the
constants that are there. Sources: the profiles of an A100-80GB, an A40 and an H100 that Vidur (Agrawal et al., MLSys 2024)
publishes, in ms, and figure 7 of SARATHI (arXiv 2308.16369) for the A6000. Products and operators of the A100 are fitted
to Llama-2-7B alone and checked on CodeLlama-34B; those of the A40 and the H100 are fitted to Llama-2-7B over 1 and 4
devices and checked on 2 and 8, since no other model was measured there. The formulas are those of orcinus.cost: only
their constants are searched, by Nelder and Mead's simplex.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from orcinus.cost.devices import DEVICES, DeviceSpec, Efficiency, ElementwiseKernel
from orcinus.cost.linear import linear_seconds

ROOT = Path(__file__).parents[1]
CONSTANTS = ROOT / "src/orcinus/cost/constants"
LINEARS = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")
COLUMNS = {  # of the profile, for each operator of the cost model
    "norm": ("input_layernorm", "post_attention_layernorm"),
    "rope": ("attn_rope",),
    "activation": ("mlp_act",),
    "add": ("add",),
    "embedding": ("emb",),
}
A100, A6000 = "a100-80g", "a6000"
DEGREES = (1, 2, 4, 8)  # of tensor parallelism, in every profile


class KernelProfile(NamedTuple):
    """A part of a measured file: one model's kernels on one device."""

    device: str
    file: str  # in the folder of data, without its ending
    degrees: tuple[int, ...] = DEGREES

    @property
    def name(self) -> str:
        chosen = "" if self.degrees == DEGREES else ", tp " + " and ".join(map(str, self.degrees))
        return f"{self.file.replace('/', ', ')}{chosen}"


# By chip: what its constants are fitted on, and what they are checked on.
PROFILES = {
    "a100": (KernelProfile(A100, "a100/Llama-2-7b"), KernelProfile(A100, "a100/CodeLlama-34b")),
    "a40": (KernelProfile("a40", "a40/Llama-2-7b", (1, 4)), KernelProfile("a40", "a40/Llama-2-7b", (2, 8))),
    "h100": (KernelProfile("h100", "h100/Llama-2-7b", (1, 4)), KernelProfile("h100", "h100/Llama-2-7b", (2, 8))),
}
OVERLAPPED = ("h100",)  # chips whose tensor cores read operands while others are loaded (`Efficiency.overlapped`)

# SARATHI figure 7: tokens, and ms of all linear layers of LLaMA-13B on an A6000. Forty layers whose feed-forward network is
# two products H -> 4H -> H, as the paper describes it (its figure 3 gives both the same time).
TOKENS_7 = (2, 64, 128, 129, 200, 256, 257, 384, 385, 512, 513, 640, 641, 768, 769, 896, 897, 1024, 1025)
MS_7 = (44.9, 49.9, 53.3, 72.8, 63.2, 67.5, 90.0, 94.9, 112, 116, 148, 155, 180, 186, 211, 214, 234, 237, 274)
SHAPES_7 = ((5120, 15360), (5120, 5120), (5120, 20480), (20480, 5120))

Key = tuple[str, int, int, int, int]  # column, tensor parallel degree, and the product m, k, n
Point = tuple[float, float]  # measured, predicted
Row = dict[str, str]


def data_folder(given: str | None = None) -> Path:
    """The folder of measurements: given, in ORCINUS_DATA, or beside the repository."""
    return Path(given or os.environ.get("ORCINUS_DATA") or ROOT.parent / "shared/data")


def rows_of(file: Path) -> list[Row]:
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


# ---- products ----


def widths(row: Row) -> dict[str, tuple[int, int]]:
    """[k, n] of each product on one device; few K/V heads are replicated."""
    hidden, heads, kv_heads, ffn = (int(row[name]) for name in ("n_embd", "n_head", "n_kv_head", "n_expanded_embd"))
    tp = int(row["num_tensor_parallel_workers"])
    head, up = hidden // heads, ffn * (2 if row["use_gated_mlp"] == "True" else 1)
    qkv = (heads + 2 * max(kv_heads, tp)) * head // tp
    return dict(
        zip(LINEARS, ((hidden, qkv), (heads * head // tp, hidden), (hidden, up // tp), (ffn // tp, hidden)), strict=True)
    )


def median_of(row: Row, name: str) -> float:
    """The measured median in seconds; nan where the profile has none."""
    return float(row[f"time_stats.{name}.median"] or "nan") / 1e3


def rows_of_profile(folder: Path, profile: KernelProfile) -> list[Row]:
    """The measured rows of the profile's degrees."""
    rows = rows_of(folder / f"{profile.file}-mlp.csv")
    return [row for row in rows if int(row["num_tensor_parallel_workers"]) in profile.degrees]


def measured_products(folder: Path, profile: KernelProfile) -> dict[Key, float]:
    """Seconds of every product. Sizes that were measured twice are averaged."""
    found: dict[Key, list[float]] = defaultdict(list)
    for row in rows_of_profile(folder, profile):
        tokens, tp = int(row["num_tokens"]), int(row["num_tensor_parallel_workers"])
        for name, (k, n) in widths(row).items():
            found[name, tp, tokens, k, n].append(median_of(row, name))
    return {key: float(np.mean(times)) for key, times in found.items() if not np.isnan(times).any()}


def errors(points: Iterable[Point]) -> list[float]:
    """Median and 90th percentile of the absolute relative error."""
    each = [abs(predicted / measured - 1) for measured, predicted in points]
    return [round(float(value), 4) for value in (np.median(each), np.percentile(each, 90))]


def by_degree(points: dict[tuple[int, int], Point]) -> dict[str, list[float]]:
    """Errors at each tensor parallel degree and over all of them, from points by degree and number of tokens."""
    degrees = sorted({tp for tp, _ in points})
    apart = {f"tp{tp}": errors(point for (other, _), point in points.items() if other == tp) for tp in degrees}
    return {**apart, "all": errors(points.values())}


def product_residuals(device: DeviceSpec, measured: dict[Key, float]) -> dict[str, dict[str, list[float]]]:
    """Errors of each product and of the four together."""
    found: dict[str, dict[tuple[int, int], Point]] = defaultdict(dict)
    sums: dict[tuple[int, int], Point] = defaultdict(lambda: (0.0, 0.0))
    for (name, tp, m, k, n), seconds in measured.items():
        predicted = linear_seconds(device, m, k, n)
        found[name][tp, m] = (seconds, predicted)
        sums[tp, m] = (sums[tp, m][0] + seconds, sums[tp, m][1] + predicted)
    return {name: by_degree(points) for name, points in {**found, "sum": sums}.items()}


# ---- fitting ----


def loss(points: Iterable[Point]) -> float:
    """The sum of mean and root mean square of the logarithmic errors."""
    each = np.array([math.log(predicted / measured) for measured, predicted in points])
    return float(np.abs(each).mean() + 0.5 * np.sqrt((each**2).mean()))


def simplex(badness: Callable[[Sequence[float]], float], start: Sequence[float], steps: int) -> list[float]:
    """The positive numbers that minimise `badness` (Nelder-Mead on their logarithms)."""

    def value(point: Any) -> tuple[float, Any]:
        return badness([float(f"{number:.4g}") for number in np.exp(point)]), point

    origin = np.log(np.array(start))
    corners = [value(origin), *(value(origin + 0.15 * axis) for axis in np.eye(len(start)))]
    for _ in range(steps):
        corners.sort(key=lambda corner: corner[0])
        worst = corners[-1][1]
        centre = np.mean([point for _, point in corners[:-1]], axis=0)
        mirrored = value(2 * centre - worst)
        if mirrored[0] < corners[0][0]:
            corners[-1] = min(mirrored, value(3 * centre - 2 * worst), key=lambda corner: corner[0])
        elif mirrored[0] < corners[-2][0]:
            corners[-1] = mirrored
        else:
            inside = value((centre + worst) / 2)
            best = corners[0][1]
            shrunk = [corners[0], *(value((best + point) / 2) for _, point in corners[1:])]
            corners = [*corners[:-1], inside] if inside[0] < corners[-1][0] else shrunk
    _, best = min(corners, key=lambda corner: corner[0])
    return [float(f"{number:.4g}") for number in np.exp(best)]


def tried(device: DeviceSpec, numbers: Sequence[float]) -> DeviceSpec | None:
    """The device with these efficiencies, as many as are given; none if they exceed its peaks."""
    names = list(asdict(device.efficiency))
    if max(numbers[:2]) > 1:
        return None
    return replace(device, efficiency=replace(device.efficiency, **dict(zip(names, numbers, strict=False))))


def fit_products(chip: str, measured: dict[Key, float]) -> Efficiency:
    """All five constants of a chip, on every product."""
    profile, _ = PROFILES[chip]
    known = DEVICES[profile.device]
    start = replace(known, efficiency=replace(known.efficiency, overlapped=chip in OVERLAPPED))

    def badness(numbers: Sequence[float]) -> float:
        device = tried(start, numbers)
        points = () if device is None else ((time, linear_seconds(device, *key[2:])) for key, time in measured.items())
        return loss(points) if device else math.inf

    found = simplex(badness, [0.95, 0.85, 4e-6, 2e-7, 3e-6] if chip == "a100" else [0.8, 0.8, 4e-6, 2e-7, 3e-6], steps=150)
    return Efficiency(*found, overlapped=chip in OVERLAPPED)


def figure_7(device: DeviceSpec) -> list[Point]:
    """Seconds in the figure and those predicted."""
    predicted = [40 * sum(linear_seconds(device, tokens, k, n) for k, n in SHAPES_7) for tokens in TOKENS_7]
    return list(zip([ms / 1e3 for ms in MS_7], predicted, strict=True))


def fit_a6000(a100: Efficiency) -> Efficiency:
    """The two fractions, on figure 7; what launches and tiles cost is the A100's."""
    start = replace(DEVICES[A6000], efficiency=a100)

    def badness(numbers: Sequence[float]) -> float:
        device = tried(start, numbers)
        return loss(figure_7(device)) if device else math.inf

    return replace(a100, **dict(zip(("flops", "bandwidth"), simplex(badness, [0.8, 0.75], steps=60), strict=True)))


# ---- operators that move numbers ----


def bytes_moved(row: Row) -> dict[str, int]:
    """Bytes that each operator reads and writes, on one device."""
    tokens, hidden, tp = int(row["num_tokens"]), int(row["n_embd"]), int(row["num_tensor_parallel_workers"])
    head = hidden // int(row["n_head"])
    heads = int(row["n_head"]) + max(int(row["n_kv_head"]), tp)
    results = int(row["n_expanded_embd"]) * (3 if row["use_gated_mlp"] == "True" else 2)
    elements = {"norm": 2 * hidden, "add": 3 * hidden, "embedding": 2 * hidden}
    elements |= {"rope": 2 * heads * head // tp, "activation": results // tp}
    return {name: 2 * tokens * count for name, count in elements.items()}


def measured_operators(folder: Path, profile: KernelProfile) -> dict[str, list[Point]]:
    """(seconds, bytes) of every operator."""
    found: dict[str, list[Point]] = defaultdict(list)
    for row in rows_of_profile(folder, profile):
        for name, size in bytes_moved(row).items():
            found[name] += [(median_of(row, column), float(size)) for column in COLUMNS[name]]
    return dict(found)


def operator_points(device: DeviceSpec, kernel: ElementwiseKernel, measured: list[Point]) -> list[Point]:
    return [(seconds, kernel.seconds(device.bandwidth, size)) for seconds, size in measured]


def fit_operator(device: DeviceSpec, measured: list[Point]) -> dict[str, float]:
    """The two constants of a kernel; caches do not make it faster than the device's memory."""

    def badness(numbers: Sequence[float]) -> float:
        latency, share = numbers
        return loss(operator_points(device, ElementwiseKernel(latency, share), measured)) if share <= 1 else math.inf

    return asdict(ElementwiseKernel(*simplex(badness, [3e-6, 0.5], steps=60)))


# ---- files ----


def linear_file(folder: Path, found: dict[str, Any] | None = None) -> dict[str, Any]:
    """The contents of linear.json, fitted anew or with the constants given."""
    products = {profile: measured_products(folder, profile) for both in PROFILES.values() for profile in both}
    if found is None:
        fitted = {chip: fit_products(chip, products[fit_on]) for chip, (fit_on, _) in PROFILES.items()}
        found = {name: efficiency_file(each) for name, each in {**fitted, "a6000": fit_a6000(fitted["a100"])}.items()}
    devices = {profile.device: profile_device(chip, found) for chip, (profile, _) in PROFILES.items()}
    small = replace(DEVICES[A6000], efficiency=Efficiency(**found["a6000"]))
    residuals: dict[str, Any] = {
        each.name: product_residuals(devices[each.device], points) for each, points in products.items()
    }
    residuals["SARATHI figure 7"] = {"sum": {"tp1": errors(figure_7(small))}}
    fitted_on = {chip: f"{fit_on.name}: all products and tokens" for chip, (fit_on, _) in PROFILES.items()}
    return {
        "fitted_on": {**fitted_on, "a6000": "SARATHI figure 7 (flops, bandwidth)"},
        "efficiency": found,
        "residuals": residuals,
    }


def efficiency_file(found: Efficiency) -> dict[str, Any]:
    """The constants as they stand in linear.json."""
    return {name: value for name, value in asdict(found).items() if name != "device" and value is not False}


def profile_device(chip: str, found: dict[str, Any]) -> DeviceSpec:
    """The device of a chip's profiles, with these constants."""
    profile, _ = PROFILES[chip]
    return replace(DEVICES[profile.device], efficiency=Efficiency(**found[chip]))


def elementwise_file(folder: Path, found: dict[str, Any] | None = None) -> dict[str, Any]:
    """The contents of elementwise.json, fitted anew or with the constants given."""
    points = {profile: measured_operators(folder, profile) for both in PROFILES.values() for profile in both}
    found = found or {
        chip: {name: fit_operator(DEVICES[fit_on.device], measured) for name, measured in points[fit_on].items()}
        for chip, (fit_on, _) in PROFILES.items()
    }
    residuals = {
        profile.name: {
            name: {"all": errors(operator_points(DEVICES[profile.device], ElementwiseKernel(**found[chip][name]), measured))}
            for name, measured in points[profile].items()
        }
        for chip, both in PROFILES.items()
        for profile in both
    }
    fitted_on = {chip: fit_on.name for chip, (fit_on, _) in PROFILES.items()}
    return {"fitted_on": fitted_on, "operators": found, "residuals": residuals}


FILES: dict[str, tuple[Callable[..., dict[str, Any]], str | None]] = {  # and where the constants stand that are checked
    "linear": (linear_file, "efficiency"),
    "elementwise": (elementwise_file, "operators"),
}


def contents(name: str, folder: Path, check: bool) -> dict[str, Any]:
    """What belongs into the file of this name; with `check`, by the constants that are in it."""
    make, part = FILES[name]
    if not check:
        return make(folder)
    there = json.loads((CONSTANTS / f"{name}.json").read_text(encoding="utf-8"))
    return make(folder, there if part is None else there[part])


def show(residuals: dict[str, Any], width: int = 40) -> None:
    """Median and 90th percentile in percent: a line for every operator, a column for every part of its measurements."""
    for source, operators in residuals.items():
        print(f"\n{source}: median / 90th percentile of the absolute relative error, %")
        for name, columns in operators.items():
            cells = (f"{part} {100 * middle:5.1f} /{100 * high:6.1f}" for part, (middle, high) in columns.items())
            print(f"  {name:{width}} {'   '.join(cells)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder with a100/ and network/")
    parser.add_argument("--check", action="store_true", help="print residuals, write nothing")
    options = parser.parse_args()
    for name in FILES:
        fitted = contents(name, data_folder(options.data), options.check)
        if not options.check:
            (CONSTANTS / f"{name}.json").write_text(json.dumps(fitted, indent=1) + "\n", encoding="utf-8")
        print(json.dumps({key: value for key, value in fitted.items() if key not in ("residuals", "a100-dgx")}, indent=1))
        show(fitted["residuals"])


if __name__ == "__main__":
    main()
