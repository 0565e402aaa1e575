"""`orcinus info`: the engine this machine would get, and why."""

from __future__ import annotations

import os
import platform
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

import orcinus
from orcinus.cli.options import takes_engine
from orcinus.cli.plan import memory_rows
from orcinus.config import EngineConfig
from orcinus.errors import plural
from orcinus.threads import bound_cpus, engine_threads, num_cores

MIB = 2**20
NO_OPENMP = "install libgomp (Debian: libgomp1), or the two pools compete"


@takes_engine()
def info(*, config: EngineConfig) -> None:
    """Show the machine, the model, the number format and the K/V capacity.

    Explains each choice. Takes the same options as `generate`, decides everything as it would, and reads no weight.
    """
    from orcinus.plan import make_plan

    plan = make_plan(config)
    plan.check()
    resolved = plan.resolved
    sections = [("model", _model(resolved)), ("engine", _engine(config, resolved)), ("memory", memory_rows(plan))]
    table = Table.grid(padding=(0, 2))
    for title, rows in [("machine", _machine(config)), *sections]:
        table.add_row(f"[bold]{title}[/]")
        for name, value in rows:
            table.add_row(f"  {name}", Text(value))
    Console().print(table, highlight=False)


def _machine(config: EngineConfig) -> list[tuple[str, str]]:
    import torch

    from orcinus.runtime.device_memory import memory_available

    torch.set_num_threads(engine_threads(config.threads, torch.get_num_threads()))
    rows = [
        ("orcinus", orcinus.__version__),
        ("python, torch", f"{platform.python_version()}, {torch.__version__}"),
        ("processor", f"{platform.machine()}, {os.cpu_count()} CPUs"),
        ("threads", _threads(torch.get_num_threads())),
        ("memory available", f"{memory_available(torch.device('cpu')) // MIB} MiB"),
    ]
    if torch.cuda.is_available():
        rows.append(("GPU", f"{torch.cuda.get_device_name()}, {memory_available(torch.device('cuda')) // MIB} MiB available"))
    return rows


def _threads(number: int) -> str:
    """How many, where they may run, and whose they are."""
    from orcinus.runtime.numba_threads import threading_layer

    layer, bound = threading_layer(), bound_cpus()
    shared = (
        "torch and Numba share one OpenMP pool" if layer == "omp" else f"Numba has a pool of its own ({layer}): {NO_OPENMP}"
    )
    where = (
        f"bound to CPUs {', '.join(map(str, bound))}" if bound else f"{plural(num_cores(), 'core')} to use, not bound to CPUs"
    )
    return f"{number}; {where}; {shared}"


def _model(resolved: Any) -> list[tuple[str, str]]:
    return [
        ("folder", str(resolved.folder)),
        *([("commit", resolved.revision)] if resolved.revision else []),
        ("architecture", resolved.architecture),
        ("parameters", f"{resolved.num_parameters / 1e6:.1f} M"),
        ("dtype", f"{resolved.dtype} ({resolved.dtype_reason})"),
        *([("quantization", resolved.quantization)] if resolved.quantization else []),
        *(("note", note) for note in resolved.notes),
    ]


def _mesh(resolved: Any) -> str:
    layers = " | ".join(f"{stage.start} to {stage.stop - 1}" for stage in resolved.stages)
    return f"tp {resolved.tp}, pp {resolved.pp}" + (f": layers {layers}" if resolved.pp > 1 else "")


def _engine(config: EngineConfig, resolved: Any) -> list[tuple[str, str]]:
    limits = resolved.limits
    return [
        ("mesh", _mesh(resolved)),
        ("device, attention", f"{resolved.device}, {resolved.attention}"),
        *([("deterministic", "the same bits in any batch")] if resolved.deterministic else []),
        ("policy, order, K/V", f"{config.policy}, {resolved.order}, {resolved.kv}"),
        ("drafts", resolved.speculative),
        ("batch", f"at most {plural(limits.max_batch_size, 'request')} and {plural(limits.max_batch_tokens, 'token')}"),
        ("  because", resolved.tokens_reason),
        ("model length", plural(limits.max_model_len, "token")),
    ]
