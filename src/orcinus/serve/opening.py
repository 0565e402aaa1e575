"""Opens a service: engines start, then it takes requests."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from orcinus.errors import ConfigError
from orcinus.model_config import read_config
from orcinus.runtime.hub import find_model
from orcinus.serve.engines import adapters_of
from orcinus.serve.request_processor import RequestProcessor
from orcinus.serve.service import Service
from orcinus.sim.live_config import LiveConfig
from orcinus.text.generation_config import default_params
from orcinus.text.tokenizer import load_tokenizer
from orcinus.text.tokenizer_files import has_tokenizer
from orcinus.tiny import MODEL_DIR


async def open_service(service: Service) -> None:
    """Start the engines, load the tokenizer, then take requests.

    Raises `ConfigError` or `ModelError`.
    """
    replicas = service.replicas
    run = asyncio.get_running_loop().run_in_executor
    config = replicas.config
    simulated = isinstance(config, LiveConfig)
    asked, revision = (None, None) if isinstance(config, LiveConfig) else (config.model, config.revision)
    local = MODEL_DIR if asked is None else Path(asked)
    if local.exists():
        local = find_model(local)
        read_config(local)  # without one it is no model
        _check_tokenizer(exists=has_tokenizer(local), folder=local)  # before an engine takes memory
    early = run(None, load_tokenizer, local) if local.exists() else None  # while the engines load
    if early is not None:  # if both fail, the engine's error is reported
        early.add_done_callback(lambda future: future.cancelled() or future.exception())
    ready = await replicas.start()  # planning comes before downloading weights
    rest = partial(find_model, str(asked), revision, commit=ready.revision, weights=False)  # an engine has the weights
    folder = local if early is not None else await run(None, rest)
    tokenizer = await (early or run(None, load_tokenizer, folder))
    _check_tokenizer(exists=tokenizer is not None, folder=folder)
    assert tokenizer is not None
    replicas.streams.tokenizer = tokenizer
    _ = tokenizer.longest_token  # one pass over the whole vocabulary
    processor = RequestProcessor(
        *(service.name, tokenizer, default_params(folder), ready, config.seed, service.threads),
        fills_max_tokens=simulated,
        adapters=adapters_of(config),
        tool_call_parser=service.config.tool_call_parser,
    )
    service.open(processor)


def _check_tokenizer(*, exists: bool, folder: Path) -> None:
    if not exists:
        raise ConfigError(f"the model in {folder} has no tokenizer: it can be used from Python, but not served")
