"""Shared fixtures. Torch runs on one thread, so that parallel test processes do not fight over cores."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cpu_seconds import CpuSeconds
from tests.examples import load_examples
from tests.product import spread
from tests.serve.conftest import server  # noqa: F401  (a fixture for all tests)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all", action="store_true", help="whole products of choices, all examples, and slow tests (`make test-all`)"
    )
    parser.addoption("--times", type=int, default=1, help="with --all: so many times as many examples (`make fuzz`)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: runs with --all alone, because what it tests is represented without it, too")
    config.pluginmanager.register(CpuSeconds(config))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as under `nohup`, where a server does not leave for it
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    load_examples(every=config.getoption("--all"), times=config.getoption("--times"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported and collected stays, so that looking for garbage among it is in vain."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--all"):
        chosen = spread(item for item in items if not item.get_closest_marker("full"))
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = [item for item in items if item in chosen]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: a quarter of the time, tests wait for a server, a deadline or a process."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For `pytest -n`, whatever its --dist."""
    from tests.schedule import OneProcessAFixture

    return OneProcessAFixture(config, log)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _frozen(_one_thread: None) -> None:
    """What was loaded to collect the tests stays: to look through all of it takes the collector a quarter of a second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)  # what tests leave behind is small


@pytest.fixture(autouse=True, scope="session")
def _no_collection_before_each_measurement(_one_thread: None) -> Iterator[None]:
    """It takes longer than what tests measure, where the libraries of all tests are loaded."""
    with pytest.MonkeyPatch.context() as patch:
        kept = SimpleNamespace(collect=lambda: 0, isenabled=gc.isenabled, disable=gc.disable, enable=gc.enable)
        for module in ("offline", "client.load_generator"):
            patch.setattr(f"orcinus.bench.{module}.gc", kept)
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_list_of_authorities() -> Iterator[None]:
    """Reading all authorities that the web trusts takes a client longer than what it asks a server of ours."""
    import httpx._transports.default as transports

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transports, "create_ssl_context", cache(transports.create_ssl_context))
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """(transformers' model, its folder) for a name in `tests.checkpoints`; made once."""
    from tests.checkpoints import make_model, save

    made: dict[str, tuple[Any, Path]] = {}

    def make(name: str) -> tuple[Any, Path]:
        if name not in made:
            model = make_model(name)
            made[name] = model, save(model, tmp_path_factory.mktemp("checkpoint") / name)
        return made[name]

    return make
