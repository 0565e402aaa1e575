"""The head of transformers' model apart from its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class States:
    """The output of a model's layers as its head reads it: hidden states, and None for all else."""

    last_hidden_state: Tensor

    def __getitem__(self, place: Any) -> Any:
        return (self.last_hidden_state,)[place]

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class GivenStates(nn.Module):
    """In place of a model's layers: it returns the hidden states that it is given as embeddings.

    So the head runs as transformers wrote it, with its scales and soft caps, for the rows that need logits alone.
    """

    def forward(self, *unused: Any, inputs_embeds: Tensor, **options: Any) -> States:
        del unused, options
        return States(inputs_embeds)


def head_of(model: Any, hidden: Tensor) -> Tensor:
    """Logits `[n, vocab_size]` of hidden states `[n, hidden_size]`, by a model with `GivenStates`."""
    logits: Tensor = model(inputs_embeds=hidden[None], use_cache=False).logits
    return logits[0]
