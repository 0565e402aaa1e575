"""A planned model on the ranks of a mesh."""

from __future__ import annotations

import os
from dataclasses import replace

import msgspec

from orcinus.config import Resolved
from orcinus.runtime.checkpoint import Checkpoint
from orcinus.runtime.linear_weight import PLAIN_LAYERS
from orcinus.runtime.parallel.executor import ParallelExecutor, Progress, start_mesh, time_limit
from orcinus.runtime.parallel.launch import Launcher
from orcinus.runtime.parallel.mesh import Mesh
from orcinus.runtime.parallel.rank_config import RankConfig, RankModel
from orcinus.runtime.parallel.sockets import EngineSockets


def start_ranks(
    resolved: Resolved,
    checkpoint: Checkpoint,
    mesh: Mesh,
    launcher: Launcher,
    *,
    dummy: bool,
    merge_lora: bool,
    step_timeout: float,
    progress: Progress,
) -> ParallelExecutor:
    """Load the model's parts in one process a rank. Raises `ConfigError` if one cannot start, and then none is left."""
    kind = resolved.device.partition(":")[0]
    model = RankModel(
        folder=os.path.abspath(checkpoint.folder),
        architecture=checkpoint.architecture,
        spec=checkpoint.spec,
        dummy=dummy,
        device=kind,
        dtype=resolved.dtype,
        keeps=checkpoint.formats != PLAIN_LAYERS,
        quantization=resolved.quantization,
        adapters=resolved.adapters,
        merge_lora=merge_lora,
        kv_cache_dtype=resolved.kv_cache_dtype,
        attention=resolved.attention,
        cuda_graphs=resolved.cuda_graphs,
        limits=resolved.limits,
        block_size=resolved.block_size,
        num_blocks=resolved.num_blocks,
    )

    def tell(rank: int, sockets: EngineSockets) -> RankConfig:
        return RankConfig(
            rank=rank,
            mesh=mesh,
            addresses=sockets.addresses,
            rendezvous=launcher.rendezvous(sockets.folder.rendezvous),
            timeout_s=time_limit(step_timeout, resolved.limits.max_batch_tokens),
            threads=launcher.threads(mesh),
            load=msgspec.to_builtins(replace(model, device=launcher.device(kind, rank))),
        )

    return start_mesh(mesh, launcher, tell, step_timeout=step_timeout, progress=progress)
