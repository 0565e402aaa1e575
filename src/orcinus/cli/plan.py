"""`orcinus plan`: whether a model fits, and how fast it could be."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orcinus.cli.options import takes_engine
from orcinus.config import EngineConfig
from orcinus.errors import plural

LENGTHS = (512, 2048, 8192)  # tokens; the model's own length is added
MIB = 2**20


@takes_engine(names_model=True)
def plan(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, sizes in bytes.")] = False,
    *,
    config: EngineConfig,
) -> None:
    """Say whether a model fits, and how fast it could be.

    Shows what each device holds, how many requests fit at once, and upper bounds of decoding speed. Reads headers only (and a
    stored head beside the embedding to which it is tied): no weight is downloaded. Takes the models and devices of
    `orcinus simulate`, too. Exit status 1 if it does not fit, with the options that would make it fit.

    Examples: `orcinus plan Qwen/Qwen3-0.6B --max-model-len 4096`, `orcinus plan llama-2-70b --device h100 --tp 4`
    """
    from orcinus.decode_speed import measure
    from orcinus.plan import make_plan

    made = make_plan(config, known=True)
    has_text = _read_text(made)
    speeds = measure(made) if made.fits else None
    if as_json:
        print(json.dumps(_record(made, speeds) | {"has_tokenizer": has_text}))
    else:
        _print(made, speeds, has_text)
    if not made.fits:
        raise typer.Exit(1)


def _read_text(plan: Any) -> bool | None:
    """Whether the model has a tokenizer; None if its files are still to be downloaded.

    Raises `ModelError` if tokenizer or sampling defaults cannot be read, as an engine would.
    """
    from orcinus.text.generation_config import default_params
    from orcinus.text.tokenizer import load_tokenizer

    if plan.model.shape_only or not plan.model.complete or plan.config.load_format == "dummy":
        return None
    default_params(plan.model.checkpoint.folder)
    return load_tokenizer(plan.model.checkpoint.folder) is not None


def _sequences(plan: Any) -> list[tuple[int, int]]:
    longest = plan.resolved.limits.max_model_len
    return [(length, plan.sequences(length)) for length in [*(n for n in LENGTHS if n < longest), longest]]


def _record(plan: Any, speeds: Any) -> dict[str, Any]:
    resolved = plan.resolved
    return {
        "model": str(plan.config.model or resolved.folder),
        "revision": resolved.revision,
        "architecture": resolved.architecture,
        "num_parameters": resolved.num_parameters,
        "saved_bytes": plan.model.saved_bytes,
        "device": resolved.device,
        "dtype": resolved.dtype,
        "stored_as": None if (quantized := plan.model.checkpoint.quantized) is None else quantized.summary,
        "quantization": resolved.quantization,
        "adapters": dict(resolved.adapters),
        "merge_lora": plan.config.merge_lora,
        "kv_cache_dtype": resolved.kv_cache_dtype,
        "deterministic": resolved.deterministic,
        "fits": plan.fits,
        "missing_mib": plan.memory.missing_mib,
        "notes": resolved.notes,
        "remedies": dict(plan.remedies()),
        "memory": asdict(plan.memory) | {"left": plan.memory.left},
        "limits": asdict(resolved.limits),
        "max_batch_tokens_because": resolved.tokens_reason,
        "block_size": resolved.block_size,
        "num_blocks": resolved.num_blocks,
        "tp": resolved.tp,
        "pp": resolved.pp,
        "ranks": [_rank(plan, rank) for rank in plan.ranks],
        "kv_tokens": resolved.kv_tokens,
        "kv_bytes_per_token": plan.kv_token_bytes,
        "sequences": [{"tokens": length, "at_once": count} for length, count in _sequences(plan)],
        "speed_at_most": speeds and asdict(speeds),
    }


def _rank(plan: Any, sizes: Any) -> dict[str, Any]:
    """The layers and sizes of one rank.

    `layers` are the first layer and the one after the last.
    """
    return {
        "stage": sizes.place.stage,
        "tensor": sizes.place.tensor,
        "layers": [sizes.layers.start, sizes.layers.stop],
        "query_heads": sizes.spec.num_heads,
        "kv_heads": sizes.spec.num_kv_heads,
        "weights": sizes.weights,
        "kv_bytes_per_token": sizes.kv_token_bytes,
        "working": plan.rank_working(sizes),
    }


def _print(plan: Any, speeds: Any, has_text: bool | None) -> None:
    table = Table.grid(padding=(0, 2))
    sections = [
        ("model", [*_model(plan), *_no_text(has_text)]),
        ("memory", memory_rows(plan)),
        ("requests at once" if plan.fits else "requests at once, if it fitted", _at_once(plan)),
    ]
    if plan.mesh.size > 1:
        sections.insert(1, ("ranks", _ranks(plan)))
    if speeds is not None:
        sections.append(("decoding, at most", _speed(speeds)))
    for title, rows in sections:
        table.add_row(f"[bold]{title}[/]")
        for name, value in rows:
            table.add_row(f"  {name}", Text(value))
    console = Console()
    console.print(table, highlight=False)
    console.print(Text(_verdict(plan)), soft_wrap=True)


def _ranks(plan: Any) -> list[tuple[str, str]]:
    """The layers and sizes of each rank.

    Equal tensor ranks of a stage share one line.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for rank, sizes in enumerate(plan.ranks):
        work = plan.rank_working(sizes)
        alike.setdefault((sizes.place.stage, sizes.weights, sizes.kv_token_bytes, work, sizes.spec), []).append(rank)
    rows = []
    for (stage, weights, kv_token, work, spec), ranks in alike.items():
        layers = plan.resolved.stages[stage]
        heads = f"{spec.num_heads} query and {spec.num_kv_heads} key/value heads"
        holds = f"stage {stage}: layers {layers.start} to {layers.stop - 1}, {heads}"
        taken = f"{_mib(weights).strip()} of weights, {kv_token} bytes of K/V a token, {_mib(work).strip()} to work with"
        name = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
        rows.append((name, f"{holds}; {taken}"))
    if plan.mesh.pp > 1:
        rows.append(
            ("stages", "shared out by the weights that an iteration of decodes reads: the head counts, the embedding not")
        )
    if len(plan.budgets) > 1:
        rows.append(("least room", f"rank {plan.ruling_rank}: it rules how many blocks there are, and memory is shown for it"))
    else:
        rows.append(("memory", "all ranks share this machine's"))
    return rows


