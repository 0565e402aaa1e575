"""`orcinus pull`: a model of the hub, downloaded for later."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orcinus.cli.progress import download_progress, size
from orcinus.config import EngineConfig
from orcinus.errors import ConfigError


def pull(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub repository, also with @REVISION, :Q4_K_M or /FILE.gguf.")],
    revision: Annotated[str | None, typer.Option(help=EngineConfig.doc("revision"), show_default=False)] = None,
) -> None:
    """Download a model from the hub, so that it can be served without a network.

    Only the files that are needed are downloaded, into the cache of `huggingface_hub` (in HF_HOME). Files that are complete are
    kept if a download breaks off: run it again. What cannot be loaded is refused before its weights are downloaded.

    Examples: `orcinus pull Qwen/Qwen3-0.6B`, `orcinus pull owner/name:Q4_K_M`
    """
    from orcinus.runtime.hub import commit_of, find_model, locate

    found = locate(model, revision)
    if isinstance(found, Path):
        raise ConfigError(f"{model} is here already: pull takes a hub repository, such as Qwen/Qwen3-0.6B")
    with download_progress(str(found)) as progress:
        place = find_model(model, revision, weights=False, progress=progress)
        if place.is_dir():
            _plan(model, revision)  # from headers
            place = find_model(model, revision, commit=commit_of(place), progress=progress)
    plan = _plan(place)
    print(f"{found} at {commit_of(place)}: {size(plan.model.saved_bytes)} of weights in {place}")
    here = "fits" if plan.fits else "does not fit"
    print(f"it {here} here: see `orcinus plan {found}`, or serve it with `orcinus serve {found}`")


def _plan(model: str | Path, revision: str | None = None) -> Any:
    from orcinus.plan import make_plan

    return make_plan(EngineConfig(model=model, revision=revision))
