"""The ledgers of a server's live requests, kept from what its engines report anyway."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orcinus.core.request import Finish
from orcinus.core.unserved import Reason
from orcinus.observe.ledger import BookedIteration, Ledger
from orcinus.serve.answers import Answers
from orcinus.serve.messages import Ending, EngineOutput, ScheduledBatch
from orcinus.serve.supervisor import Death


@dataclass(slots=True)
class _Replica:
    """The clock of a replica's iterations, and the steady ones that are not booked yet.

    Iterations are steady while the same requests decode, and nothing else runs. They are booked together.
    """

    prompt_seconds: float = 0.0  # of iterations with chunks of prompts
    returned: float | None = None  # when the last batch returned
    names: list[str] | None = None  # the requests of the last batch, if all of them decoded
    iterations: int = 0
    decode: float = 0.0  # seconds of these iterations
    other: float = 0.0  # seconds between them


class Ledgers:
    """The ledgers of all live requests, by name."""

    def __init__(self) -> None:
        self._live: dict[str, Ledger] = {}
        self._replicas = defaultdict[int, _Replica](_Replica)

    def open(self, names: Sequence[str], prompt_tokens: Sequence[int], arrival: Callable[[str], float | None]) -> None:
        """Begin the ledgers of new requests."""
        for name, tokens in zip(names, prompt_tokens, strict=True):
            if (at := arrival(name)) is not None:
                self._live[name] = Ledger(at, tokens)

    def take(self, answers: Answers, now: float) -> list[Ledger]:
        """The ledgers of a call's answers, which end now if no engine ended them."""
        taken = []
        for place, name in enumerate(answers.call.names):
            if (ledger := self._live.get(name)) is not None:
                if ledger.ended is None:
                    self._settle_all()
                    choice = answers.choices.get(place)
                    finish, code = (None, None) if choice is None else (choice.finish_reason, choice.code)
                    ledger.end(now, finish or Finish.CANCELLED, code)
                del self._live[name]
                taken.append(ledger)
        return taken

    def on_iteration(self, replica: int, output: EngineOutput) -> None:
        """Book an iteration in the ledgers of its requests."""
        of = self._replicas[replica]
        for batch in output.batches:
            names, prompts = [chunk.id for chunk in batch.chunks], any(chunk.prefill for chunk in batch.chunks)
            if names == of.names and not prompts and Reason.PREEMPTED not in batch.unserved.reasons.values():
                _add_steady(of, batch)
            else:
                self._settle(of)
                self._book(replica, of, batch, names)
            of.returned = batch.returned
        for token in output.tokens:
            if (ledger := self._live.get(token.request_id)) is not None:
                ledger.tokens.append(token.at)
        if output.endings:
            self._settle(of)
            for ending in output.endings:
                self._end(ending)

    def _book(self, replica: int, of: _Replica, batch: ScheduledBatch, names: list[str]) -> None:
        before = of.prompt_seconds
        if any(chunk.prefill for chunk in batch.chunks):
            of.prompt_seconds += batch.returned - (batch.at if of.returned is None else max(batch.at, of.returned))
        reasons = batch.unserved.reasons
        if Reason.PREEMPTED in reasons.values():
            for name, reason in reasons.items():
                if reason is Reason.PREEMPTED and name in self._live:
                    self._live[name].preempt(batch.at, before)
        iteration = BookedIteration(replica, batch.at, batch.returned, before, of.prompt_seconds)
        all_decode = True
        for chunk in batch.chunks:
            if (ledger := self._live.get(chunk.id)) is not None and ledger.ended is None:
                all_decode &= ledger.ran(chunk.start, chunk.tokens, chunk.prefill, iteration)
        of.names = names if all_decode else None

    def _settle(self, of: _Replica) -> None:
        """Book a replica's steady iterations."""
        if of.iterations:
            assert of.names is not None
            assert of.returned is not None
            for name in of.names:
                if (ledger := self._live.get(name)) is not None and ledger.ended is None:
                    ledger.decoded(of.iterations, of.decode, of.other, of.returned)
            of.iterations, of.decode, of.other = 0, 0.0, 0.0

    def _settle_all(self) -> None:
        for of in self._replicas.values():
            self._settle(of)

    def _end(self, ending: Ending) -> None:
        finished, timeline = ending.finished, ending.timeline
        if (ledger := self._live.get(finished.request_id)) is not None:
            ledger.end(finished.at, finished.reason, finished.code)
            if timeline is not None:
                ledger.draft_tokens, ledger.accepted_draft_tokens = timeline.draft_tokens, timeline.accepted_draft_tokens

    def on_death(self, death: Death, now: float) -> None:
        """Note that an engine died under the requests that go on."""
        self._settle_all()
        for name in death.requests:
            if (ledger := self._live.get(name)) is not None:
                ledger.lose_engine(now)


def _add_steady(of: _Replica, batch: ScheduledBatch) -> None:
    """Count an iteration whose requests all decoded in the one before."""
    assert of.returned is not None
    began = max(batch.at, of.returned)
    of.iterations += 1
    of.other += began - of.returned
    of.decode += batch.returned - began
