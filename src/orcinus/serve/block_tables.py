"""Which request holds which K/V blocks."""

from __future__ import annotations

from orcinus.core.batch import in_turn
from orcinus.serve.messages import EngineOutput
from orcinus.serve.replica_set import ReplicaSet


class BlockTables:
    """The blocks of all live requests, and how many of their tokens are in them.

    Learnt from the batches of the replicas. A block that stands in several tables of a replica is a shared prefix.
    """

    def __init__(self, replicas: ReplicaSet) -> None:
        self.blocks: dict[str, list[int]] = {}
        self.computed: dict[str, int] = {}  # tokens whose keys and values are in the blocks
        self.groups = 1  # of layers: a request's blocks alternate between them
        replicas.listeners.append(lambda _, iteration: self._on_iteration(iteration))
        replicas.death_listeners.append(lambda death: self._forget(*death.requests))

    def filled(self, name: str, block_size: int) -> int:
        """How many of a request's blocks hold keys and values; the others are reserved."""
        places = -(-self.computed.get(name, 0) // block_size) if block_size else 0
        return min(places * self.groups, len(self.blocks.get(name, ())))

    def _on_iteration(self, iteration: EngineOutput) -> None:
        """Blocks are taken and left."""
        for batch in iteration.batches:
            self._forget(*batch.removed)
            for chunk in batch.chunks:
                if chunk.new_blocks:
                    self.groups = len(chunk.new_blocks)
                    self.blocks.setdefault(chunk.id, []).extend(in_turn(chunk.new_blocks))
                self.computed[chunk.id] = chunk.start + chunk.tokens
        self._forget(*(ending.finished.request_id for ending in iteration.endings))

    def _forget(self, *names: str) -> None:
        for name in names:
            self.blocks.pop(name, None)
            self.computed.pop(name, None)
