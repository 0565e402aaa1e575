"""Writes the tokens of a result into their request."""

from __future__ import annotations

from orcinus.core.batch import Chunk, Token
from orcinus.core.request import Finish, Logprobs, Request


def advance(
    request: Request, chunk: Chunk, tokens: tuple[int, ...], logprobs: tuple[Logprobs, ...], now: float
) -> tuple[list[Token], Finish | None]:
    """Append a chunk's tokens, without rejected drafts and tokens after the end.

    Returns their events, and the reason of the end if one of them was the last. `logprobs` are those of the tokens, or empty.
    """
    params, output, ending = request.params, request.output, None
    events: list[Token] = []
    for place, token in enumerate(tokens):
        scored = tuple(request.prompt_logprobs) if params.prompt_logprobs is not None and not output else None
        output.append(token)
        events.append(Token(request.id, token, now, logprobs[place] if logprobs else None, scored))
        if token in params.stop_token_ids:
            ending = Finish.STOP
            break
        if len(output) == params.max_tokens:
            ending = Finish.LENGTH
            break
    rejected = chunk.drafts + 1 - len(events) if chunk.drafts else 0
    request.computed += len(chunk.tokens) - rejected
    if events:
        request.newest_token = now
    return events, ending
