"""Sarathi-Serve, figure 13a: Falcon-180B over two nodes, by tensors alone or with a pipeline."""

from __future__ import annotations

from statistics import median

from orcinus.papers.findings import Comparison, Finding, NumberSource, Ordering, within
from orcinus.papers.published_sarathi_serve import TBT_13
from orcinus.papers.simulated.experiment import Experiment, Scope
from orcinus.papers.simulated.microbench import iterations
from orcinus.plots.figures import Curve, Figure, Panel
from orcinus.sim.config import SimulationConfig
from orcinus.sim.simulate import set_up

DEVICE = "a100-80g"
LAYOUTS = {"TP8": (8, 1), "TP4-PP2": (4, 2)}
BATCHES = (8, 16, 32, 64)
BATCH = 32  # that of section 3.3; the figure does not say
PROMPT, ANSWER = 1024, 8  # tokens


def decode_seconds(tp: int, pp: int, batch: int) -> float:
    """Median seconds of a decode-only iteration, from its launch to its tokens."""
    config = SimulationConfig(
        model="falcon-180b",
        device=DEVICE,
        network="a100-nc96ads",
        software="vllm",
        tp=tp,
        pp=pp,
        in_flight=1,
        max_batch_size=batch,
        max_model_len=PROMPT + ANSWER,
    )
    found = iterations(set_up(config), "orca", [(PROMPT, ANSWER)] * batch)
    return median(each.seconds for each in found if each.work.decodes == batch)


def figure_13a() -> Finding:
    """Row 30: time between tokens of decodes alone."""
    ms = {name: {batch: 1e3 * decode_seconds(*layout, batch) for batch in BATCHES} for name, layout in LAYOUTS.items()}
    tensors, pipeline = ms["TP8"], ms["TP4-PP2"]
    checks: list[Comparison] = [
        *(within(f"{name}, {BATCH} decodes", TBT_13[name], ms[name][BATCH], 0.3, "ms") for name in LAYOUTS),
        within("TP8 / TP4-PP2", TBT_13["TP8"] / TBT_13["TP4-PP2"], tensors[BATCH] / pipeline[BATCH], 0.4),
        *(Ordering(f"{batch} decodes: TP8 slower than TP4-PP2", tensors[batch] > pipeline[batch]) for batch in BATCHES),
    ]
    others = "; ".join(f"{batch} decodes {tensors[batch]:.0f} and {pipeline[batch]:.0f} ms" for batch in BATCHES)
    notes = [
        f"The paper does not say how many requests decode: taken are the {BATCH} of its section 3.3, at {PROMPT} tokens. "
        f"TP8 and TP4-PP2 by the number of decodes: {others}.",
        "Nothing was fitted on this figure. The Ethernet's constants come from sends between two nodes of A40s: sockets carry "
        "a fifth of the 100 Gb/s, and every crossing between nodes takes tens of microseconds. Sums over them reach the part "
        "of sends that they reach over InfiniBand.",
    ]
    curves = [Curve(name, [(float(batch), table[batch]) for batch in BATCHES]) for name, table in ms.items()]
    curves += [Curve(name, [(float(BATCH), TBT_13[name])], published=True) for name in LAYOUTS]
    figure = Figure(
        "sarathi_serve_figure_13a",
        "Sarathi-Serve figure 13a: Falcon-180B on two nodes",
        [Panel("decodes alone", "requests", "ms between tokens", curves)],
    )
    return Finding(checks, notes, [figure])


ROW = Experiment(
    30,
    "Sarathi-Serve",
    "Figure 13a",
    f"Falcon-180B on two nodes of 4 A100-80GB (NVLink between pairs, 100 Gb/s Ethernet between nodes), {BATCH} decodes at 1 K "
    "tokens: TP8 over both nodes, or TP4 in each and two stages",
    "±30 %, ratio ±40 %, ordering strict",
    "nothing here; vllm's constants on figure 9, the network's on collectives of other nodes",
    NumberSource.IMAGE,
    figure_13a,
    Scope.ITERATION,
    DEVICE,
)
