"""`orcinus bench offline`: configurations of the engine in this process, in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from orcinus import interrupt
from orcinus.bench.config import LoadConfig
from orcinus.cli.bench.out import check_out, finish
from orcinus.cli.labels import labels
from orcinus.cli.options import takes, takes_several
from orcinus.cli.progress import Bars, progress
from orcinus.config import EngineConfig

SEVERAL = ("policy", "kv", "paper", "order", "max_batch_size", "max_batch_tokens")  # may be lists, with commas between
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Write everything that was measured to this file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print what --out would write instead of tables.")]


@takes("load", LoadConfig)
@takes_several("configs", EngineConfig, SEVERAL, without=("record",))
def offline(out: Out = None, as_json: AsJson = False, *, configs: Sequence[EngineConfig], load: LoadConfig) -> None:
    """Measure the engine in this process: throughput, TTFT, TPOT, TBT, end to end.

    --policy, --kv, --paper, --order, --max-batch-size and --max-batch-tokens may hold several values with commas between:
    all combinations serve the same requests over the same weights and take turns, so that what disturbs the machine disturbs
    all alike. Outputs have exactly the length that the workload says.
    Example: `orcinus bench offline --workload short_long_mix --policy request-level,orca`
    """
    from orcinus.bench.offline import run_offline

    check_out(out)
    named = dict(zip(labels(configs, SEVERAL), configs, strict=True))
    interrupt.raise_exception()
    with progress() as bars:
        result = run_offline(named, load, loading=loading(bars), bar=bars.bar)
    finish(result, out, as_json)


def loading(bars: Bars) -> Callable[[str, int, int], None]:
    """A bar for each stage of loading a model."""
    shown: dict[str, Callable[..., None]] = {}

    def tell(stage: str, done: int, total: int) -> None:
        if stage not in shown:
            shown[stage] = bars.bar(stage, total or 1)
        shown[stage](done or total, total or 1)

    return tell
