"""Writes the tokens of a result into their request."""

from __future__ import annotations

from orcinus.core.batch import Chunk, Event, token_of
from orcinus.core.request import Finish, Logprobs, Request


def advance(
    request: Request, chunk: Chunk, tokens: tuple[int, ...], logprobs: tuple[Logprobs, ...], now: float, events: list[Event]
) -> Finish | None:
    """Append a chunk's tokens, without rejected drafts and tokens after the end, and their events to `events`.

    Returns the reason of the end if one of the tokens was the last. `logprobs` are those of the tokens, or empty.
    """
    request.computed += len(chunk.tokens)
    if not tokens:
        return None
    params, output, ending, taken = request.params, request.output, None, 0
    for taken, token in enumerate(tokens, 1):
        scored = tuple(request.prompt_logprobs) if params.prompt_logprobs is not None and not output else None
        output.append(token)
        events.append(token_of((request.id, token, now, logprobs[taken - 1] if logprobs else None, scored)))
        if token in params.stop_token_ids:
            ending = Finish.STOP
            break
        if len(output) == params.max_tokens:
            ending = Finish.LENGTH
            break
    if chunk.drafts:  # the rejected ones were computed in vain
        request.computed -= chunk.drafts + 1 - taken
    request.newest_token = now
    return ending
