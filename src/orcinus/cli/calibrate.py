"""`orcinus calibrate`: costs of iterations on this machine, for simulations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from orcinus.cli.engine import engine
from orcinus.cli.options import ADAPTERS, takes_engine
from orcinus.cli.progress import progress
from orcinus.config import EngineConfig
from orcinus.cost.fitted import FEATURES
from orcinus.errors import ConfigError
from orcinus.files import can_write
from orcinus.machine_load import taken_now

if TYPE_CHECKING:
    from orcinus.cost.calibration import Calibration

WATCHED = 1.0  # seconds for which the machine is watched before anything is measured
INSTEAD = "calibrate on a quiet machine, or give --in-doubt for a file that says so"


@takes_engine(names_model=True, without=ADAPTERS)
def calibrate(
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("orcinus-calibration.json"),
    seconds: Annotated[float, typer.Option(min=1, help="How long to measure; longer is more exact.")] = 30.0,
    in_doubt: Annotated[
        bool, typer.Option("--in-doubt", help="Write the file also if other processes took the cores meanwhile.")
    ] = False,
    *,
    config: EngineConfig,
) -> None:
    """Measure the costs of iterations, and write a device file.

    The file is for `orcinus simulate`. Runs the real engine over batches of many sizes, contexts and prompts, and fits what
    each part of an iteration costs. Limits and K/V memory of the engine become those of the simulation. If other processes take
    the cores meanwhile, nothing is written, except with --in-doubt; then the file says so, and every simulation with it.
    Example: `orcinus calibrate --max-batch-size 16 -o here.json && orcinus simulate --device here.json --lengths orca`
    """
    from orcinus.calibrate import calibrate as measure

    if output.suffix != ".json":
        raise ConfigError(f"the file of a calibration ends with .json, or simulate would take it for a device: not {output}")
    if not can_write(output):
        raise ConfigError(f"cannot write {output}: give --output a file in a folder that exists and can be written")
    with engine(config) as llm:
        if not in_doubt and (others := taken_now(WATCHED)) is not None:
            raise ConfigError(f"nothing was measured, because {others}: {INSTEAD}")
        with progress() as bars:
            done = bars.bar("seconds", round(seconds))
            found = measure(llm, seconds, lambda passed: done(int(passed)))
    if found.doubts and not in_doubt:
        raise ConfigError(f"nothing was written, because {'; '.join(found.doubts)}: {INSTEAD}")
    found.write(output)
    _print(found, output)


def _print(found: Calibration, output: Path) -> None:
    cost, console = found.cost, Console(highlight=False)
    console.print(f"[bold]{found.model}[/] in {found.dtype} on {found.machine}", soft_wrap=True)
    table = Table("", "microseconds", "for", box=None, header_style="bold")
    table.columns[1].justify = "right"
    for name, meaning in FEATURES.items():
        table.add_row(name, f"{cost.seconds[name] * 1e6:.3f}", meaning)
    console.print(table)
    console.print(
        f"{cost.iterations} iterations; of those held out, the error is {cost.error.median:.1%} in the median, "
        f"{cost.error.p90:.1%} in the 90th percentile.\nWritten to {output}: orcinus simulate --device {output}",
        soft_wrap=True,
    )
    for doubt in found.doubts:
        console.print(f"[bold red]![/] In doubt: {doubt}. Calibrate again on a quiet machine.", soft_wrap=True)
