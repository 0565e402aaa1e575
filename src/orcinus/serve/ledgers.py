"""The ledgers of a server's live requests, kept from what its engines report anyway."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orcinus.core.request import Finish
from orcinus.core.unserved import Reason
from orcinus.observe.ledger import BookedIteration, Ledger
from orcinus.serve.answers import Answers
from orcinus.serve.messages import EngineOutput, ScheduledBatch
from orcinus.serve.supervisor import Death


class Ledgers:
    """The ledgers of all live requests, by name."""

    def __init__(self) -> None:
        self._live: dict[str, Ledger] = {}
        self._prompt_seconds: dict[int, float] = {}  # replica -> seconds of its iterations with chunks of prompts
        self._returned: dict[int, float] = {}  # replica -> when its last batch returned

    def open(self, names: Sequence[str], prompt_tokens: Sequence[int], arrival: Callable[[str], float | None]) -> None:
        """Begin the ledgers of new requests."""
        for name, tokens in zip(names, prompt_tokens, strict=True):
            if (at := arrival(name)) is not None:
                self._live[name] = Ledger(at, tokens)

    def take(self, answers: Answers, now: float) -> list[Ledger]:
        """The ledgers of a call's answers, which end now if no engine ended them."""
        taken = []
        for place, name in enumerate(answers.call.names):
            if (ledger := self._live.pop(name, None)) is not None:
                if ledger.ended is None:
                    choice = answers.choices.get(place)
                    finish, code = (None, None) if choice is None else (choice.finish_reason, choice.code)
                    ledger.end(now, finish or Finish.CANCELLED, code)
                taken.append(ledger)
        return taken

    def on_iteration(self, replica: int, output: EngineOutput) -> None:
        """Book an iteration in the ledgers of its requests."""
        live = self._live
        for batch in output.batches:
            before = after = self._prompt_seconds.get(replica, 0.0)
            if any(chunk.prefill for chunk in batch.chunks):
                after += batch.returned - max(batch.at, self._returned.get(replica, batch.at))
            self._prompt_seconds[replica], self._returned[replica] = after, batch.returned
            self._book(batch, BookedIteration(replica, batch.at, batch.returned, before, after))
        for token in output.tokens:
            if (ledger := live.get(token.request_id)) is not None:
                ledger.token(token.at)
        for ending in output.endings:
            finished, timeline = ending.finished, ending.timeline
            if (ledger := live.get(finished.request_id)) is not None:
                ledger.end(finished.at, finished.reason, finished.code)
                if timeline is not None:
                    ledger.draft_tokens, ledger.accepted_draft_tokens = timeline.draft_tokens, timeline.accepted_draft_tokens

    def _book(self, batch: ScheduledBatch, iteration: BookedIteration) -> None:
        reasons = batch.unserved.reasons
        if Reason.PREEMPTED in reasons.values():
            for name, reason in reasons.items():
                if reason is Reason.PREEMPTED and name in self._live:
                    self._live[name].preempt(batch.at, iteration.prompts_before)
        for chunk in batch.chunks:
            if (ledger := self._live.get(chunk.id)) is not None and ledger.ended is None:
                ledger.ran(chunk.start, chunk.tokens, chunk.prefill, iteration)

    def on_death(self, death: Death, now: float) -> None:
        """Note that an engine died under the requests that go on."""
        for name in death.requests:
            if (ledger := self._live.get(name)) is not None:
                ledger.lose_engine(now)
