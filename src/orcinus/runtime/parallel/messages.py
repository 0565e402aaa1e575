"""What the engine's process and its ranks tell each other, encoded as MessagePack.

engine ── RunBatch, … ───────► every rank          (channel `batches`: one message, broadcast)
engine ◄─ BatchResult ──────── the speaking rank    (channel `results`)
engine ◄─ RankReport ───────── every rank           (channel `reports`: loading, ready, signs of life, times, failure)
"""

from __future__ import annotations

import msgspec

from orcinus.core.batch import Batch, BatchResult
from orcinus.core.request import Overlap
from orcinus.text.grammar_source import GrammarVocabulary

NO_BATCH = -1


class WarmUp(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """All ranks are loaded: run a batch together, so that the first request finds everything compiled."""


class RunBatch(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A batch to run after those before it."""

    batch: Batch


class PrepareGrammar(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Compile a grammar in the background: a request that has it will come."""

    grammar: str
    vocabulary: GrammarVocabulary | None  # with the first grammar


class TimeBatches(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Report the time of every batch from now on, or of none."""

    on: bool = True


class EndRank(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Finish the batches in flight and end."""


class RankLoading(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A stage of the start of a rank, and of its bytes those done and all."""

    rank: int
    stage: str
    done: int
    total: int


class RankLoaded(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A rank has its weights and its K/V memory, and can warm up once all have."""

    rank: int
    pid: int
    host: str


class RankReady(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A rank waits for batches, and how its executor takes them."""

    rank: int
    depth: int
    overlap: Overlap


class SignOfLife(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What a rank does at the moment, from a thread of its own."""

    rank: int
    batch: int  # that it runs; NO_BATCH between two
    waits_in: str  # the collective in which it waits for other ranks; "" while it computes


class BatchTime(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """When a rank ran a batch, by its machine's monotonic clock; sent only if asked for."""

    rank: int
    batch: int
    began: float  # the message was read, and the batch before had ended
    ended: float
    waited: dict[str, float]  # seconds of these in each kind of collective


class RankFailed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The last words of a rank that raised."""

    rank: int
    text: str
    for_others: bool  # whether it only waited in vain for another rank


ToRank = WarmUp | RunBatch | PrepareGrammar | TimeBatches | EndRank
RankReport = RankLoading | RankLoaded | RankReady | SignOfLife | BatchTime | RankFailed

encode = msgspec.msgpack.Encoder(enc_hook=int).encode  # a default max_tokens is a kind of int
decode_to_rank = msgspec.msgpack.Decoder(ToRank).decode
decode_report = msgspec.msgpack.Decoder(RankReport).decode
decode_result = msgspec.msgpack.Decoder(BatchResult).decode
