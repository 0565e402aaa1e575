"""Several engines behind one queue, in one process: engines that only write down what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orcinus.config import EngineConfig
from orcinus.core.batch import Finished, Token
from orcinus.core.request import Finish, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.errors import ConfigError, EngineError
from orcinus.observe.timeline import Timeline
from orcinus.serve import replica_set
from orcinus.serve.engine_client import EngineState
from orcinus.serve.messages import Cancel, Ending, EngineOutput, Ready, SetPace, Submit, Use, Using
from orcinus.serve.metrics import Metrics
from orcinus.serve.replica_load import ReplicaLoad
from orcinus.serve.replica_set import ReplicaSet
from orcinus.serve.replica_spec import ReplicaSpec, replica_specs
from orcinus.serve.streams import Inbox
from orcinus.serve.supervisor import Death
from orcinus.sim.live_config import LiveConfig
from orcinus.text.answer import TextDelta
from orcinus.text.input_processor import TokenizedRequest
from tests.serve.test_engine_loop import serve
from tests.worlds import solo

PROMPT = (3, 1, 4, 1, 5)
PARAMS = SamplingParams(max_tokens=8, seed=0)
READY = Ready(40, 50, 96, 24, max_batch_tokens=64)


class Engine:
    """An engine client without a process."""

    def __init__(
        self, index: int, on_output: Callable[[Any, EngineOutput], None], on_death: Callable[[Any, str], None]
    ) -> None:
        self.index, self._on_output, self._on_death = index, on_output, on_death
        self.load, self.ready, self.dead = ReplicaLoad(), None, None
        self.sent: list[Any] = []
        self.silence: float | None = None
        self.using = Using("orca", "fcfs", 8, 64, False, 0, 0, 24)
        self.refuses = False
        self.timelines: dict[str, Timeline] = {}
        self.spec: ReplicaSpec | None = None
        self.state = EngineState()
        self.computes: frozenset[str] | None = None  # None: it could not say
        self.starts = 0
        self.fails: list[str] = []  # reasons why its next starts fail

    async def start(self, spec: ReplicaSpec) -> Ready:
        self.spec, self.starts = spec, self.starts + 1
        self.ready, self.dead, self.state = None, None, EngineState()
        if self.fails:
            raise ConfigError(self.fails.pop(0))
        if isinstance(spec.config, EngineConfig) and spec.index == spec.config.seed:  # how a test says which one fails
            raise ConfigError("no luck")
        self.ready = READY  # type: ignore[assignment]
        return READY

    @property
    def serves(self) -> bool:
        return self.ready is not None and self.dead is None

    def silent_s(self) -> float | None:
        return self.silence

    def send(self, message: Any) -> None:
        if self.serves:
            self.sent.append(message)

    def computing(self) -> frozenset[str] | None:
        return self.computes

    async def use(self, change: Use) -> Using:
        await asyncio.sleep(0)
        if self.dead is not None:
            raise EngineError(self.dead)
        if self.refuses and change != Use():
            raise ConfigError("I would not")
        self.using = Using(change.policy or self.using.policy, change.order or self.using.order, 8, 64, False, 0, 0, 24)
        return self.using

    async def timeline(self, name: str) -> Timeline:
        if name not in self.timelines:
            raise ConfigError("unknown")
        return self.timelines[name]

    async def close(self) -> None:
        if self.dead is None:
            self.die("the server is leaving")

    def die(self, reason: str = "it was killed") -> None:
        self.dead = reason  # type: ignore[assignment]
        self._on_death(self, reason)

    def say(self, *tokens: tuple[str, int], **endings: Finish) -> None:
        """An iteration came back, with these tokens of requests and these ends."""
        ended = [Ending(Finished(name, finish, 0.0)) for name, finish in endings.items()]
        self.state.worked |= bool(tokens)
        self._on_output(self, EngineOutput(0.0, [Token(name, token, 0.0) for name, token in tokens], ended))

    def submitted(self) -> list[Submit]:
        return [message for message in self.sent if isinstance(message, Submit)]


class Server:
    """A replica set over such engines, and the readers of its requests."""

    def __init__(self, replicas: int, router: str = "least-outstanding", *, restart: bool = False) -> None:
        self.set = ReplicaSet(LiveConfig(model="llama-7b"), replicas, router, restart=restart)
        self.engines: list[Engine] = self.set.engines  # type: ignore[assignment]
        self.inboxes: dict[str, Inbox] = {}
        self.deaths: list[Death] = []
        self.set.death_listeners.append(self.deaths.append)

    def submit(self, name: str, prompt: tuple[int, ...] = PROMPT, params: SamplingParams = PARAMS, **more: Any) -> int:
        """The index of the engine that has it."""
        self.inboxes[name] = Inbox()
        self.set.submit(name, TokenizedRequest(0, 0, None, prompt, params, RequestContext()), self.inboxes[name], **more)
        engine = self.set.streams.engine_of(name)
        assert engine is not None
        return engine.index

    def answer(self, name: str) -> tuple[list[int], str | None]:
        """What a reader heard: tokens, and how it ended."""
        tokens, end = [], None
        while not self.inboxes[name].empty():
            if isinstance(one := self.inboxes[name].get_nowait(), TextDelta):
                assert end is None, "nothing comes behind the end"
                tokens += [] if one.token_id is None else [one.token_id]
                end = one.finish_reason
        return tokens, end

    def loads(self) -> list[tuple[int, int, int]]:
        return [(one.load.outstanding, one.load.queued_tokens, one.load.answer_tokens) for one in self.engines]


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_set, "EngineClient", Engine)


def run(
    scenario: Callable[[Server], Coroutine[Any, Any, None]],
    replicas: int = 2,
    router: str = "least-outstanding",
    *,
    restart: bool = False,
) -> None:
    async def whole() -> None:
        server = Server(replicas, router, restart=restart)
        await server.set.start()
        await scenario(server)
        await server.set.close()

    asyncio.run(whole())


@pytest.mark.parametrize("params", [replace(PARAMS, temperature=0.0), replace(PARAMS, temperature=1.0, seed=7)])
@pytest.mark.parametrize("heard", [0, 1, 3])
def test_a_request_whose_engine_dies_goes_on_at_another_with_the_same_tokens(params: SamplingParams, heard: int) -> None:
    async def scenario(server: Server) -> None:
        server.submit("a", params=params, time_left=60.0)
        (first,) = server.engines[0].submitted()
        whole = [token.token for token in serve(first)[0].tokens]
        server.engines[0].say(*(("a", token) for token in whole[:heard]))
        server.engines[0].die()
        assert server.deaths == [Death(0, "it was killed", ("a",), None)]
        (again,) = server.engines[1].submitted()
        assert again.output == tuple(whole[:heard])
        assert (again.arrival, again.deadline) == (first.arrival, first.deadline)
        assert again.arrival is not None
        assert again.deadline == pytest.approx(again.arrival + 60.0)
        server.engines[1].say(*((token.request_id, token.token) for token in serve(again)[0].tokens), a=Finish.LENGTH)
        assert server.answer("a") == (solo(PROMPT, params), "length")

    run(scenario)


def test_those_of_a_dead_engine_move_in_their_order_to_where_the_router_sends_them() -> None:
    async def scenario(server: Server) -> None:
        for name in "abcdef":
            server.submit(name)
        assert [load[0] for load in server.loads()] == [2, 2, 2]
        server.engines[1].die()
        assert [[one.id for one in engine.submitted()] for engine in server.engines] == [
            ["a", "d", "b"],
            ["b", "e"],
            ["c", "f", "e"],
        ]
        assert {server.submit(name) for name in "gh"} == {0, 2}
        server.engines[0].die()
        assert server.loads()[2][0] == len(server.set.streams) == 8
        for name in "abcdefgh":
            server.engines[2].say((name, 7), **{name: Finish.STOP})
        assert {name: server.answer(name) for name in "abcdefgh"} == dict.fromkeys("abcdefgh", ([7], "stop"))
        assert server.loads() == [(0, 0, 0)] * 3

    run(scenario, 3)


def test_a_dead_engine_hears_of_no_cancellation_and_the_next_one_does() -> None:
    async def scenario(server: Server) -> None:
        server.submit("a")
        server.engines[0].die()
        assert server.set.streams.cancel("a")
        assert server.engines[1].sent[-1] == Cancel("a")
        assert not any(isinstance(message, Cancel) for message in server.engines[0].sent)
        assert server.answer("a") == ([], "cancelled")

    run(scenario)


def test_a_request_under_which_three_engines_died_fails() -> None:
    async def scenario(server: Server) -> None:
        server.submit("a")
        for _ in range(3):
            server.submit("b")
            next(one for one in server.engines if one.serves and any(sent.id == "a" for sent in one.submitted())).die()
        assert server.answer("a") == ([], "failed")
        assert len(server.set.streams) == 1

    run(scenario, 4)


def test_a_stop_string_that_was_found_is_not_generated_again() -> None:
    async def scenario(server: Server) -> None:
        server.submit("a")
        server.engines[0].say(("a", 7))
        stream = server.set.streams.served_by(server.engines[0])[0]
        stream.answer._stops.found = "x"
        server.engines[0].die()
        assert server.answer("a") == ([7], "stop")
        assert server.engines[1].submitted() == []
        assert server.loads() == [(0, 0, 0)] * 2

    run(scenario)


@pytest.mark.parametrize("replicas", [1, 2])
def test_when_the_last_engine_is_dead_requests_fail_and_none_is_taken(replicas: int) -> None:
    async def scenario(server: Server) -> None:
        server.submit("a")
        for engine in server.engines:
            engine.die(f"{engine.index} is dead")
        last = f"{replicas - 1} is dead"
        assert server.answer("a") == ([], "failed")
        assert server.set.dead == last
        with pytest.raises(EngineError, match=last):
            server.submit("b")
        with pytest.raises(EngineError, match=last):
            await server.set.timeline("a")
        with pytest.raises(EngineError, match=last):
            await server.set.use(Use(policy="orca"))

    run(scenario, replicas)


def test_the_server_leaves_and_moves_nothing() -> None:
    async def scenario(server: Server) -> None:
        server.submit("a")
        await server.set.close()
        assert server.answer("a") == ([], "cancelled")
        assert (server.engines[1].submitted(), server.deaths) == ([], [])

    run(scenario)


def test_loads_are_what_was_sent_less_what_came_back() -> None:
    async def scenario(server: Server) -> None:
        server.submit("a")
        server.submit("b", (1,) * 9, replace(PARAMS, max_tokens=3))
        assert server.loads() == [(1, 5, 8), (1, 9, 3)]
        server.engines[1].say(("b", 7))
        server.engines[1].say(("b", 7))
        assert server.loads() == [(1, 5, 8), (1, 0, 1)]
        server.engines[1].die()
        assert server.loads() == [(2, 5 + 9 + 2, 9), (0, 0, 0)], "the tokens of its answer are computed again, too"
        server.engines[0].say(a=Finish.CANCELLED, b=Finish.STOP)
        assert server.loads() == [(0, 0, 0)] * 2

    run(scenario)


ROUTED = {  # by router: which engine has a long prompt, then each of these, of which nothing comes back
    "round-robin": [0, 1, 0, 1],
    "least-outstanding": [0, 1, 0, 1],
    "least-work": [0, 1, 1, 1],
    "prefix-affine": [0, 1, 1, 1],
}


@pytest.mark.parametrize("router", ROUTED)
def test_routers_choose_by_what_the_server_knows(router: str) -> None:
    async def scenario(server: Server) -> None:
        chosen = [server.submit("long", (9,) * 35), *(server.submit(name) for name in "abc")]
        assert chosen == ROUTED[router]

    run(scenario, router=router)


def test_a_prefix_is_that_of_prompts_under_equal_salts() -> None:
    one = TokenizedRequest(0, 0, None, (1,) * 300, PARAMS, RequestContext())
    longer, other = replace(one, ids=(1,) * 400), replace(one, context=RequestContext(cache_salt="mine"))
    assert replica_set._prefix(one) == replica_set._prefix(longer) != replica_set._prefix(other)
    assert replica_set._prefix(replace(one, ids=(2, *one.ids))) != replica_set._prefix(one)


def test_an_engine_that_is_silent_gets_nothing_while_others_are_not() -> None:
    async def scenario(server: Server) -> None:
        server.engines[0].silence = 9.0
        assert server.set.silent_s() is None
        assert [server.submit(name) for name in "abc"] == [1, 1, 1]
        server.engines[1].silence = 7.0
        assert server.set.silent_s() == 7.0
        assert server.submit("d") == 0

    run(scenario)


def test_a_switch_is_made_by_all_or_by_none() -> None:
    async def scenario(server: Server) -> None:
        found = await server.set.use(Use(policy="sarathi"))
        assert {index: using.policy for index, using in found.items()} == {0: "sarathi", 1: "sarathi", 2: "sarathi"}
        server.engines[1].refuses = True
        with pytest.raises(ConfigError, match="I would not"):
            await server.set.use(Use(policy="stall-free", order="fair"))
        assert [(engine.using.policy, engine.using.order) for engine in server.engines] == [("sarathi", "fcfs")] * 3
        server.engines[1].die()
        assert sorted(await server.set.use(Use(order="fair"))) == [0, 2]
        server.set.settings.set_pace(paused=True)
        server.set.settings.set_pace(min_seconds=0.5)
        for pace in (SetPace(True), SetPace(True, 0.5)):
            assert [pace in engine.sent for engine in server.engines] == [True, False, True]

    run(scenario, 3)


def test_a_timeline_is_found_where_the_request_is_or_was() -> None:
    async def scenario(server: Server) -> None:
        server.engines[1].timelines["a"] = Timeline("a", 0.0, 5)
        assert (await server.set.timeline("a")).request_id == "a"
        with pytest.raises(ConfigError, match="unknown"):
            await server.set.timeline("b")
        server.submit("a")
        with pytest.raises(ConfigError, match="unknown"):
            await server.set.timeline("a")  # it is live, at the other engine

    run(scenario)


def test_a_replica_that_cannot_start_is_named_and_one_without_others_is_not() -> None:
    async def start(config: EngineConfig, replicas: int) -> list[Any]:
        server = ReplicaSet(config, replicas)
        try:
            await server.start()
        finally:
            await server.close()
        return [engine.spec for engine in server.engines]  # type: ignore[attr-defined]

    for seed, replicas, words in ((1, 3, "replica 1: no luck"), (0, 3, "replica 0: no luck"), (0, 1, "no luck")):
        with pytest.raises(ConfigError, match=f"^{words}$"):
            asyncio.run(start(EngineConfig(seed=seed), replicas))
    first, *others = asyncio.run(start(EngineConfig(seed=9, kv_memory_mib=3), 3))
    assert (first.config.kv_memory_mib, first.config.num_blocks, first.memory_sharers) == (3, None, 3)
    sizes = {
        (one.config.kv_memory_mib, one.config.num_blocks, one.config.max_model_len, one.config.max_batch_tokens)
        for one in others
    }
    assert sizes == {(None, 24, 40, 64)}, "those of the first, whatever is free now"


def test_cores_are_divided_and_records_and_gpus_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    (alone,) = replica_specs(EngineConfig(), environment={})
    assert (alone.environment, alone.memory_sharers, alone.name) == ({}, 1, "engine")
    assert replica_specs(EngineConfig(threads=3), 1, {})[0].environment == {"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "3"}
    assert replica_specs(EngineConfig(), 500, environment={})[499].threads == 1
    monkeypatch.setattr("orcinus.serve.replica_spec.num_cores", lambda: 16)
    assert replica_specs(EngineConfig(), 3, environment={})[0].threads == 5
    assert replica_specs(EngineConfig(tp=2), 3, environment={})[0].threads == 2, "of each rank"
    assert replica_specs(EngineConfig(), 2, environment={"OMP_NUM_THREADS": "4"})[0].environment == {}
    on_gpus = replica_specs(EngineConfig(device="cuda", threads=1), 3, {"CUDA_VISIBLE_DEVICES": "4,7"})
    assert [one.environment["CUDA_VISIBLE_DEVICES"] for one in on_gpus] == ["4", "7", "none"]
    assert [one.gpus for one in replica_specs(EngineConfig(device="cuda", threads=1), 2, {})] == ["0", "1"]
    assert replica_specs(EngineConfig(device="cuda", tp=2, threads=1), 2, {})[1].gpus == "2,3", "one for each rank"
    assert [one.memory_sharers for one in on_gpus] == [1, 1, 1]
    assert on_gpus[1].like(READY) is on_gpus[1]
    records = [one.config.record for one in replica_specs(EngineConfig(record="a/run.jsonl"), 2, environment={})]
    assert records == [Path("a/run.0.jsonl"), Path("a/run.1.jsonl")]


def test_metrics_tell_engines_apart_and_a_dead_one_by_a_zero() -> None:
    metrics = Metrics("m", 2)
    for engine in metrics.engines:
        engine.on_ready(READY)
    tokens = [Token("a", 1, 1.0), Token("b", 1, 1.0)]
    metrics.engines[1].on_iteration(EngineOutput(1.0, tokens, running=2, waiting=1, free_blocks=6), lambda name: 0.5)
    metrics.engines[0].on_iteration(EngineOutput(1.5, [Token("a", 1, 1.5)], running=1, free_blocks=12), lambda name: 0.5)

    def values(name: str) -> dict[str, float]:
        page = text_string_to_metric_families(metrics.page("")[0].decode())
        samples = [sample for family in page for sample in family.samples if sample.name == f"orcinus_{name}"]
        assert {sample.labels["model_name"] for sample in samples} == {"m"}
        return {sample.labels["engine"]: sample.value for sample in samples}

    assert values("engine_up") == {"0": 1, "1": 1}
    assert values("num_requests_running") == {"0": 1, "1": 2}
    assert values("kv_cache_usage_perc") == {"0": 0.5, "1": 0.75}
    assert values("generation_tokens_total") == {"0": 1, "1": 2}
    assert values("inter_token_latency_seconds_sum") == {"0": 0.5, "1": 0}, "a request that moved waited for its next token"
    metrics.engines[1].on_death()
    metrics.live.keep(lambda name: name == "a")
    assert list(metrics.live.last_token) == ["a"]
    assert [values(name)["1"] for name in ("engine_up", "num_requests_running", "num_requests_waiting")] == [0, 0, 0]
    assert values("generation_tokens_total")["1"] == 2
