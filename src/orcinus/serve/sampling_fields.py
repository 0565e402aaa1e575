"""From the fields of a body to sampling parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orcinus.core.sampling_params import DEFAULT_MAX_TOKENS, DefaultLength, SamplingParams
from orcinus.errors import RequestError, shown
from orcinus.serve.errors import invalid
from orcinus.serve.schema import ChatBody, Sampling
from orcinus.serve.validation import enumerated

DIRECT = (
    *("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed"),
    *("ignore_eos", "include_stop_str_in_output", "skip_special_tokens"),
)
CHAT_MAX_TOKENS, COMPLETION_MAX_TOKENS = 4096, 16  # without max_tokens, within the context; the second is OpenAI's default


def sampling_params(
    body: Sampling, defaults: SamplingParams, vocab_size: int, max_tokens: int | None, logprobs: int | None
) -> SamplingParams:
    """The sampling parameters of a body.

    The model's own, `defaults`, apply where it sets none. Raises `ApiError`.
    """
    found: dict[str, Any] = {name: getattr(body, name) for name in DIRECT if getattr(body, name) is not None}
    if body.temperature is not None:
        found["temperature"] = float(body.temperature)
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if body.min_tokens and (max_tokens is None or body.min_tokens > max_tokens):
        raise invalid("min_tokens", "min_tokens needs a max_tokens that is at least as large")
    for name in ("stop_token_ids", "allowed_token_ids"):
        ids = getattr(body, name) or ()
        if len(ids) > vocab_size:
            raise invalid(name, f"{name}: {len(ids)} ids are more than this model has, which are {vocab_size}")
        check_ids(ids, name, vocab_size)
    found |= {"stop": tuple(stops), "stop_token_ids": tuple(body.stop_token_ids or ()), "n": body.n or 1}
    found |= {"max_tokens": max_tokens or _default_length(body, defaults), "min_tokens": body.min_tokens or 0}
    found |= {"logprobs": logprobs, "prompt_logprobs": body.prompt_logprobs}
    found |= {"allowed_token_ids": body.allowed_token_ids, "bad_words": tuple(body.bad_words or ())}
    found["logit_bias"] = _bias(body, vocab_size)
    try:
        return replace(defaults, **found)
    except RequestError as error:
        raise invalid(error.field, str(error)) from None


def _default_length(body: Sampling, defaults: SamplingParams) -> DefaultLength:
    """The default `max_tokens`: generation_config.json's, else the API's."""
    own = defaults.max_tokens
    if isinstance(own, DefaultLength) and own is not DEFAULT_MAX_TOKENS:
        return own
    return DefaultLength(CHAT_MAX_TOKENS if isinstance(body, ChatBody) else COMPLETION_MAX_TOKENS)


def _bias(body: Sampling, vocab_size: int) -> dict[int, float]:
    given = body.logit_bias or {}
    _refuse_ids({f"logit_bias.{key}": int(key) for key in given}, vocab_size)
    return {int(key): max(-100.0, min(100.0, float(value))) for key, value in given.items()}


def check_ids(ids: Sequence[int], where: str, vocab_size: int) -> None:
    """Refuse ids outside a vocabulary. Raises `ApiError`."""
    if ids and max(ids) >= vocab_size:
        _refuse_ids({f"{where}[{index}]": token for index, token in enumerate(ids)}, vocab_size)


def _refuse_ids(ids: Mapping[str, int], vocab_size: int) -> None:
    wrong = {where: token for where, token in ids.items() if token >= vocab_size}
    if wrong:
        named = enumerated([f"{where}: {shown(token)}" for where, token in wrong.items()])
        message = f"{named}: no token id of this model, which has 0 to {vocab_size - 1}"
        raise invalid(next(iter(wrong)), message)
