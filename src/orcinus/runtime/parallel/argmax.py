"""The likeliest tokens of a vocabulary that is split over ranks, without gathering its logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orcinus.core.request import Failure
from orcinus.runtime.linear_weight import share
from orcinus.runtime.models import Decoder
from orcinus.runtime.sampling import NOT_FINITE, Sampled
from orcinus.runtime.transfers import Link


@dataclass(frozen=True, slots=True)
class Argmax:
    """A `Choice`: the likeliest tokens, and whether their rows are finite."""

    tokens: Tensor  # [S] int64 on the device
    host_tokens: Tensor  # [S] the same, on its way to the host
    host_sums: Tensor  # [S] float32: sums of the logits, which tell damaged rows

    def read(self) -> Sampled:
        finite = torch.isfinite(self.host_sums).tolist()
        errors: dict[int, Failure] = {row: NOT_FINITE for row, fine in enumerate(finite) if not fine}
        return Sampled(self.host_tokens.tolist(), {}, errors)


def gathered_argmax(model: Decoder, hidden: Tensor, link: Link) -> Argmax:
    """The likeliest token of every row of `hidden` `[n, hidden_size]`; of equal ones the lowest id, as on one device.

    The ranks exchange three numbers a row: their largest logit, its token (exact in float32: vocabularies have at most 2^24
    tokens) and the sum of their logits, which neither NaN nor infinities survive.
    """
    tp, local = model.place.mesh.tp, model.local_logits(hidden).float()
    peaks, places = local.max(dim=-1)
    tokens = places + share(model.spec.vocab_size, model.place.tensor, tp).start
    found = torch.stack((peaks, tokens.float(), local.sum(dim=-1)), dim=1)
    of_ranks = model.collectives.all_gather(found, [found.shape[1]] * tp).view(len(found), tp, found.shape[1])
    best = of_ranks[:, :, 0].argmax(dim=1, keepdim=True)  # the first of equal ones, whose ids are lower
    chosen = of_ranks[:, :, 1].gather(1, best)[:, 0].long()
    return Argmax(chosen, link.down(chosen), link.down(of_ranks[:, :, 2].sum(dim=1)))
