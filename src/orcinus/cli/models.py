"""`orcinus models`: what can be loaded, how it runs here, and which models are on this machine."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orcinus.cli.progress import size
from orcinus.errors import ConfigError
from orcinus.gguf_config import ARCHITECTURES as GGUF_ARCHITECTURES


def models(
    local: Annotated[bool, typer.Option("--local", help="List the models in the hub's cache instead.")] = False,
    measure: Annotated[bool, typer.Option("--measure", help="Measure how fast each format is multiplied here.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, sizes in bytes.")] = False,
) -> None:
    """List the architectures and formats of weights that can be loaded, and how they run here.

    Any folder or hub repository whose config.json names one of these architectures works, and a GGUF file of those with a name
    in the column GGUF: `--model FOLDER`, `--model OWNER/NAME`, `--model FILE`. Without --model the bundled model is used.
    Other decoders run through transformers where they can: `orcinus plan FOLDER` says whether.

    `orcinus models --local` lists the models that were downloaded (see `orcinus pull`), and says from their headers whether
    they run here.
    """
    if local and measure:
        raise ConfigError("--measure is for formats, and --local lists models: leave one of them out")
    if local:
        _local(as_json)
    else:
        _known(measure, as_json)


def _known(measure: bool, as_json: bool) -> None:
    from orcinus.runtime.models import ARCHITECTURES
    from orcinus.runtime.quant_methods import QUANT_METHODS
    from orcinus.runtime.weight_formats import decode_ms, served_formats
    from orcinus.tiny import MODEL_DIR

    formats = served_formats()
    speeds = dict[Hashable, float]()
    if measure:
        speeds |= {each.product: decode_ms(each) for each in {each.product: each for each in formats if each.dtype}.values()}
    gguf = defaultdict[str, list[str]](list)
    for row in GGUF_ARCHITECTURES:
        if row.llama_cpp not in gguf[row.name]:
            gguf[row.name].append(row.llama_cpp)
    if as_json:
        rows = [{"name": name, "models": row.examples, "gguf": gguf.get(name, [])} for name, row in ARCHITECTURES.items()]
        fields = ("source", "name", "bits", "served", "dtype")
        told = [
            {name: getattr(each, name) for name in fields} | {"decode_ms_per_billion_weights": speeds.get(each.product)}
            for each in formats
        ]
        methods = {name: row.stores for name, row in QUANT_METHODS.items()}
        print(json.dumps({"architectures": rows, "formats": told, "quant_methods": methods, "bundled": str(MODEL_DIR)}))
        return
    console = Console()
    table = _table("Supported architectures", "architecture", "models", "GGUF")
    for name, family in ARCHITECTURES.items():
        table.add_row(name, family.examples, ", ".join(gguf.get(name, [])))
    console.print(table)
    others = "Other decoders of transformers run through its own code where they can (docs/architectures.md)."
    console.print(f"\n{others}", soft_wrap=True, highlight=False)
    console.print()
    console.print(_formats(formats, speeds))
    console.print()
    table = _table("Quantised safetensors (quant_method in config.json)", "method", "stores")
    for name, method in QUANT_METHODS.items():
        table.add_row(name, method.stores)
    console.print(table)
    console.print(f"\nBundled model: {MODEL_DIR}", soft_wrap=True, highlight=False)


def _formats(formats: list[Any], speeds: dict[Hashable, float]) -> Table:
    """Formats by how they are served: those that are served alike in one row."""
    alike = defaultdict[tuple[Any, ...], list[str]](list)
    for each in formats:
        alike[each.source, each.served, each.product].append(each.name)
    columns = ["decode of 10⁹ weights"] if speeds else []
    table = _table("Formats of weights on this machine's CPU", "from", "format", "served", *columns)
    for (source, served, product), names in alike.items():
        speed = f"{speeds[product]:.0f} ms" if product in speeds else ""
        table.add_row(source, ", ".join(names), Text(served), *[speed] * len(columns))
    return table


def _local(as_json: bool) -> None:
    from orcinus.local_models import local_models

    found = local_models()
    if as_json:
        rows = [
            {
                "name": each.model.name,
                "revisions": each.model.refs,
                "commit": each.model.commit,
                "path": str(each.model.path),
                "bytes": each.model.num_bytes,
                "format": each.format,
                "runs": not each.problem,
                "problem": each.problem or None,
            }
            for each in found
        ]
        print(json.dumps({"models": rows}))
        return
    if not found:
        print("no model in the hub's cache: download one with `orcinus pull Qwen/Qwen3-0.6B`")
        return
    table = _table("Models in the hub's cache", "name", "commit", "size", "format", "runs here")
    for each in found:
        table.add_row(
            *(Text(each.model.name), each.model.commit[:8], size(each.model.num_bytes), each.format),
            Text(f"no: {each.problem}" if each.problem else "yes"),
        )
    Console().print(table)


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", box=None)
