"""What servers' Prometheus pages say about their prefix caches."""

from __future__ import annotations

import pytest

from orcinus.bench.client.cache_counters import CacheCounters, cache_counters, read_counters
from orcinus.bench.client.target import Target
from tests.bench.client.fake import Request, fake, run

VLLM = """# HELP vllm:prefix_cache_queries_total Prefix cache queries, in terms of number of queried tokens.
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1200.0
vllm:prefix_cache_queries_total{engine="1",model_name="m"} 800.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 1.0e+03
vllm:prefix_cache_hits_total{engine="1",model_name="m"} 500.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 7.0
vllm:external_prefix_cache_hits_total{engine="0"} 9.0
"""
ORCINUS = "orcinus_prefix_cache_hits_total 30.0\norcinus_prefix_cache_queries_total 40.0\norcinus_prompt_tokens_total 40.0\n"
SGLANG = 'sglang:cached_tokens_total{a="}"} 5.0\nsglang:prompt_tokens_total{a="}"} 50.0\n'


@pytest.mark.parametrize(
    ("page", "found"),
    [
        (VLLM, CacheCounters(1500, 2000)),
        (ORCINUS, CacheCounters(30, 40)),
        (SGLANG, CacheCounters(5, 50)),
        ("vllm:gpu_prefix_cache_hits_total 1\nvllm:gpu_prefix_cache_queries_total 4\n", CacheCounters(1, 4)),  # older
        ("vllm:prompt_tokens_total 7.0\n", None),
        ("vllm:prefix_cache_hits_total 7.0\n", None),
        ("", None),
    ],
)
def test_counters_of_several_servers(page: str, found: CacheCounters | None) -> None:
    assert read_counters(page) == found


def test_the_share_is_that_of_the_run() -> None:
    before = CacheCounters(30, 40)
    assert CacheCounters(30, 140).share_since(before) == 0
    assert CacheCounters(80, 140).share_since(before) == 0.5
    assert before.share_since(before) is None
    assert CacheCounters(0, 10).share_since(before) is None, "the server was started again"


@pytest.mark.parametrize(("status", "body", "found"), [("200 OK", ORCINUS, CacheCounters(30, 40)), ("404 Not Found", "", None)])
def test_a_server_is_asked_for_its_page(status: str, body: str, found: CacheCounters | None) -> None:
    async def answer(request: Request) -> None:
        assert request.line == "GET /metrics HTTP/1.1"
        await request.whole(status, body)

    async def test() -> CacheCounters | None:
        async with fake(answer) as server:
            return await cache_counters(Target(f"{server.url}/v1", "m"))

    assert run(test()) == found


def test_a_server_that_is_gone_tells_nothing() -> None:
    assert run(cache_counters(Target("http://127.0.0.1:9", "m"))) is None
