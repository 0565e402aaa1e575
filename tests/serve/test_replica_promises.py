"""Promises of several engines: all are asked before a request is refused, and a promise outlives its engine."""

from __future__ import annotations

import asyncio

from orcinus.core.promises import PromiseVerdict
from orcinus.core.request import Finish, RequestContext
from orcinus.core.slo import SLO
from orcinus.serve.messages import EngineOutput, Promised, Submit
from orcinus.serve.streams import Inbox, StreamPromise
from orcinus.text.input_processor import TokenizedRequest
from tests.serve.test_replica_set import PARAMS, PROMPT, Engine, Server, engines, run  # noqa: F401

SLO_ = SLO({"ttft": 1.0})
YES, NO = PromiseVerdict(True, {"ttft": 0.5}), PromiseVerdict(False, {"ttft": 2.0}, 3)


def submit(server: Server, name: str) -> StreamPromise:
    server.inboxes[name] = Inbox()
    context = RequestContext(slo=SLO_)
    server.set.submit(name, TokenizedRequest(0, 0, None, PROMPT, PARAMS, context), server.inboxes[name])
    stream = server.set.streams.find(name)
    assert stream is not None
    assert stream.promise is not None
    return stream.promise


def decide(engine: Engine, name: str, verdict: PromiseVerdict) -> None:
    engine._on_output(engine, EngineOutput(0.0, promised=[Promised(name, verdict)]))


def last(engine: Engine) -> Submit:
    return engine.submitted()[-1]


def test_an_engine_that_accepts_ends_the_question() -> None:
    async def scenario(server: Server) -> None:
        promise = submit(server, "a")
        assert (last(server.engines[0]).ask, last(server.engines[0]).book) == (True, False)
        decide(server.engines[0], "a", YES)
        assert await promise.verdict == YES
        assert not server.engines[1].submitted()

    run(scenario)


def test_the_next_engine_is_asked_and_the_last_one_holds_room() -> None:
    async def scenario(server: Server) -> None:
        promise = submit(server, "a")
        decide(server.engines[0], "a", NO)
        assert (last(server.engines[1]).ask, last(server.engines[1]).book) == (True, True)
        assert [load[0] for load in server.loads()] == [0, 1]
        decide(server.engines[1], "a", later := PromiseVerdict(False, {"ttft": 9.0}, 8))
        assert await promise.verdict == later, "this is the engine that holds room"
        assert [load[0] for load in server.loads()] == [0, 0]
        assert server.set.streams.find("a") is None

    run(scenario)


def test_an_accepted_promise_moves_with_its_request_and_is_not_asked_again() -> None:
    async def scenario(server: Server) -> None:
        promise = submit(server, "a")
        decide(server.engines[0], "a", YES)
        server.engines[0].say(("a", 5))
        server.engines[0].die()
        moved = last(server.engines[1])
        assert (moved.ask, moved.context.slo, moved.output) == (False, SLO_, (5,))
        server.engines[1].say(("a", 6), a=Finish.LENGTH)
        outcome = server.set.streams.promise("a")
        assert outcome is not None
        assert outcome.kept, "the tokens of both engines count"
        assert promise.measured.tokens == 2

    run(scenario)


def test_an_open_question_moves_too() -> None:
    async def scenario(server: Server) -> None:
        promise = submit(server, "a")
        server.engines[0].die()
        assert last(server.engines[1]).ask
        decide(server.engines[1], "a", YES)
        assert (await promise.verdict) == YES

    run(scenario)


def test_who_asks_hears_of_an_end_before_the_answer() -> None:
    async def scenario(server: Server) -> None:
        promises = [submit(server, name) for name in ("a", "b")]
        server.set.streams.cancel("a")
        assert await promises[0].verdict is None
        for engine in server.engines:
            engine.die()
        assert await asyncio.wait_for(promises[1].verdict, 1) is None
        assert server.answer("b")[1] == "failed"

    run(scenario)
