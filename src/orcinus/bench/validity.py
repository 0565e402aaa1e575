"""Validity of measured results: doubts and cautions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orcinus.bench import summary
from orcinus.bench.measure import gaps, prefix_hit_rate
from orcinus.bench.ranking import METRICS, repeats_for
from orcinus.bench.record import Repeat, RequestOutcome
from orcinus.bench.result import Result, Side
from orcinus.errors import plural
from orcinus.machine_load import crowded

LONGEST_ERROR = 200  # characters quoted of a server's message
SERVED = 0.8  # share of the offered rate: short workloads serve a little less, as the last answers take time
EVEN = 0.2  # share by which few random arrivals may deviate from their rate
CACHED = 0.01  # share of prompt tokens that may be cached beyond the workload's shared ones


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reason not to believe a result, with its facts."""

    what: str
    details: tuple[str, ...] = ()


def doubts(result: Result, *, outputs: bool = True) -> list[Doubt]:
    """Every reason not to believe a result.

    Differing outputs count only with `outputs`.
    """
    found = [] if result.complete else [Doubt("It was interrupted: what is here was measured, and the rest is missing.")]
    if not any(side.repeats for side in result.sides):
        found.append(Doubt("Nothing was measured."))
    for side in result.sides:
        found += [*_problems(side), *_left_out(side), *_not_served(side)]
    different = _different_outputs(result) if outputs else ()
    return [*found, *_cached(result), *_search(result), *_busy(result), *_fewer(result), *different]


def checked(result: Result) -> str:
    """The checks that found no doubt, in words."""
    repeats = [repeat for side in result.sides for repeat in side.repeats]
    requests = sum(len(repeat.requests) for repeat in repeats)
    same = " The output of a request is the same in every run of every side." if summary.same_outputs(result.sides) else ""
    return (
        f"Nothing was found against these numbers: the run was complete, {plural(len(repeats), 'repeat')} valid, and "
        f"{plural(requests, 'request')} served, each with the output tokens asked for.{same}"
    )


def not_served(side: Side) -> Mapping[RequestOutcome, int]:
    """How many requests ended in each such way, over all repeats."""
    ended = Counter(each.outcome for repeat in side.repeats for each in repeat.requests)
    return {outcome: ended[outcome] for outcome in RequestOutcome if ended[outcome] and outcome is not RequestOutcome.OK}


def _problems(side: Side) -> Iterator[Doubt]:
    for repeat in side.repeats:
        yield from (Doubt(f"{side.name}, repeat {repeat.round + 1}: {problem}") for problem in repeat.problems)


def _cached(result: Result) -> Iterator[Doubt]:
    """Sides with a higher prefix hit rate than the workload can cause."""
    work = result.work
    if work.shared_tokens is None or work.keep_prompts:
        return
    own = work.shared_tokens / work.prompt_tokens if work.prompt_tokens else 0.0
    for name, share in cached_shares(result).items():
        if share is not None and share > own + CACHED:
            yield Doubt(
                f"{name}: {share:.0%} of the prompt tokens came from a prefix cache, where the workload shares {own:.0%}: "
                "the server knew prompts from before. Restart it, and keep other clients away."
            )


def cached_shares(result: Result) -> dict[str, float | None]:
    """Greatest prefix hit rate of each side's repeats; None if unknown."""
    shares = {side.name: [prefix_hit_rate(repeat) for repeat in side.repeats] for side in result.sides if side.repeats}
    return {name: max((each for each in some if each is not None), default=None) for name, some in shares.items()}


def _search(result: Result) -> Iterator[Doubt]:
    """Capacities whose search ended early: short workload, or invalid runs."""
    for side in result.sides:
        rate, name = side.settings.get("rate"), str(side.settings.get("system"))
        if result.kind != "capacity" or rate is None or name not in result.capacity:
            continue
        if side.repeats and not any(repeat.valid for repeat in side.repeats):
            yield Doubt(
                f"{name}: the search ended at {rate:.4g} requests/s, which could not be measured: the capacity may be higher."
            )
        served = summary.summarize([side])[0].median("request_throughput")
        if rate == result.capacity[name] and served is not None and served < SERVED * float(rate):
            yield Doubt(
                f"{side.name}: only {served:.3g} requests/s were served of {float(rate):.3g} that were sent, so that the queue "
                "was growing: the workload is too short to find a capacity. Use more --requests."
            )


def _busy(result: Result) -> Iterator[Doubt]:
    """Doubts because other programs kept the machine busy."""
    loads = [repeat.load for side in result.sides for repeat in side.repeats if repeat.load is not None]
    if found := crowded(loads, result.machine.cores):
        yield Doubt(f"The machine was busy: {found}. Measure again on a quiet one.")


def _left_out(side: Side) -> Iterator[Doubt]:
    bad = sum(not repeat.valid for repeat in side.repeats)
    if bad and bad == len(side.repeats):
        yield Doubt(f"{side.name}: no repeat is valid.")
    elif bad:
        yield Doubt(
            f"{side.name}: the numbers leave out {bad} of {plural(len(side.repeats), 'repeat')}, for the reasons above."
        )


def _fewer(result: Result) -> Iterator[Doubt]:
    most = max((len(side.repeats) for side in result.sides), default=0)
    fewer = [f"{side.name}: {len(side.repeats)} of {most}" for side in result.sides if len(side.repeats) < most]
    if fewer:
        yield Doubt("Some sides were measured less often than others.", tuple(fewer))


