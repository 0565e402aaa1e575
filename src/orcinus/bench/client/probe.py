"""Probes a server before a run: model, accepted fields, tokens per word."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import msgspec

from orcinus.bench.client.bodies import Form, encoded
from orcinus.bench.client.exchange import EncodedRequest, Exchange
from orcinus.bench.client.fetch import fetch
from orcinus.bench.client.frames import refusal_of
from orcinus.bench.client.pool import Pool
from orcinus.bench.client.prompts import FIRST_ID, IDS, Ids, Words
from orcinus.bench.client.target import OPTIONAL, Dialect, Target, with_body
from orcinus.bench.client.words import WORDS
from orcinus.bench.record import RequestOutcome
from orcinus.errors import ConfigError

PROBE_S = 60.0  # seconds for one answer: a server may have to warm up
TOKENS = 2  # of the answer to a probe
STRICT = (400, 422)  # statuses with which a server refuses a field
NAME_ONE = "name one with --model"
ANSWERED = (RequestOutcome.OK, RequestOutcome.WRONG_LENGTH)


async def find_card(target: Target) -> _Card:
    """A server's only model. Raises `ConfigError` for none or several."""
    cards = await _cards(target)
    if len(cards) != 1:
        names = [card.id for card in cards]
        listed = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
        raise ConfigError(f"{target.url} has {len(names)} models{': ' if names else ''}{listed}; {NAME_ONE}")
    return cards[0]


async def find_revision(target: Target) -> str | None:
    """The commit of a target's model; None if unknown."""
    with suppress(ConfigError):
        return next((card.revision for card in await _cards(target) if card.id == target.model), None)
    return None


async def _cards(target: Target) -> list[_Card]:
    try:
        status, body = await fetch(target, "/v1/models", PROBE_S)
    except TimeoutError:
        raise ConfigError(f"{target.url} does not answer within {PROBE_S:g} s") from None
    except ConnectionError as error:
        raise ConfigError(f"{target.url} does not say which models it has: {error}") from None
    if status != 200:
        raise ConfigError(f"{target.url} does not say which models it has ({refusal_of(status, body)}): {NAME_ONE}")
    try:
        return list(msgspec.json.decode(body, type=_Cards).data)
    except msgspec.DecodeError as error:
        raise ConfigError(f"the list of models at {target.url} cannot be read ({error}): {NAME_ONE}") from None


async def meet(target: Target, *, exact_lengths: bool = True) -> Form:
    """A server's request format: model, dialect, tokens per word.

    Sends a few requests of one or two output tokens. Raises `ConfigError` with the server's message if it accepts none.
    """
    revision = None
    if not target.model:
        card = await find_card(target)
        target, revision = replace(target, model=card.id), card.revision
    form = Form(target, revision=revision, prompts=Words() if target.text else Ids(), exact_lengths=exact_lengths)
    form, probed = await _with_dialect(form)
    form = replace(form, counted=probed.tally.known_by)
    return replace(form, prompts=await _calibrated(form)) if target.text else form


async def _with_dialect(form: Form) -> tuple[Form, Exchange]:
    """The form with all fields that the server accepts, and its answer.

    If it refuses them together, each is tried in addition to those it accepted.
    """
    probed = await _probe(form)
    if probed.outcome in ANSWERED:
        return form, probed
    _raise_unless_refused(form.target, probed)
    form = replace(form, dialect=Dialect(frozenset()))
    probed = await _probe(form)
    if probed.outcome not in ANSWERED:
        raise ConfigError(f"{form.target.url} refuses the smallest request: {probed.error}")
    for name in OPTIONAL:
        more = replace(form, dialect=Dialect(form.dialect.fields | {name}))
        if (answer := await _probe(more)).outcome in ANSWERED:
            form, probed = more, answer
    return form, probed


def _raise_unless_refused(target: Target, probed: Exchange) -> None:
    """Raise unless the status may be due to the request's fields.

    Only then is another try worthwhile.
    """
    if probed.outcome is RequestOutcome.REJECTED:
        raise ConfigError(f"{target.url} is busy or not ready: {probed.error}; try again later")
    if probed.status in (401, 403):
        raise ConfigError(f"{target.url} wants another API key: {probed.error}")
    if probed.status not in STRICT:
        raise ConfigError(f"{target.url} cannot be measured: {probed.error}")


async def _calibrated(form: Form) -> Words:
    """Tokens per word, from the server's counts.

    One if it does not count.
    """
    words = tuple(range(len(WORDS)))
    few, many = [(await _probe(form, words[:count])).tally.prompt_tokens for count in (1, len(words))]
    if few is None or many is None or many <= few:
        return Words()
    each = (many - few) / (len(words) - 1)
    return Words(around=max(0.0, few - each), each=each)


async def _probe(form: Form, prompt: tuple[int, ...] = ()) -> Exchange:
    """The answer to one short request.

    `prompt` are indices of words.
    """
    usual = tuple(range(8)) if form.target.text else (FIRST_ID, FIRST_ID + IDS - 1)
    body = form.dialect.body(form.target, form.prompts.show(prompt or usual), TOKENS, exact=form.exact_lengths)
    request = with_body(form.target.head("POST", form.target.path), encoded(body))
    ended: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
    exchange, pool = Exchange(0, 0.0, EncodedRequest(request, 0, TOKENS), ended.set_result), Pool(form.target)
    try:
        exchange.send(pool)
        await asyncio.wait([ended], timeout=PROBE_S)
        exchange.expire()
    finally:
        await pool.close()
    return exchange


class _Card(msgspec.Struct):
    id: str
    revision: str | None = None  # our servers tell the commit of a hub repository


class _Cards(msgspec.Struct):
    data: list[_Card]