def _model(plan: Any) -> list[tuple[str, str]]:
    resolved = plan.resolved
    where = f"{plan.model.saved_bytes / MIB:.0f} MiB on disk" if plan.model.saved_bytes else "made up at random"
    where = "no checkpoint" if plan.model.shape_only else where
    saved = f"{resolved.num_parameters / 1e6:.1f} M parameters, {where}"
    return [
        ("name", str(plan.config.model or "the bundled model")),
        *([("commit", resolved.revision)] if resolved.revision else []),
        ("architecture", f"{resolved.architecture}, {saved}"),
        ("dtype", f"{resolved.dtype} ({resolved.dtype_reason}), on {resolved.device}"),
        *([("stored as", quantized.summary)] if (quantized := plan.model.checkpoint.quantized) else []),
        *([("quantization", resolved.quantization)] if resolved.quantization else []),
        *([("adapters", _adapters(plan))] if resolved.adapters else []),
        *(("note", note) for note in resolved.notes),
    ]


def _no_text(has_text: bool | None) -> list[tuple[str, str]]:
    return [("tokenizer", "none: it takes token ids from Python, and cannot be served")] if has_text is False else []


def _adapters(plan: Any) -> str:
    names = ", ".join(name for name, _ in plan.resolved.adapters)
    return f"{names}, merged into the weights" if plan.config.merge_lora else f"{names}, among the weights below"


def memory_rows(plan: Any) -> list[tuple[str, str]]:
    """The use of the memory: names, sizes, and explanations."""
    resolved, memory, limits = plan.resolved, plan.memory, plan.resolved.limits
    batch = f"at most {plural(limits.max_batch_tokens, 'token')} and {plural(limits.max_batch_size, 'request')}"
    blocks = (
        f"{plural(resolved.num_blocks, 'block')} of {resolved.block_size} = {plural(resolved.kv_tokens, 'token')} of "
        f"{plan.kv_token_bytes} bytes"
        f" in {resolved.kv_cache_dtype}"
    )
    work = "measured" if memory.measured else "estimated"
    holds = "  enough for" if plan.fits else "  would be enough for"
    return [
        *_available(plan),
        ("weights", _mib(memory.weights)),
        ("working memory", f"{_mib(memory.working)}, {work} for an iteration of {batch}"),
        ("keys and values", f"{_mib(memory.kv)} = {blocks}"),
        ("  because", resolved.kv_reason),
        (holds, f"{plural(plan.sequences(limits.max_model_len), 'request')} of the full model length at once"),
        ("left", _mib(memory.left)),
    ]


def _available(plan: Any) -> list[tuple[str, str]]:
    memory = plan.memory
    if plan.device.device.type != "cuda":
        return [("available", _mib(memory.available))]
    share = f"gpu_memory_utilization {1 - memory.margin / memory.available:.3g}"
    stays = f"{_mib(memory.margin)} stay free, for CUDA graphs and what torch does not allocate ({share})"
    return [("of the GPU", _mib(memory.total)), ("  free", _mib(memory.available)), ("  margin", stays)]


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / MIB:9,.1f} MiB"


def _at_once(plan: Any) -> list[tuple[str, str]]:
    """Requests that fit into the K/V memory at once.

    A reserving manager may admit fewer.
    """
    most = plan.resolved.limits.max_batch_size
    return [
        (f"of {plural(length, 'token')}", f"{count}" + (f" (the batch takes {most})" if count > most else ""))
        for length, count in _sequences(plan)
    ]


def _speed(speeds: Any) -> list[tuple[str, str]]:
    rows = []
    for speed in speeds.decode:
        name = plural(speed.requests, "request")
        rate = f"{speed.weights_bytes_per_s / 1e9:.1f} GB/s of weights"
        rows.append((name, f"{speed.tokens_per_s:,.1f} tokens/s in {speed.iterations_per_s:,.1f} iterations/s; {rate}"))
    measured = f"reads {speeds.kv_bytes_per_s / 1e9:.1f} GB/s of keys and values, {speeds.context} tokens for each request"
    origin = "these rates were measured now" if speeds.measured else "these rates are a data sheet's, as the simulator has them"
    because = f"{origin}; computing, sampling and what ranks exchange come on top"
    return [*rows, ("attention", measured), ("because", because), *(("in doubt", doubt) for doubt in speeds.doubts)]


def _verdict(plan: Any) -> str:
    if plan.fits:
        return "It fits."
    flags = [f"--{name.replace('_', '-')} {value}" for name, value in plan.remedies()]
    return f"It does not fit: {plan.memory.missing_mib} MiB are missing. Use {', or '.join([*flags, 'a smaller model'])}."