def _not_served(side: Side) -> Iterator[Doubt]:
    ended, total = not_served(side), sum(len(repeat.requests) for repeat in side.repeats)
    if ended:
        counts = ", ".join(f"{number} {outcome.value}" for outcome, number in ended.items())
        what = f"{side.name}: {sum(ended.values())} of {plural(total, 'request')} were not served as asked ({counts})."
        examples = tuple(dict.fromkeys(_error(repeat) for repeat in side.repeats if _error(repeat)))
        yield Doubt(f"{what} They have no latencies, which makes the rest look better.", examples[:3])
    elif side.repeats and not total:
        yield Doubt(f"{side.name}: there were no requests.")


def _error(repeat: Repeat) -> str:
    """The first error message of a repeat."""
    said = next((each for each in repeat.requests if each.outcome is not RequestOutcome.OK and each.error), None)
    return "" if said is None else f"{said.outcome.value}: {said.error[:LONGEST_ERROR]}"


def _outputs(result: Result) -> dict[tuple[int, int], dict[str, set[str]]]:
    """Hashes of outputs, by side and by request (draw, number)."""
    found: dict[tuple[int, int], dict[str, set[str]]] = {}
    for side in result.sides:
        for repeat in side.repeats:
            for each in repeat.requests:
                if each.outcome is RequestOutcome.OK and each.output:
                    found.setdefault((repeat.draw, each.number), {}).setdefault(side.name, set()).add(each.output)
    return found


def _different_outputs(result: Result) -> Iterator[Doubt]:
    """Outputs that differ between sides, or between a side's repeats."""
    outputs = _outputs(result)
    differ = {number: by_side for number, by_side in outputs.items() if len(set().union(*by_side.values())) > 1}
    if not differ:
        return
    first = result.sides[0].name
    against = Counter(name for sides in differ.values() for name in sides if name != first and sides[name] != sides.get(first))
    within = Counter(name for sides in differ.values() for name, hashes in sides.items() if len(hashes) > 1)
    yield Doubt(
        f"The outputs of {len(differ)} of {plural(len(outputs), 'request')} differ between sides or repeats.",
        (
            *(f"{name} against {first}: {plural(number, 'request')}" for name, number in against.items()),
            *(f"{name}, one repeat against another: {plural(number, 'request')}" for name, number in within.items()),
        ),
    )


def cautions(result: Result) -> list[Doubt]:
    """Cautions about sound numbers."""
    return [*_frames(result), *_together(result), *_prompts(result), *_uneven(result), *_few(result), *_source(result)]


def _frames(result: Result) -> Iterator[Doubt]:
    names = [
        side.name for side in result.sides if any(each.timed == "frames" for repeat in side.repeats for each in repeat.requests)
    ]
    if names:
        yield Doubt(
            f"The times between tokens of {', '.join(names)} are those between frames of a stream, which may hold several "
            "tokens: they cannot be compared with others."
        )


def _together(result: Result) -> Iterator[Doubt]:
    names = [side.name for side in result.sides if _comes_together(side)]
    if names:
        yield Doubt(
            f"Most tokens of {', '.join(names)} came together with the one before, so that the time between tokens is 0: users "
            "see nothing for long, and then all at once. Compare the other latencies."
        )


def _comes_together(side: Side) -> bool:
    found = [gap <= 0 for repeat in side.repeats for each in repeat.requests for gap in gaps(each)]
    return 2 * sum(found) > len(found)


def _prompts(result: Result) -> Iterator[Doubt]:
    """Prompts that a prefix cache may hold, unknown to the client."""
    servers = [side for side in result.sides if "url" in side.settings]
    shares = cached_shares(result)
    if servers and result.work.keep_prompts:
        told = ", ".join(f"{side.name} {share:.0%}" for side in servers if (share := shares.get(side.name)) is not None)
        yield Doubt(
            "Every run, the warm-up too, had the same prompts, which a prefix cache knows"
            + (f" (share of prompt tokens found there: {told})." if told else ".")
        )
    silent = [side.name for side in servers if side.name in shares and shares[side.name] is None]
    if silent:
        yield Doubt(
            f"Prompt tokens of {', '.join(silent)} that came from a prefix cache: unknown, as the server does not tell "
            "(usage.prompt_tokens_details, or counters at /metrics)."
        )


def _uneven(result: Result) -> Iterator[Doubt]:
    found = []
    for side in result.sides:
        rate, due = side.settings.get("rate"), [each.due for repeat in side.repeats[:1] for each in repeat.requests]
        if rate is not None and len(due) > 1 and max(due) > min(due):
            sent = (len(due) - 1) / (max(due) - min(due))
            if abs(sent / float(rate) - 1) > EVEN:
                found.append(f"{side.name}: {sent:.3g} a second")
    if found:
        yield Doubt("These few requests did not arrive at the rate of their process: use more --requests.", tuple(found))


def _few(result: Result) -> Iterator[Doubt]:
    fewest = min((sum(repeat.valid for repeat in side.repeats) for side in result.sides), default=0)
    pairs = len(result.sides) - len({summary.rate_of(side) for side in result.sides})
    needed = repeats_for(max(1, pairs) * len(METRICS))
    if fewest == 1:
        yield Doubt(f"One repeat does not say how much of this is noise: take {needed}.")
    elif 0 < fewest < needed:
        yield Doubt(f"{fewest} repeats do not tell differences from noise in so many comparisons: take {needed}.")


def _source(result: Result) -> Iterator[Doubt]:
    if result.commit.endswith("+"):
        yield Doubt(f"The source was changed after commit {result.commit[:-1]}: others cannot run the same.")
