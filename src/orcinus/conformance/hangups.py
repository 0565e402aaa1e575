"""Checks of clients that hang up at any moment."""

from __future__ import annotations

import contextlib
import socket
import time

from orcinus.conformance.registry import Body, Check, add, check
from orcinus.conformance.target import CHAT, HI, STORY, Json, ServerUnderTest
from orcinus.conformance.verdict import expect
from orcinus.conformance.wire import connected, posting

ENDLESS: Json = {"messages": STORY, "max_tokens": 1500, "ignore_eos": True}
SOON = 1.0


def answered_soon(target: ServerUnderTest, within: float = SOON) -> None:
    """Raise `Failed` unless a small request is answered soon.

    Until the server has seen its clients go, a full queue may refuse it (429).
    """
    began = time.monotonic()
    while target.post(CHAT, {"messages": HI, "max_tokens": 1}).status_code == 429 and time.monotonic() - began < within:
        time.sleep(0.02)
    target.chat(messages=HI, max_tokens=2)
    took = time.monotonic() - began
    expect(took < within, f"the next request took {took:.1f} s")


def _idle(target: ServerUnderTest) -> None:
    """Raise `Failed` unless the server is soon idle, with its memory free.

    Only Orcinus reports this.
    """
    if not target.is_orcinus:
        return
    until = time.monotonic() + SOON
    state: Json = {}
    while time.monotonic() < until:
        state = target.http.get("/v1/scheduler").json()
        if state["running"] == state["waiting"] == 0 and state["free_blocks"] == state["num_blocks"]:
            return
        time.sleep(0.02)
    expect(False, f"{state['running']} requests still run and {state['num_blocks'] - state['free_blocks']} blocks are held")


def _hang_up(fields: Json, after: float, reads: int) -> Body:
    def body(target: ServerUnderTest) -> None:
        target.remember()
        with connected(target) as one:
            one.sendall(posting(target, CHAT, ENDLESS | fields))
            if reads:
                found = b""
                while found.count(b"data:") < reads:
                    piece = one.recv(4096)
                    expect(piece, "the stream ended by itself")
                    found += piece
            time.sleep(after)
        answered_soon(target)
        _idle(target)
        target.unharmed()

    return body


LONG_PROMPT = [{"role": "user", "content": "Tell me a story about a fox and a hen. " * 80}]
MOMENTS: list[tuple[str, Json, float, int]] = [
    ("at once", {}, 0, 0),
    ("before the headers of a whole answer", {}, 0.3, 0),
    ("while the prompt is read", {"stream": True, "messages": LONG_PROMPT, "max_tokens": 200}, 0.01, 0),
    ("after the first frame", {"stream": True}, 0, 1),
    ("in the middle of a stream", {"stream": True}, 0, 20),
    ("between frames, without reading", {"stream": True}, 0.3, 1),
    ("of four answers", {"stream": True, "n": 4}, 0, 8),
]
for _name, _fields, _after, _reads in MOMENTS:
    add(Check(f"hang-ups: {_name}", _hang_up(_fields, _after, _reads)))


@check("hang-ups: 200 requests, each dropped after 0.5 s")
def _many(target: ServerUnderTest) -> None:
    target.remember()
    with contextlib.ExitStack() as open_ones:
        ones: list[socket.socket] = []
        for index in range(200):
            one = open_ones.enter_context(connected(target))
            one.sendall(posting(target, CHAT, ENDLESS | {"stream": index % 2 == 0}))
            ones.append(one)
        time.sleep(0.5)
    answered_soon(target)
    _idle(target)
    target.unharmed()


@check("hang-ups: a client that reads nothing does not hold up another")
def _slow_reader(target: ServerUnderTest) -> None:
    with connected(target) as one:
        one.sendall(posting(target, CHAT, ENDLESS | {"stream": True, "logprobs": True, "top_logprobs": 20}))
        answered_soon(target)
    _idle(target)


@check("hang-ups: a connection that sends nothing does not hold up another")
def _silent(target: ServerUnderTest) -> None:
    with contextlib.ExitStack() as open_ones:
        for _ in range(50):
            open_ones.enter_context(connected(target))
        answered_soon(target)
