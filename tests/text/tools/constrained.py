"""Random answers under a grammar, as a model without any sense would write them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import lru_cache

from llguidance import LLMatcher, LLTokenizer

from orcinus.text.tools.tool_call import TokenId
from orcinus.tiny import MODEL_DIR

END = 2  # <|im_end|>
BRIEF = ('"', "}", "]", "<", "\n", ")", ",")  # with these, strings, objects and blocks come to an end
MOST = 400  # tokens


@lru_cache
def vocabulary(marks: tuple[str, ...] = ()) -> tuple[LLTokenizer, dict[str, int]]:
    """The bundled tokenizer with marks as special tokens, and their ids."""
    spec = json.loads((MODEL_DIR / "tokenizer.json").read_text(encoding="utf-8"))
    first = len(spec["model"]["vocab"])
    ids = {mark: first + place for place, mark in enumerate(marks)}
    spec["added_tokens"] += [{**spec["added_tokens"][0], "id": number, "content": mark} for mark, number in ids.items()]
    return LLTokenizer(json.dumps(spec), eos_token=END), ids


def token_id(marks: Sequence[str]) -> TokenId:
    """Ids of marks that are special tokens."""
    return vocabulary(tuple(marks))[1].get


def walk(grammar: str, seed: int, marks: tuple[str, ...] = (), begin: str = "") -> str | None:
    """A random answer; None if it does not end."""
    tokenizer, _ = vocabulary(marks)
    chance, matcher, ids = random.Random(seed), _matcher(grammar, tokenizer), tokenizer.tokenize_str(begin)
    assert matcher.try_consume_tokens(ids) == len(ids)
    while len(ids) < MOST:
        allowed = [token for token, bias in enumerate(matcher.compute_logit_bias()) if bias]
        if END in allowed and (len(allowed) == 1 or chance.random() < 0.5):
            return _text(tokenizer, ids)
        allowed = [token for token in allowed if token != END]
        brief = [token for token in allowed if tokenizer.decode_str([token]).startswith(BRIEF)]
        ids.append(chance.choice(brief if brief and chance.random() < 0.4 else allowed))
        assert matcher.consume_token(ids[-1]), matcher.get_error()
    return None


def accepts(grammar: str, *parts: str | int, marks: tuple[str, ...] = ()) -> bool:
    """Whether a text, with special tokens as numbers, is a whole answer."""
    tokenizer, _ = vocabulary(marks)
    ids = [token for part in parts for token in ([part] if isinstance(part, int) else tokenizer.tokenize_str(part))]
    matcher = _matcher(grammar, tokenizer)
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


def _matcher(grammar: str, tokenizer: LLTokenizer) -> LLMatcher:
    matcher = LLMatcher(tokenizer, grammar)
    assert not matcher.is_error(), matcher.get_error()
    return matcher


def _text(tokenizer: LLTokenizer, ids: list[int]) -> str:
    return tokenizer.decode_bytes(ids).decode(errors="replace")
