"""The layout in which plain weights are multiplied fastest on a device."""

from __future__ import annotations

import torch

from orcinus.runtime.onednn_weights import OneDNNWeight, can_prepack
from orcinus.runtime.panel_weights import PanelWeight, can_use_panels


def layout_name(device: str, dtype: torch.dtype) -> str:
    """The layout in which weights of a dtype are served, in words."""
    return {None: "plain", PanelWeight: "in panels", OneDNNWeight: "in oneDNN's layout"}[packed_format(device, dtype)]


def packed_format(device: str, dtype: torch.dtype) -> type[PanelWeight] | type[OneDNNWeight] | None:
    """The format that weights of a dtype are packed into once they are loaded; None: they stay as they are."""
    if can_use_panels(device, dtype):
        return PanelWeight
    return OneDNNWeight if can_prepack(device, dtype) else None
