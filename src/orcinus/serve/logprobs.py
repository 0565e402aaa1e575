"""Log-probabilities in the API's shapes: chats, completions, vLLM's prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orcinus.core.request import Logprobs
from orcinus.text.tokenizer import Tokenizer

BYTES = "bytes:"  # OpenAI's prefix of a token that is no text of its own
Scored = tuple[int, Logprobs | None, int]  # a token (None for the first of a prompt), and its offset in the text


class LogprobWriter:
    """Writes log-probabilities for one request.

    With `as_ids` tokens are written `token_id:5` instead of their text.
    """

    def __init__(self, tokenizer: Tokenizer, *, as_ids: bool) -> None:
        self.tokenizer, self.as_ids = tokenizer, as_ids

    def chat(self, scores: Sequence[Scored]) -> dict[str, Any]:
        """The `logprobs` of a chat's choice."""
        return {"content": [self._chat_entry(token, at) for token, at, _ in scores if at is not None], "refusal": None}

    def completion(self, scores: Sequence[Scored]) -> dict[str, Any]:
        """The `logprobs` of a completion's choice."""
        return {
            "tokens": [self._word(token) for token, _, _ in scores],
            "token_logprobs": [None if at is None else at.logprob for _, at, _ in scores],
            "top_logprobs": [None if at is None else self._top(token, at) for token, at, _ in scores],
            "text_offset": [offset for _, _, offset in scores],
        }

    def prompt(self, ids: Sequence[int], scores: Sequence[Logprobs], count: int) -> list[dict[str, Any] | None]:
        """The `prompt_logprobs`: each token but the first, with the `count` likeliest."""
        return [None, *(self._prompt_entry(token, at, count) for token, at in zip(ids[1:], scores, strict=True))]

    def _prompt_entry(self, token: int, at: Logprobs, count: int) -> dict[str, Any]:
        ranked = [(token, at.logprob, at.rank), *((one, value, rank) for rank, (one, value) in enumerate(at.top[:count], 1))]
        entries = {one: (value, rank) for one, value, rank in reversed(ranked)}
        order = dict.fromkeys(one for one, _, _ in ranked)
        return {
            str(one): {"logprob": entries[one][0], "rank": entries[one][1], "decoded_token": self._decoded(one)}
            for one in order
        }

    def _chat_entry(self, token: int, at: Logprobs) -> dict[str, Any]:
        def one(token: int, value: float) -> dict[str, Any]:
            shown = None if token in self.tokenizer.special_ids else list(self.tokenizer.token_bytes(token))
            return {"token": _by_id(token) if self.as_ids else self._decoded(token), "logprob": value, "bytes": shown}

        return {**one(token, at.logprob), "top_logprobs": [one(other, value) for other, value in at.top]}

    def _top(self, token: int, at: Logprobs) -> dict[str, float]:
        """The likeliest tokens, and always the chosen one."""
        return {self._word(one): value for one, value in at.top} | {self._word(token): at.logprob}

    def _decoded(self, token: int) -> str:
        return self.tokenizer.token_bytes(token).decode("utf-8", "replace")

    def _word(self, token: int) -> str:
        return _by_id(token) if self.as_ids else self._text(token)

    def _text(self, token: int) -> str:
        """A token as text.

        Parts of characters are written as bytes, so different ones stay different.
        """
        raw = self.tokenizer.token_bytes(token)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return BYTES + "".join(f"\\x{byte:02x}" for byte in raw)


def _by_id(token: int) -> str:
    return f"token_id:{token}"
