"""The engine process's loop, its wire and the streams, without a second process."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from dataclasses import replace

import pytest

from orcinus.core.batch import Finished, Token
from orcinus.core.policies.orca import Orca
from orcinus.core.request import Finish, FinishCode, Logprobs, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.unserved import Reason, Unserved
from orcinus.core.view import Limits
from orcinus.errors import RequestError
from orcinus.observe.metrics import MetricsObserver
from orcinus.observe.timeline import Timeline, TimelineObserver
from orcinus.serve.engine_loop import EngineLoop
from orcinus.serve.engines import ServedEngine
from orcinus.serve.messages import (
    Cancel,
    Ending,
    EngineOutput,
    FromEngine,
    Ready,
    ScheduledBatch,
    ScheduledChunk,
    Stop,
    Submit,
    TimelineFound,
    ToEngine,
)
from orcinus.serve.replica_load import ReplicaLoad
from orcinus.serve.streams import Inbox, Streams
from orcinus.serve.wire import decode_from_engine, decode_to_engine, encode
from orcinus.text.answer import TextDelta
from orcinus.text.input_processor import TokenizedRequest
from tests.worlds import World, build_world, solo

PARAMS = SamplingParams(max_tokens=8, seed=0)
PROMPT = (3, 1, 4, 1, 5)
LIMITS = Limits(max_batch_size=1, max_batch_tokens=64, max_model_len=40)


class ScriptedWire:
    """Both ends at once: messages to the engine are given, those from it are kept, all as bytes in between."""

    def __init__(self, *messages: ToEngine, most: int = 1000) -> None:
        self.coming = deque(encode(message) for message in messages)
        self.sent: list[FromEngine] = []
        self.most = most  # tokens after which the engine is stopped

    @property
    def tokens(self) -> list[Token]:
        return [token for one in self.sent if isinstance(one, EngineOutput) for token in one.tokens]

    @property
    def endings(self) -> list[Finished]:
        return [ending.finished for one in self.sent if isinstance(one, EngineOutput) for ending in one.endings]

    def wait(self, milliseconds: int) -> bool:
        if not self.coming and (milliseconds or len(self.tokens) >= self.most):  # nothing is left to do, or enough is done
            self.coming.append(encode(Stop()))
        return bool(self.coming)

    def receive(self) -> ToEngine:
        message: ToEngine = decode_to_engine(self.coming.popleft())
        return message

    def send(self, message: FromEngine) -> None:
        self.sent.append(decode_from_engine(encode(message)))


class Paced:
    """The part of an executor with a clock of its own that hears of the ends of pauses."""

    woken = 0

    def due_in(self) -> float:
        return 0.0

    def wake(self) -> None:
        self.woken += 1


class SilentEngine:
    """An engine that is never heard of."""

    index = 0

    def __init__(self) -> None:
        self.load = ReplicaLoad()

    def send(self, message: Cancel) -> None:
        pass


def serve(
    *messages: ToEngine, most: int = 1000, limits: Limits = LIMITS, paced: Paced | None = None
) -> tuple[ScriptedWire, World]:
    """What an engine says to these messages."""
    world, timelines = build_world(Orca(), "paged", limits=limits), TimelineObserver()
    world.engine.observers[:] = [timelines]
    wire = ScriptedWire(*messages, most=most)
    served = ServedEngine(world.engine, Ready(40, 50, 96, 24), paced)  # type: ignore[arg-type]
    EngineLoop(wire, served, timelines, os.getppid()).run()  # type: ignore[arg-type]
    assert not world.engine.dropped_observers
    return wire, world


def test_core_types_cross_the_border_of_processes_as_they_are() -> None:
    params = SamplingParams(
        max_tokens=9, logit_bias={5: 1.5}, stop=("x",), stop_token_ids=(2,), min_tokens=3, seed=-7, temperature=0.5,
        allowed_token_ids=(1, 5, 9), bad_words=("duck",), bad_words_token_ids=((5,), (1, 9)), logprobs=0,
    )  # fmt: skip
    for one in (params, SamplingParams()):
        submit = Submit("r", (1, 2), one, RequestContext(-3, "a client", "a salt"), (7, 8), 1.5, 2.5)
        assert decode_to_engine(encode(submit)) == submit
    scores = Logprobs(-0.5, 1, ((3, -0.5), (4, -1.5)))
    timeline = Timeline("r", 0.5, 5)
    timeline.waits[Reason.BEHIND] += 2
    iteration = EngineOutput(
        1.0,
        [Token("r", 3, 0.5), Token("s", 3, 0.5, scores, (scores, scores))],
        [Ending(Finished("r", Finish.FAILED, 1.5, "why"), timeline)],
        [
            ScheduledBatch(
                7, 0.5, 64, [ScheduledChunk("r", 0, 5, True)], Unserved({"s": Reason.NO_BLOCKS}, Reason.BEHIND, 1, 2, 3)
            )
        ],
    )
    for message in (iteration, TimelineFound(timeline)):
        found = decode_from_engine(encode(message))
        assert found == message
    assert found.timeline.waits.total() == 2


def test_an_executor_with_a_clock_of_its_own_is_woken_by_the_first_request_after_a_pause() -> None:
    paced = Paced()
    serve(Submit("a", PROMPT, PARAMS), Submit("b", PROMPT, PARAMS), paced=paced)
    assert paced.woken == 1


def test_a_request_that_is_submitted_again_continues_at_its_next_token() -> None:
    expected = solo(PROMPT, PARAMS)
    whole, _ = serve(Submit("a", PROMPT, PARAMS))
    assert [token.token for token in whole.tokens] == expected
    again, world = serve(Submit("a", PROMPT, PARAMS, output=tuple(expected[:3]), arrival=-100.0))
    assert [token.token for token in again.tokens] == expected[3:]
    assert [ending.reason for ending in again.endings] == [Finish.LENGTH]
    assert world.kv.num_free == world.kv.num_blocks


def test_a_request_that_is_submitted_again_keeps_its_place_in_the_queue() -> None:
    fresh, old = Submit("fresh", PROMPT, PARAMS, arrival=-1.0), Submit("old", PROMPT, PARAMS, arrival=-50.0)
    wire, _ = serve(fresh, old)
    assert list(dict.fromkeys(token.request_id for token in wire.tokens)) == ["old", "fresh"]


def test_the_wait_for_a_busy_engine_counts_for_the_place_in_the_queue() -> None:
    """Requests of one moment keep their order, however long their messages waited."""
    wire, _ = serve(*(Submit(name, PROMPT, PARAMS, arrival=-1.0) for name in "cab"))
    assert list(dict.fromkeys(token.request_id for token in wire.tokens)) == ["c", "a", "b"]
    endings = [ending for one in wire.sent if isinstance(one, EngineOutput) for ending in one.endings]
    assert all(ending.timeline.total_seconds > 1.0 for ending in endings if ending.timeline)


def test_metrics_count_what_an_earlier_engine_generated() -> None:
    world = build_world(Orca(), "paged", limits=LIMITS)
    timelines, metrics = TimelineObserver(), MetricsObserver(LIMITS)
    world.engine.observers += [timelines, metrics]
    expected = solo(PROMPT, PARAMS)
    wire = ScriptedWire(Submit("a", PROMPT, PARAMS, output=tuple(expected[:3]), arrival=-100.0))
    EngineLoop(wire, ServedEngine(world.engine, Ready(40, 50, 96, 24)), timelines, os.getppid()).run()  # type: ignore[arg-type]
    found = timelines.get("a")
    assert found is not None
    assert found.output_tokens == metrics.output_tokens == 8
    assert found.total_seconds > 100
    assert (metrics.ttft.count, metrics.e2e.count) == (0, 1), "its first token came from the earlier engine"
    assert world.engine.dropped_observers == []


def test_a_deadline_counts_from_what_is_left_of_it() -> None:
    long = replace(PARAMS, max_tokens=30)
    wire, _ = serve(Submit("late", PROMPT, long, arrival=-1000.0, deadline=20.0), Submit("a", PROMPT, PARAMS))
    endings = {one.request_id: (one.reason, one.code) for one in wire.endings}
    assert endings == {"late": (Finish.CANCELLED, FinishCode.DEADLINE), "a": (Finish.LENGTH, None)}
    assert 0 < sum(token.request_id == "late" for token in wire.tokens) < 30


def test_a_refused_request_leaves_no_deadline_behind() -> None:
    refused = Submit("a", PROMPT, replace(PARAMS, max_tokens=1000), deadline=0.0)
    wire, _ = serve(refused, Submit("a", PROMPT, PARAMS))
    assert [ending.reason for ending in wire.endings] == [Finish.REJECTED, Finish.LENGTH]


def test_a_request_without_a_token_to_come_is_refused() -> None:
    wire, _ = serve(Submit("a", PROMPT, PARAMS, output=tuple(range(8))))
    assert [ending.reason for ending in wire.endings] == [Finish.REJECTED]


def test_a_stream_moves_to_another_engine() -> None:
    """The reader sees one answer, and its metrics begin where it began."""

    async def scenario() -> None:
        streams, inbox = Streams(), Inbox()
        prepared = TokenizedRequest(0, 0, None, PROMPT, PARAMS, RequestContext(client="a"))
        first = streams.open("a", prepared, inbox, 60.0, SilentEngine())
        assert (first.output, first.context.client) == ((), "a")
        arrival = streams.arrival("a")
        assert arrival is not None
        wire, _ = serve(first, most=3)
        for message in wire.sent:
            assert isinstance(message, EngineOutput)
            streams.take(message)
        again = streams._live["a"].submission()
        assert 3 <= len(again.output) < 8
        assert list(again.output) == solo(PROMPT, PARAMS)[: len(again.output)]
        assert (again.arrival, again.deadline) == (first.arrival, first.deadline)
        assert again.arrival == arrival
        assert first.deadline == pytest.approx(arrival + 60.0)
        wire, _ = serve(again)
        for message in wire.sent:
            assert isinstance(message, EngineOutput)
            streams.take(message)
        pieces = []
        while not inbox.empty():
            if isinstance(one := inbox.get_nowait(), TextDelta):
                pieces.append(one)
        assert [one.token_id for one in pieces if one.token_id is not None] == solo(PROMPT, PARAMS)
        assert pieces[-1].finish_reason == "length"
        assert len(streams) == 0

    asyncio.run(scenario())


def test_parameters_that_no_request_may_have_do_not_decode() -> None:
    bad = encode(["submit", "r", [1], {"temperature": -4}])
    with pytest.raises(ValueError, match="temperature must be"):
        decode_to_engine(bad)
    with pytest.raises(RequestError, match="priority must be"):
        RequestContext(priority=10**9)
