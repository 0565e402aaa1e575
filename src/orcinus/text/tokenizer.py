"""The model's tokenizer and chat template, as `transformers` reads them."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orcinus.errors import ModelError, RequestError
from orcinus.text.generation import end_of_text_ids

Message = Mapping[str, Any]  # {"role": "user", "content": "Hello"}


class Tokenizer:
    """Strings to ids and back. `eos_ids` are the ids that end a text of this model."""

    def __init__(self, tokenizer: Any, eos_ids: frozenset[int]) -> None:
        self._tokenizer, self.eos_ids = tokenizer, eos_ids
        self._special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]

    def encode(self, text: str) -> tuple[int, ...]:
        """The text as it stands, with what the model wants before it (a begin-of-text token, for some models)."""
        return tuple(self._tokenizer(_valid(text)).input_ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens. Bytes that are no UTF-8 become U+FFFD."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """A conversation, ready for the assistant's next turn. Raises `RequestError` if the model cannot hold one."""
        if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
            raise RequestError("a conversation must be a list of messages such as {'role': 'user', 'content': 'Hi'}")
        if not messages:
            raise RequestError("the conversation is empty: give at least one message")
        for index, message in enumerate(messages):
            if not isinstance(message, Mapping) or not isinstance(message.get("content"), str) or "role" not in message:
                raise RequestError(f"message {index} needs a 'role' and a 'content' string")
            _valid(message["content"])
        if not self._tokenizer.chat_template:
            raise RequestError("this model has no chat template: use generate with plain prompts")
        from jinja2 import TemplateError

        marks: dict[str, str] = {}
        marked = [{**message, "content": self._mark(message["content"], marks)} for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(marked, add_generation_prompt=True, tokenize=False)
        except TemplateError as error:
            raise RequestError(f"the model's chat template refuses this conversation: {error}") from None
        if not marks:
            return tuple(self._tokenizer(text, add_special_tokens=False).input_ids)
        ids: list[int] = []
        for part in re.split("(" + "|".join(map(re.escape, marks)) + ")", text):
            plain = part in marks
            ids += self._tokenizer(marks.get(part, part), add_special_tokens=False, split_special_tokens=plain).input_ids
        return tuple(ids)

    def _mark(self, content: str, marks: dict[str, str]) -> str:
        """Put marks in the place of what looks like a special token: nobody can end their own message from within it."""
        for token in self._special:
            if token in content:
                mark = f"\ue000{secrets.token_hex(8)}\ue001"
                marks[mark] = token
                content = content.replace(token, mark)
        return content

    @property
    def chats(self) -> bool:
        """Whether the model has a chat template."""
        return bool(self._tokenizer.chat_template)


def load_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a model folder, or None if it holds none. Raises `ModelError` if it holds a broken one."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return None
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"the tokenizer in {folder} cannot be read: {reason}") from error
    tokenizer.model_max_length = sys.maxsize  # the engine has its own limit and says so; no warning is needed before that
    return Tokenizer(tokenizer, end_of_text_ids(folder, tokenizer.eos_token_id))


def _valid(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what = "no valid Unicode (a byte that is not UTF-8, or half a surrogate pair)"
        raise RequestError(f"character {error.start} of the text is {what}: give UTF-8 text") from None
    return text
