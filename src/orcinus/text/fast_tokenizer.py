"""A tokenizer of the `tokenizers` library, with what transformers adds to it.

It does what transformers' own class does with the same backend, without transformers: texts to ids and back, the names of
special tokens, and chat templates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

from tokenizers import Tokenizer as Backend

USED = ("__call__", "_encode_plus", "decode", "_decode", "convert_ids_to_tokens")  # methods that `FastTokenizer` stands for


class Encoded(NamedTuple):
    """A text as token ids."""

    input_ids: list[int]


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """A tokenizer as transformers reads it from a model folder."""

    backend: str  # the text of a tokenizer.json
    class_name: str
    special_tokens: dict[str, str]  # "eos_token" and so on -> the token
    chat_template: str | dict[str, str] | None  # one, or several by name
    split_special_tokens: bool  # whether special tokens in texts are plain text

    @classmethod
    def of(cls, tokenizer: Any, usual: type) -> TokenizerFacts | None:
        """What is to be known of transformers' `tokenizer`; None if it does more than the `usual` class of fast tokenizers."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Backend) or any(getattr(type(tokenizer), n, 0) is not getattr(usual, n, 1) for n in USED):
            return None
        template = tokenizer.chat_template
        if template is not None and not isinstance(template, str | Mapping):
            return None
        backend.no_padding()
        backend.no_truncation()
        return cls(
            backend.to_str(),
            type(tokenizer).__name__,
            {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
            dict(template) if isinstance(template, Mapping) else template,
            bool(tokenizer.split_special_tokens),
        )

    def to_json(self) -> bytes:
        """As bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> TokenizerFacts:
        """`to_json`, inverted."""
        return cls(**json.loads(data))


class FastTokenizer:
    """Transformers' interface over a tokenizer of the `tokenizers` library."""

    def __init__(self, facts: TokenizerFacts) -> None:
        self.class_name, self.special_tokens_map = facts.class_name, facts.special_tokens
        self.chat_template = facts.chat_template
        self._splits = facts.split_special_tokens
        self.backend_tokenizer = Backend.from_str(facts.backend)
        self.added_tokens_decoder = self.backend_tokenizer.get_added_tokens_decoder()

    @cached_property
    def _splitting(self) -> Backend:
        """A backend that takes special tokens for plain text: a second one, because threads share them."""
        backend = Backend.from_str(self.backend_tokenizer.to_str())
        backend.encode_special_tokens = True
        return backend

    def __call__(self, text: str, *, add_special_tokens: bool = True, split_special_tokens: bool | None = None) -> Encoded:
        """The ids of a text."""
        splits = self._splits if split_special_tokens is None else split_special_tokens
        backend = self._splitting if splits else self.backend_tokenizer
        return Encoded(backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False, **_: Any) -> str:
        """The text of tokens, without transformers' clean-up of spaces."""
        text: str = self.backend_tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        return text

    def convert_ids_to_tokens(self, token: int) -> str | None:
        """A token's name in the vocabulary; None for an unknown id."""
        name: str | None = self.backend_tokenizer.id_to_token(token)
        return name

    def get_vocab(self) -> dict[str, int]:
        """Token ids by name, added tokens included."""
        vocabulary: dict[str, int] = self.backend_tokenizer.get_vocab(with_added_tokens=True)
        return vocabulary

    def __len__(self) -> int:
        size: int = self.backend_tokenizer.get_vocab_size(with_added_tokens=True)
        return size

    @property
    def eos_token_id(self) -> int | None:
        """The id of the token that ends a text, if there is one."""
        name = self.special_tokens_map.get("eos_token")
        return None if name is None else self.backend_tokenizer.token_to_id(name)

    def get_chat_template(self, *, tools: Any = None) -> str:
        """The template for a conversation. Raises `ValueError` if there is none, or several and no default."""
        if isinstance(self.chat_template, str):
            return self.chat_template
        for name in ("tool_use",) * (tools is not None) + ("default",):
            if self.chat_template is not None and name in self.chat_template:
                return self.chat_template[name]
        raise ValueError("no chat template is the default")
