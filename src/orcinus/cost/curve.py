"""Measured times of linear layers, from papers."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from orcinus.cost.software import Software, find_software, known_software
from orcinus.errors import ConfigError

TILE = 128  # tokens in a tile of a matrix multiplication (SARATHI, section 4.4)


@dataclass(frozen=True, slots=True)
class MeasuredCurve:
    """Seconds of an iteration's linear layers, as a function of its tokens.

    Between two points the curve is a straight line; a step between tiles stays a step if both sides were measured. Beyond the
    last point every tile adds the average of the upper half of the measured whole tiles, and inside a tile the curve repeats
    the last measured whole one. Raises `ConfigError` for points out of order, for a time that is not positive, and for a curve
    without two whole tiles.
    """

    tokens: tuple[int, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(before < after for before, after in zip(self.tokens, self.tokens[1:], strict=False))
        if len(self.tokens) != len(self.seconds) or not rising or min(self.seconds, default=0.0) <= 0:
            raise ConfigError("a curve needs growing numbers of tokens, and as many times above 0 seconds")
        if self.tokens[-1] < 2 * TILE:
            raise ConfigError(f"a curve must reach {2 * TILE} tokens, for tiles to be seen in it, not {self.tokens[-1]}")

    def __call__(self, tokens: int) -> float:
        """Seconds of an iteration with this many tokens."""
        last = self.tokens[-1]
        if tokens <= last:
            return self._between(tokens)
        tiles = last // TILE
        further = -(-(tokens - tiles * TILE) // TILE)
        return self._between(tokens - further * TILE) + further * self._tile_seconds(tiles)

    def _tile_seconds(self, tiles: int) -> float:
        half = tiles // 2
        return (self._between(tiles * TILE) - self._between(half * TILE)) / (tiles - half)

    def _between(self, tokens: int) -> float:
        after = bisect_left(self.tokens, tokens)
        if after == 0:  # fewer tokens than measured take as long: all weights are read
            return self.seconds[0]
        (x0, x1), (y0, y1) = self.tokens[after - 1 : after + 1], self.seconds[after - 1 : after + 1]
        return y0 + (y1 - y0) * (tokens - x0) / (x1 - x0)


def find_linears(software: str, model: str, device: str, tp: int) -> MeasuredCurve | None:
    """The measured curve of this model under this software; None without one.

    If an efficiency of linear layers is changed, the formula is used instead, because the efficiency belongs to it. Raises
    `ConfigError` for an unknown name.
    """
    fitted = known_software().get(software.partition(":")[0], {})
    asked = find_software(software)
    for each in fitted.get("linears", ()):
        if (each["model"], each["device"], each["tp"]) == (model, device, tp):
            base = Software(**fitted["constants"])
            same = (asked.matmul, asked.streaming) == (base.matmul, base.streaming)
            return MeasuredCurve(tuple(each["tokens"]), tuple(each["seconds"])) if same else None
    return None
