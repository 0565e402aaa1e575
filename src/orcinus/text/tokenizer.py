"""The model's tokenizer and chat template, as `transformers` reads them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from orcinus.core.structured_outputs import StructuredOutputs, ThinkingMarks
from orcinus.errors import RequestError
from orcinus.text.chat_template import TemplateRenderer
from orcinus.text.detokenizer import NO_CHARACTER, ByteWriter, Detokenizer, PieceWriter
from orcinus.text.generation_config import end_of_text_ids
from orcinus.text.patterns import tokenizer_errors
from orcinus.text.reasoning import BEGIN, END
from orcinus.text.token_names import BYTE_TOKEN, CHARACTER_BYTES, SilentTokens
from orcinus.text.tokenizer_files import read_tokenizer
from orcinus.text.tools.tool_use import ToolUse

Message = Mapping[str, Any]  # {"role": "user", "content": "Hello"}
PIECE = 16 * 1024  # characters per piece when counting a text that may be much too long
USUAL = 8  # characters of a token, at most: texts with more of them are rare


class TooManyTokens(RequestError):
    """A text with too many tokens, found before tokenizing all of it."""


class ChatIds(tuple[int, ...]):
    """A conversation as token ids.

    `thinking`: whether the prompt ends inside the answer's reasoning; None if the model never reasons.
    """

    thinking: bool | None = None
    marks: ThinkingMarks | None = None  # of reasoning that may still come; None if there is none
    tool_use: ToolUse | None = None  # the tools that the answer may call
    form: StructuredOutputs | None = None  # of the answer, if calls bind it

    def describe(self, marks: tuple[int, int] | None, opening: str) -> None:
        """Note the reasoning that `opening`, the text after the last message, leaves open.

        `marks` are the ids of the marks, if these are tokens.
        """
        self.thinking = opening.rfind(BEGIN) > opening.rfind(END)
        if marks is not None and (self.thinking or END not in opening):
            self.marks = ThinkingMarks(*marks, self.thinking)

    def of(self, part: Sequence[int]) -> ChatIds:
        """A part of these ids, with the same facts about the answer."""
        cut = ChatIds(part)
        cut.thinking, cut.marks, cut.tool_use, cut.form = self.thinking, self.marks, self.tool_use, self.form
        return cut


class Tokenizer:
    """Text to token ids and back. `eos_ids` end a text."""

    def __init__(self, tokenizer: Any, eos_ids: frozenset[int]) -> None:
        self._tokenizer, self.eos_ids = tokenizer, eos_ids
        self._renderer = TemplateRenderer()
        names = tokenizer.added_tokens_decoder
        self.special_ids = frozenset(number for number, token in names.items() if token.special)  # they have no text
        self._special = [str(names[number]) for number in self.special_ids]
        self.added_ids = {str(token): number for number, token in names.items()}
        self.reasoning_ids = (self.added_ids[BEGIN], self.added_ids[END]) if {BEGIN, END} <= self.added_ids.keys() else None
        template = tokenizer.chat_template  # a text, or several by name
        self.chat_template = "\n".join(template.values()) if isinstance(template, Mapping) else template or None
        self._reasons = self.reasoning_ids is not None or BEGIN in (self.chat_template or "")
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        decoder = str(getattr(self._backend, "decoder", "ByteFallback"))  # SentencePiece's own library falls back to bytes, too
        self._bytewise, self._falls_back = "ByteLevel" in decoder, "ByteFallback" in decoder
        self._names: dict[int, str | None] = {}  # of tokens asked for so far

    def encode(self, text: str, special: bool = True, most: int | None = None) -> tuple[int, ...]:
        """Token ids of a text; with `special`, also the model's prefix.

        Raises `TooManyTokens` for a text of far more than `most` tokens, in the time that twice as many tokens would take.
        """
        self._check_length(text, most)
        return tuple(self._ids(_valid(text), add_special_tokens=special))

    def _check_length(self, text: str, most: int | None) -> None:
        """Raise `TooManyTokens` for far more than `most`, counting pieces of the text."""
        if most is None or len(text) <= USUAL * most:
            return
        count = 0
        for start in range(0, len(text), PIECE):
            count += len(self._ids(text[start : start + PIECE], add_special_tokens=False))
            if count > 2 * most:  # cutting may add a few tokens
                raise TooManyTokens(f"{len(text)} characters are more than {2 * most} tokens")

    def _ids(self, text: str, **how: bool) -> list[int]:
        with tokenizer_errors():
            ids: list[int] = self._tokenizer(text, **how).input_ids
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of tokens, without special ones by default; bad UTF-8 is U+FFFD."""
        how = {"skip_special_tokens": skip_special_tokens, "clean_up_tokenization_spaces": False}
        with tokenizer_errors():
            text: str = self._tokenizer.decode(list(ids), **how)
        return text

    def detokenizer(
        self,
        prompt: Sequence[int] = (),
        *,
        skip_special_tokens: bool = True,
        marks: Sequence[str] = (),
        echo: bool = False,
    ) -> Detokenizer:
        """A detokenizer for the tokens after a prompt. Tokens named in `marks` are always shown."""
        pieces = partial(PieceWriter, self._decode_all, self._byte, lambda: self._filler)
        writer = partial(ByteWriter, self._raw) if self._bytewise else pieces
        silent = SilentTokens(self.special_ids if skip_special_tokens else frozenset(), self._name)
        shown = {self.added_ids[mark]: mark for mark in marks if mark in self.added_ids}
        return Detokenizer(writer, prompt, silent=silent, marks=shown, echo=echo)

    def _decode_all(self, ids: Sequence[int]) -> str:
        """Text of all tokens, special ones included, without transformers' clean-up."""
        with tokenizer_errors():
            if self._backend is None:
                text: str = self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
            else:
                text = self._backend.decode(list(ids), skip_special_tokens=False)
        return text

    def _name(self, token: int) -> str | None:
        """The token as in the vocabulary; None for an unknown id."""
        if token not in self._names:
            known = self._backend is not None or 0 <= token < len(self._tokenizer)
            self._names[token] = self._tokenizer.convert_ids_to_tokens(token) if known else None
        return self._names[token]

    def _raw(self, token: int) -> bytes:
        """The bytes of a byte-level token; a name without bytes is text."""
        name = self._name(token) or ""
        return bytes(CHARACTER_BYTES[char] for char in name) if all(char in CHARACTER_BYTES for char in name) else name.encode()

    def _byte(self, token: int) -> int | None:
        """The byte of a byte-fallback token, or None."""
        name = self._name(token) or ""
        return int(name[3:5], 16) if self._falls_back and BYTE_TOKEN.fullmatch(name) else None

    @cached_property
    def _filler(self) -> tuple[int, ...]:
        """A token with plain text, if there is one."""
        silent = SilentTokens(self.special_ids, self._name)
        texts = ((token, self._decode_all([token]).strip()) for token in range(len(self._tokenizer)) if token not in silent)
        return next(((token,) for token, text in texts if text and NO_CHARACTER not in text), ())

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token; for a special token, its name."""
        name, byte = self._name(token) or "", self._byte(token)
        if token in self._tokenizer.added_tokens_decoder:
            return name.encode()
        if self._bytewise:
            return self._raw(token)
        return name.replace("\u2581", " ").encode() if byte is None else bytes([byte])

    @cached_property
    def longest_token(self) -> int:
        """Characters of the longest token, for lower bounds on token counts."""
        return max(map(len, self._tokenizer.get_vocab()))

    def facts(self) -> dict[str, Any]:
        """Facts for clients, under the names of tokenizer_config.json."""
        t = self._tokenizer
        named = {name: t.special_tokens_map.get(name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
        name = getattr(t, "class_name", type(t).__name__)
        return {"tokenizer_class": name, "vocab_size": len(t), "chat_template": t.chat_template, **named}

    def encode_chat(
        self,
        messages: Sequence[Message],
        options: Mapping[str, Any] | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        special: bool = False,
        most: int | None = None,
    ) -> ChatIds:
        """A conversation as ids, ready for the assistant's next turn.

        `options` are variables of the model's template, such as `enable_thinking`; callers that accept them from clients
        decide which names are allowed. Without `add_generation_prompt` nothing opens the next turn; with
        `continue_final_message` the last message stays open instead. `special` adds the tokens that the tokenizer puts
        around any text. Raises `RequestError` if the template cannot render the conversation, and `TooManyTokens` for far
        more than `most` tokens, as `encode` does.
        """
        if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
            raise RequestError("a conversation must be a list of messages such as {'role': 'user', 'content': 'Hi'}")
        if not messages:
            raise RequestError("the conversation is empty: give at least one message")
        for index, message in enumerate(messages):
            if not isinstance(message, Mapping) or not isinstance(message.get("content"), str) or "role" not in message:
                raise RequestError(f"message {index} needs a 'role' and a 'content' string")
            _valid(message["content"])
        marks: dict[str, str] = {}
        marked = [{name: _marked(self._special, value, marks) for name, value in message.items()} for message in messages]
        variables = {
            "tools": _marked(self._special, tools, marks),
            "add_generation_prompt": add_generation_prompt,
            **(options or {}),
        }
        text = self._open_ended(marked, variables) if continue_final_message else self._render(marked, variables)
        self._check_length(text, most)
        ids = self._encode_marked(text, marks, most)
        found = ChatIds((*self._around[0], *ids, *self._around[1]) if special else ids)
        if self._reasons:
            last = messages[-1]["content"] if continue_final_message else self._opening(text, marked, variables)
            found.describe(self.reasoning_ids, last)
        return found

    def _opening(self, text: str, messages: Sequence[Message], variables: Mapping[str, Any]) -> str:
        """The template's text after the last message, if it may open reasoning."""
        if text.rfind(BEGIN) <= text.rfind(END):
            return ""
        end, ended = _with_end(messages)  # templates show the message with or without add_generation_prompt
        return self._render(ended, variables).rpartition(end)[2]

    def _encode_marked(self, text: str, marks: Mapping[str, str], most: int | None) -> list[int]:
        """Token ids of a rendered text with its marks restored.

        Marked tokens (token to mark) are encoded as plain text.
        """
        tokenize, ids = partial(self._ids, add_special_tokens=False), list[int]()
        plain = {mark: tokenize(token, split_special_tokens=True) for token, mark in marks.items()}
        for part in re.split("(" + "|".join(map(re.escape, plain)) + ")", text) if plain else [text]:
            if part:
                ids += plain[part] if part in plain else tokenize(part)
            if most is not None and len(ids) > 2 * most:
                raise TooManyTokens(f"{len(text)} characters are more than {2 * most} tokens")
        return ids

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before and after any text."""
        bare, full = self._ids("a", add_special_tokens=False), self._ids("a")
        start = next(at for at in range(len(full)) if full[at : at + len(bare)] == bare)
        return full[:start], full[start + len(bare) :]

    def _render(self, messages: Sequence[Message], variables: Mapping[str, Any]) -> str:
        """The text of a conversation, by the model's template. Raises `RequestError`."""
        if not self.chats:
            raise RequestError("this model has no chat template: use generate with plain prompts")
        try:
            template: str = self._tokenizer.get_chat_template(tools=variables.get("tools"))
        except ValueError:
            raise RequestError("this model has several chat templates, and none is the default: use plain prompts") from None
        return self._renderer.render(template, messages, **{**self._tokenizer.special_tokens_map, **variables})

    def _open_ended(self, messages: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
        """A conversation cut after its last message's content.

        White space that the template drops is dropped.
        """
        last = messages[-1]
        if not last["content"]:
            raise RequestError("the last message has no content to continue")
        end, ended = _with_end(messages, " ")  # the blank shows whether the template keeps white space
        text = self._render(ended, {**variables, "add_generation_prompt": False})
        place = text.rfind(end.strip())
        if place < 0:
            raise RequestError("the model's chat template does not show the last message, so it cannot be continued")
        return text[:place] if text.startswith(end, place) else text[:place].rstrip()

    @property
    def chats(self) -> bool:
        """Whether the model has a chat template."""
        return self.chat_template is not None


def _marked(special: Sequence[str], content: Any, marks: dict[str, str]) -> Any:
    """Content with marks for special-token lookalikes: no message can end itself.

    `marks` (token to mark) is filled with one for each token that occurs.
    """
    if isinstance(content, Mapping):
        return {_marked(special, name, marks): _marked(special, value, marks) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_marked(special, value, marks) for value in content]
    if not isinstance(content, str):
        return content
    for token in special:
        if token in content:
            content = content.replace(token, marks.setdefault(token, f"\ue000{secrets.token_hex(8)}\ue001"))
    return content


def file_text(tokenizer: Tokenizer) -> str | None:
    """The tokenizer as the text of a tokenizer.json; None if it has no such form."""
    backend: Any = copy(tokenizer._backend)
    if backend is None:
        return None
    backend.no_padding()
    backend.no_truncation()
    text: str = backend.to_str()
    return text


def _with_end(messages: Sequence[Message], blank: str = "") -> tuple[str, list[Message]]:
    """A unique marker text, and the messages with it appended."""
    end = f"\ue002{secrets.token_hex(8)}\ue003{blank}"
    return end, [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + end}]


def load_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a model folder; None if it holds none.

    Raises `ModelError` if the tokenizer is broken.
    """
    found = read_tokenizer(folder)
    return None if found is None else Tokenizer(found, end_of_text_ids(folder, found.eos_token_id))


def _valid(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what = "no valid Unicode (a byte that is not UTF-8, or half a surrogate pair)"
        raise RequestError(f"character {error.start} of the text is {what}: give UTF-8 text") from None
    return text
