"""Benchmarks of a server measure no warm cache: every run has prompts that the server never saw."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orcinus.bench.capacity import run_capacity
from orcinus.bench.compare import compare
from orcinus.bench.config import EndpointConfig, LoadConfig
from orcinus.bench.measure import prefix_hit_rate
from orcinus.bench.result import Result
from orcinus.bench.server import run_server, server_system
from orcinus.bench.sweep import run_sweep
from orcinus.bench.validity import cached_shares, doubts
from orcinus.core.slo import SLO
from orcinus.errors import ConfigError
from tests.product import part
from tests.serve.conftest import Running

LOAD = LoadConfig(workload="fixed:tokens=200,fixed:tokens=4", arrivals="constant:rate=50", requests=6, repeats=2)


def measured(server: Running, **options: object) -> Result:
    return run_server(EndpointConfig(url=server.url, max_delay=10, **options), LOAD, None, 0)  # type: ignore[arg-type]


def rates(result: Result) -> list[float | None]:
    return [prefix_hit_rate(repeat) for side in result.sides for repeat in side.repeats]


def draws(result: Result) -> list[int]:
    return [repeat.draw for side in result.sides for repeat in side.repeats]


@pytest.mark.parametrize("options", part({"api": "chat"}, full=[{}, {"prompts": "text"}]), ids=["chat", "ids", "text"])
def test_no_run_finds_its_prompts_in_the_cache(server: Running, options: dict[str, str]) -> None:
    """Not the second repeat, and not a second benchmark with the same words."""
    first, second = measured(server, **options), measured(server, **options)
    own = (first.work.shared_tokens or 0) / first.work.prompt_tokens  # a chat's template
    assert all(rate is not None and rate <= own + 0.01 for rate in (*rates(first), *rates(second)))
    assert len({*draws(first), *draws(second)}) == 4
    assert not [doubt for doubt in doubts(first) if "prefix cache" in doubt.what]
    assert first.work == second.work, "the same lengths are the same work"
    assert {verdict.why for verdict in compare(first, second)}


@pytest.mark.full
def test_prompts_can_be_kept_and_are_not_compared_with_others(server: Running) -> None:
    kept = measured(server, keep_prompts=True)
    assert all(rate is not None and rate > 0.9 for rate in rates(kept))
    assert set(draws(kept)) == {0}
    with pytest.raises(ConfigError, match="the work differs: keep_prompts no and yes"):
        compare(measured(server), kept)


@pytest.mark.full
def test_every_rate_has_prompts_of_its_own(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    system, work = server_system(EndpointConfig(url=server.url, max_delay=10), LOAD, None, 0)
    swept = run_sweep([system], LOAD, work, [20.0, 50.0])
    assert len(set(draws(swept))) == 4
    assert max(share or 0 for share in cached_shares(swept).values()) == 0
    monkeypatch.setattr("orcinus.bench.capacity.LONGEST_S", 0.5)  # the search gives up soon
    once = replace(LOAD, repeats=1)
    found = run_capacity([system], once, work, SLO({"e2e.p50": 1e-6}), first=20.0, tolerance=0.9)
    assert len(found.sides) > 1
    assert set(rates(found)) == {0.0}
    assert len({*draws(found), *draws(swept)}) == len(found.sides) + 4


def test_a_shared_prefix_is_found_within_a_run_alone(server: Running) -> None:
    load = replace(LOAD, workload="shared-prefix:prefixes=1:prefix=160:own=32:output=4", arrivals="closed:clients=1")
    result = run_server(EndpointConfig(url=server.url, max_delay=10), load, None, 0)
    assert result.work.shared_tokens == 5 * 160
    assert rates(result) == [pytest.approx(5 * 160 / (6 * 192))] * 2
    assert not [doubt for doubt in doubts(result) if "prefix cache" in doubt.what]
