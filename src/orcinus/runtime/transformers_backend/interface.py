"""Our attention as transformers calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from orcinus.runtime.attention.port import Attention, Heads
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.pack import PackedBatch

NAME = "orcinus"  # in transformers' tables of attention functions and of masks
ARGUMENT = "orcinus_call"  # the keyword argument of a forward pass that reaches attention


@dataclass(frozen=True, slots=True)
class Mask:
    """In place of a mask `[T, T]`: the function of (batch, head, query, key) that would make it."""

    function: Callable[..., Any]
    custom: bool  # whether the model added conditions of its own


class AttentionCall(Protocol):
    """What a forward pass does where a layer attends."""

    def __call__(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, options: dict[str, Any]
    ) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class PagedAttention:
    """The attention of one batch, over the K/V memory of every layer."""

    attend: Attention
    batch: PackedBatch
    kv: Sequence[LayerKV]
    heads: Sequence[Heads]  # of every layer

    def __call__(self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, options: dict[str, Any]) -> Tensor:
        """Attention `[1, T, num_heads, head_dim]` of one layer.

        `query` is `[1, num_heads, T, head_dim]` and rotated already; so is the key.
        """
        heads = self.heads[module.layer_idx]
        rows = [each[0].transpose(0, 1) for each in (query, key, value)]
        qkv = torch.cat(rows, dim=1).flatten(1)
        kv = self.kv[module.layer_idx]
        out = self.attend(qkv, None, kv, self.batch, heads)
        return out.view(1, len(out), heads.num_heads, heads.head_dim).to(query.dtype)


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, None]:
    call: AttentionCall = options.pop(ARGUMENT)
    return call(module, query, key, value, attention_mask, options), None


def _mask(*, mask_function: Callable[..., Any], use_vmap: bool = False, **sizes: Any) -> Mask:
    del sizes
    return Mask(mask_function, use_vmap)


@cache
def register() -> None:
    """Enter our attention into transformers' tables."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _mask)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' warnings and progress bars: we report what is wrong ourselves."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
