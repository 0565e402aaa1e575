"""Damaged messages between a server's processes: each is a message or is refused, by an error that the receiver expects."""

from __future__ import annotations

from contextlib import suppress

import msgspec
from hypothesis import example, given

from orcinus.core.batch import Finished, Token
from orcinus.core.request import Finish
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.runtime.parallel.messages import (
    NO_BATCH,
    EndRank,
    RankFailed,
    RankLoading,
    SignOfLife,
    decode_report,
    decode_to_rank,
)
from orcinus.runtime.parallel.messages import encode as encode_for_ranks
from orcinus.serve.messages import Ask, Cancel, Ending, EngineOutput, Loading, Ready, SetPace, Stop, Submit, Use
from orcinus.serve.wire import decode_from_engine, decode_to_engine, encode
from tests.examples import examples
from tests.fuzz.mutations import mutated

TO_ENGINE = [
    encode(
        Submit("a", (1, 2), SamplingParams(max_tokens=8, seed=0, stop=["x"], logit_bias={3: 1.0}), arrival=1.0, deadline=61.0)
    ),
    encode(Submit("b", (1, 2), SamplingParams(structured_outputs=StructuredOutputs(regex="a+")))),
    *map(encode, (Cancel("a"), SetPace(True, 0.5), Use(policy="orca"), Ask("a"), Stop())),
]
FROM_ENGINE = [
    *map(encode, (Ready(64, 512, 1024, 64), Loading("weights", 1, 2))),
    encode(EngineOutput(1.0, [Token("a", 7, 1.0)], [Ending(Finished("a", Finish.STOP, 1.0))], [], 1, 2, 3, 0.1)),
]
TO_RANK = [encode_for_ranks(EndRank())]
REPORTS = [*map(encode_for_ranks, (RankLoading(0, "weights", 1, 2), SignOfLife(1, NO_BATCH, ""), RankFailed(0, "x", False)))]
DEEP = b"\x91" * 5000
WRONG = (msgspec.DecodeError, ValueError, RecursionError)  # what `ServerWire.receive` takes for no message


@examples(150)
@given(mutated(TO_ENGINE))
@example(DEEP)
def test_to_an_engine(frame: bytes) -> None:
    with suppress(*WRONG):
        decode_to_engine(frame)


@examples(150)
@given(mutated(FROM_ENGINE))
@example(DEEP)
def test_from_an_engine(frame: bytes) -> None:
    with suppress(*WRONG):
        decode_from_engine(frame)


@examples(100)
@given(mutated(TO_RANK), mutated(REPORTS))
@example(DEEP, DEEP)
def test_between_an_engine_and_its_ranks(to_rank: bytes, report: bytes) -> None:
    with suppress(*WRONG):
        decode_to_rank(to_rank)
    with suppress(*WRONG):
        decode_report(report)
