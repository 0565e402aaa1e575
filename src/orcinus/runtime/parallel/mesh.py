"""Which rank holds what: stages of layers, and tensor ranks inside a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orcinus.errors import ConfigError

MOST_RANKS = 64


@dataclass(frozen=True, slots=True)
class Mesh:
    """`tp` tensor ranks in each of `pp` stages; rank = stage · tp + tensor rank. Raises `ConfigError`."""

    tp: int = 1
    pp: int = 1

    def __post_init__(self) -> None:
        for name, size in (("tp", self.tp), ("pp", self.pp)):
            if size < 1:
                raise ConfigError(f"{name} must be at least 1, not {size}")
        if self.size > MOST_RANKS:
            raise ConfigError(f"tp {self.tp} × pp {self.pp} are {self.size} ranks: at most {MOST_RANKS} are supported")

    @property
    def size(self) -> int:
        """Ranks in all."""
        return self.tp * self.pp

    @property
    def speaker(self) -> int:
        """The rank that reports results: the first tensor rank of the last stage."""
        return (self.pp - 1) * self.tp

    def at(self, rank: int) -> MeshPlace:
        """A rank's place."""
        stage, tensor = divmod(rank, self.tp)
        return MeshPlace(self, stage, tensor)


@dataclass(frozen=True, slots=True)
class MeshPlace:
    """One rank's stage and tensor rank."""

    mesh: Mesh
    stage: int
    tensor: int

    @property
    def rank(self) -> int:
        return self.stage * self.mesh.tp + self.tensor

    @property
    def first(self) -> bool:
        """Whether it is of the first stage: it embeds tokens."""
        return self.stage == 0

    @property
    def last(self) -> bool:
        """Whether it is of the last stage: it has the head, and draws tokens."""
        return self.stage == self.mesh.pp - 1


class RankProcess(NamedTuple):
    """Where a rank runs, and which layers it holds a part of: the first, and the one after the last."""

    rank: int
    stage: int
    layers: tuple[int, int]
    process: int
    host: str


WHOLE = Mesh().at(0)  # one device that holds everything


def split_layers(costs: Sequence[float], first: float, last: float, stages: int) -> list[range]:
    """Share out layers to stages so that the slowest stage is as fast as can be.

    `costs` are seconds (or any unit) of each layer; `first` and `last` are those of the embedding and of the head.
    Raises `ConfigError` if there are fewer layers than stages.
    """
    count = len(costs)
    if count < stages:
        raise ConfigError(f"{count} layers cannot be shared out to {stages} stages: pp must be at most {count}")
    sums = [0.0]
    for cost in costs:
        sums.append(sums[-1] + cost)

    def spent(begin: int, end: int) -> float:
        return sums[end] - sums[begin] + (first if begin == 0 else 0.0) + (last if end == count else 0.0)

    # best[end]: the slowest of the stages so far, and where each of them begins, if they hold the layers before `end`
    best: dict[int, tuple[float, tuple[int, ...]]] = {end: (spent(0, end), (0,)) for end in range(1, count + 1)}
    for stage in range(1, stages):
        best = {
            end: min((max(best[begin][0], spent(begin, end)), (*best[begin][1], begin)) for begin in range(stage, end))
            for end in range(stage + 1, count + 1)
        }
    begins = best[count][1]
    return [range(begin, end) for begin, end in zip(begins, [*begins[1:], count], strict=True)]
