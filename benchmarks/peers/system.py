"""A peer as a system of `orcinus.bench`: it serves workloads by the protocol, and what it answers is checked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from driver import Peer, PeerFailed

from orcinus.bench.record import Repeat, RequestOutcome, RequestRecord
from orcinus.bench.requests import BenchRequest, hash_tokens
from orcinus.bench.result import Setting, Side
from orcinus.machine_load import load_average
from orcinus.workload.prompts import prompt_ids
from orcinus.workload.workload import Workload

WARM_UP_ROUND = 1000  # no measured round has its prompts
WARM_UP_TOKENS = 16
RUN_PATIENCE = 3600.0  # seconds
Ids = Sequence[Sequence[int]]


def requests_of_round(workload: Workload, number: int, vocabulary: int) -> list[BenchRequest]:
    """Lengths are those of every round, prompts are new: otherwise prefix caches would know them from the round before."""
    return [
        BenchRequest(prompt_ids(arrival, place, vocabulary, number), arrival.output_tokens)
        for place, arrival in enumerate(workload.untimed())
    ]


@dataclass
class PeerSystem:
    """A loaded peer. Once it has failed, its other turns pass with the same words."""

    name: str
    peer: Peer
    settings: Mapping[str, Setting]
    vocabulary: int
    max_batch_size: int
    row: int = 0  # prompts of other rows are other ones: a prefix cache would know them
    outputs: dict[int, Ids] = field(default_factory=dict)  # of each round that is valid
    failure: str = ""
    _cpu_before: float = math.nan

    def warm_up(self, workload: Workload) -> None:
        """A batch with short answers, not measured."""
        asked = self._requests(workload, WARM_UP_ROUND)[: self.max_batch_size]
        self._serve([BenchRequest(each.prompt, min(each.output_tokens, WARM_UP_TOKENS)) for each in asked])
        self._cpu_before = self.peer.cpu_seconds()

    def measure(self, workload: Workload, number: int = 0, watch: Callable[[int], None] | None = None) -> Repeat:
        """Serve the requests of a round, all of them there at the start."""
        asked, load, before = self._requests(workload, number), load_average(), self.peer.cpu_seconds()
        answer = self._serve(asked)
        after = self.peer.cpu_seconds()
        idle, self._cpu_before = before - self._cpu_before, after
        if answer is None:
            return Repeat(round=number, seconds=0.0, requests=(), problems=(self.failure,), load=load, draw=number)
        counters = cpu_counters(after - before, idle, answer)
        records, problems = tuple(_records(asked, answer)), tuple(_problems(asked, answer))
        if watch:
            watch(len(asked))
        if not problems:
            self.outputs[number] = answer["output_ids"]
        common = {"slots": self.max_batch_size, "load": load, "counters": counters, "draw": number}
        return Repeat(round=number, seconds=answer["seconds"], requests=records, problems=problems, **common)

    def _requests(self, workload: Workload, number: int) -> list[BenchRequest]:
        return requests_of_round(workload, 2 * WARM_UP_ROUND * self.row + number, self.vocabulary)

    def _serve(self, asked: Sequence[BenchRequest]) -> dict[str, Any] | None:
        """The peer's answer; None if it has failed, now or before."""
        if self.failure:
            return None
        prompts, counts = [each.prompt for each in asked], [each.output_tokens for each in asked]
        try:
            answer = self.peer.ask({"op": "run", "prompts": prompts, "output_tokens": counts}, RUN_PATIENCE)
            if len(answer["output_ids"]) != len(asked):
                raise PeerFailed(f"{len(answer['output_ids'])} answers to {len(asked)} requests")
        except PeerFailed as failed:
            self.failure = f"failed: {failed}"
            return None
        return answer


def _records(asked: Sequence[BenchRequest], answer: Mapping[str, Any]) -> Iterator[RequestRecord]:
    """One for each request. Where a peer does not tell when one ended, that is the end of the run."""
    times = answer.get("times") or itertools.repeat(())
    ended = answer.get("ended") or itertools.repeat(answer["seconds"])
    for number, (each, ids, moments, end) in enumerate(zip(asked, answer["output_ids"], times, ended, strict=False)):
        yield RequestRecord(
            number=number,
            prompt_tokens=len(each.prompt),
            output_tokens=len(ids),
            due=0.0,
            sent=0.0,
            ended=end,
            times=tuple(moments),
            outcome=RequestOutcome.OK if len(ids) == each.output_tokens else RequestOutcome.WRONG_LENGTH,
            output=hash_tokens(ids),
        )


def _problems(asked: Sequence[BenchRequest], answer: Mapping[str, Any]) -> Iterator[str]:
    wrong = [
        (number, len(ids), each.output_tokens)
        for number, (ids, each) in enumerate(zip(answer["output_ids"], asked, strict=True))
        if len(ids) != each.output_tokens
    ]
    for number, found, wanted in wrong[:1]:
        yield f"{len(wrong)} answers of wrong length: request {number} has {found} tokens instead of {wanted}"


def cpu_counters(used: float, idle: float, answer: Mapping[str, Any]) -> dict[str, float]:
    """What a run's CPU seconds say: beside busy processes they are steadier than the clock, though not untouched."""
    found = {"cores_busy": used / answer["seconds"], "idle_cpu_seconds": idle}
    tokens = sum(map(len, answer["output_ids"]))
    return found | ({"output_tokens_per_cpu_second": tokens / used} if used > 0 else {})


def with_agreement(side: Side, outputs: Mapping[int, Ids], base: Mapping[int, Ids]) -> Side:
    """The side with two more counters: shares of requests, and of first tokens, that are the base's in the same round."""
    repeats = []
    for repeat in side.repeats:
        own, other = outputs.get(repeat.round), base.get(repeat.round)
        more = agreement(own, other) if repeat.valid and own and other else {}
        repeats.append(replace(repeat, counters=repeat.counters | more))
    return replace(side, repeats=tuple(repeats))


def agreement(own: Ids, other: Ids) -> dict[str, float]:
    """How many requests have the same tokens, how many the same first one, and which share of tokens comes before they part."""
    pairs = list(zip(own, other, strict=True))
    same = [next((place for place, (a, b) in enumerate(zip(*pair, strict=True)) if a != b), len(pair[0])) for pair in pairs]
    return {
        "agreement.requests": sum(count == len(one) for count, (one, _) in zip(same, pairs, strict=True)) / len(pairs),
        "agreement.first_tokens": sum(count > 0 for count in same) / len(pairs),
        "agreement.tokens": sum(same) / sum(len(one) for one, _ in pairs),
    }
