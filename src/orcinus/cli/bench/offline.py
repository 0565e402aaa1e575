"""`orcinus bench offline`: configurations of the engine in this process, in turn."""

from __future__ import annotations

from collections.abc import Sequence

from orcinus import interrupt
from orcinus.bench.config import LoadConfig
from orcinus.cli.bench.out import AsJson, Out, check_out, finish
from orcinus.cli.bench.systems import SEVERAL, check, loading
from orcinus.cli.labels import labels
from orcinus.cli.options import ADAPTERS, takes, takes_several
from orcinus.cli.progress import progress
from orcinus.config import EngineConfig


@takes("load", LoadConfig)
@takes_several("configs", EngineConfig, SEVERAL, without=("record", *ADAPTERS))
def offline(out: Out = None, as_json: AsJson = False, *, configs: Sequence[EngineConfig], load: LoadConfig) -> None:
    """Measure the engine in this process.

    Reports throughput, TTFT, TPOT, TBT and end-to-end latency. --policy, --kv, --paper, --order, --speculative,
    --max-batch-size and --max-batch-tokens may hold several values with commas between: all combinations serve the same
    requests over the same weights and take turns, so that what disturbs the machine disturbs all alike. Outputs have exactly
    the length that the workload says.
    Example: `orcinus bench offline --workload short_long_mix --policy request-level,orca`
    """
    check_out(out)
    check(configs, load)
    from orcinus.bench.offline import run_offline

    named = dict(zip(labels(configs, SEVERAL), configs, strict=True))
    interrupt.raise_exception()
    with progress() as bars:
        result = run_offline(named, load, loading=loading(bars), bar=bars.bar)
    finish(result, out, as_json)
