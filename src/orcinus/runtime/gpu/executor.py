"""A GPU's executor: our kernels, captured graphs, and overlapping batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from orcinus.core.view import Limits
from orcinus.runtime.executor import Eager, TorchExecutor
from orcinus.runtime.gpu.choose import KernelChooser
from orcinus.runtime.gpu.graphs import CudaCapture, Graphed
from orcinus.runtime.gpu.warm_up import batches
from orcinus.runtime.input_batch import Inputs
from orcinus.runtime.kernels.follow import follow
from orcinus.runtime.kernels.launch_configs import ShapeClass
from orcinus.runtime.kernels.tune import tune_unknown
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.models import Decoder, DecoderSpec
from orcinus.runtime.transfers import Link


def gpu_executor(model: Decoder, kv: Sequence[LayerKV], link: Link, limits: Limits, *, graphs: bool) -> TorchExecutor:
    """A warmed-up executor that launches ahead.

    With `graphs` it captures batches of up to `limits`; else all run eagerly.
    """
    eager = Eager(model, kv, Inputs(link, kv[0].keys.shape[2], follow))
    chooser = KernelChooser(link)
    executor = TorchExecutor(model, kv, link, run=eager, choose=chooser, overlap=True)
    executor.warm_up(batches(limits, eager.inputs.packer.block_size))
    with link.on():
        chooser.warm_up(model.spec.vocab_size, kv[0].keys.dtype)
        if graphs:
            capture = CudaCapture(link.device)
            executor.run = graphed = Graphed(eager, limits, capture)
            graphed.capture(capture.free)
    return executor


def tune_attention(spec: DecoderSpec, dtype: torch.dtype, link: Link) -> None:
    """Tune attention for a model, unless the result is remembered."""
    group = spec.num_heads // spec.num_kv_heads
    with link.on():
        tune_unknown([ShapeClass(spec.head_dim, group, dtype, decode) for decode in (True, False)], link.device)
