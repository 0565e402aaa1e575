"""How long an iteration takes: a small model that learns from the iterations themselves, so that no profiling is needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from orcinus.core.batch import Batch

MEMORY = 0.99  # weight of an iteration relative to the next one: about the last hundred count
RIDGE = 1e-3  # keeps coefficients small that the iterations so far say nothing about
WINDOW = 256  # iterations over which the error is measured
SCALES = (1.0, 1e2, 1e5, 1e1)  # brings constant, tokens, pairs and requests to like sizes


class StepTime:
    """Seconds = a + b tokens + c pairs + d requests, fitted by least squares that forgets slowly.

    Tokens stand for the linear layers, pairs of tokens for attention, requests for what every sequence costs besides. The
    model is trusted only near what it has seen: see `trusted_tokens`.
    """

    def __init__(self) -> None:
        self.num_steps = 0
        self.most_tokens = 0
        self._moments = [[RIDGE if i == j else 0.0 for j in range(4)] for i in range(4)]
        self._targets = [0.0] * 4
        self._weights: tuple[float, ...] | None = None
        self._ratios: deque[float] = deque(maxlen=WINDOW)  # measured / predicted
        self._margin = 1.0

    @property
    def coefficients(self) -> tuple[float, float, float, float]:
        """Seconds per iteration, per token, per pair and per request; none is negative."""
        if self._weights is None:
            solved = _solve_nonnegative(self._moments, self._targets)
            self._weights = tuple(value / scale for value, scale in zip(solved, SCALES, strict=True))
        a, b, c, d = self._weights
        return a, b, c, d

    @property
    def error(self) -> float:
        """Median relative error of the predictions of the last iterations, each made before it was measured."""
        errors = sorted(abs(ratio - 1) for ratio in self._ratios)
        return errors[len(errors) // 2] if errors else 0.0

    @property
    def margin(self) -> float:
        """By what factor iterations exceed their prediction at worst, but for one in a hundred; at least 1."""
        return self._margin

    @property
    def trusted_tokens(self) -> int:
        """The most tokens worth predicting for: twice of what was seen, so that a cold engine feels its way up."""
        return 2 * self.most_tokens

    def predict(self, tokens: int, pairs: int, requests: int) -> float:
        """Expected seconds of an iteration."""
        a, b, c, d = self.coefficients
        return a + b * tokens + c * pairs + d * requests

    def learn(self, batch: Batch, seconds: float) -> None:
        """Take an iteration into account. One that took three times as long as all expectation counts as that."""
        tokens, pairs, requests = batch.num_tokens, batch.num_pairs, len(batch.chunks)
        if self.num_steps:
            expected = self.predict(tokens, pairs, requests)
            if expected > 0:
                self._ratios.append(seconds / expected)
                self._margin = max(1.0, sorted(self._ratios)[-1 - len(self._ratios) // 100])
            if self.num_steps > 20:  # somebody else's work on the machine says nothing about ours
                seconds = min(seconds, 3 * expected)
        row = [value / scale for value, scale in zip((1.0, tokens, pairs, requests), SCALES, strict=True)]
        for i in range(4):
            self._targets[i] = MEMORY * self._targets[i] + row[i] * seconds
            for j in range(4):
                self._moments[i][j] = MEMORY * self._moments[i][j] + row[i] * row[j]
        for i in range(4):
            self._moments[i][i] += (1 - MEMORY) * RIDGE
        self._weights = None
        self.num_steps += 1
        self.most_tokens = max(self.most_tokens, tokens)


def _solve_nonnegative(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    """Least squares without negative coefficients: whatever would become negative is left out, the worst first."""
    kept = list(range(len(vector)))
    while True:
        found = _solve([[matrix[i][j] for j in kept] for i in kept], [vector[i] for i in kept])
        worst = min(range(len(kept)), key=found.__getitem__, default=None)
        if worst is None or found[worst] >= 0:
            break
        del kept[worst]
    solution = [0.0] * len(vector)
    for i, value in zip(kept, found, strict=True):
        solution[i] = value
    return solution


def _solve(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    """The solution of a small positive definite system, by elimination."""
    n = len(vector)
    rows = [[*matrix[i], vector[i]] for i in range(n)]
    for i in range(n):
        for j in range(i + 1, n):
            factor = rows[j][i] / rows[i][i]
            for k in range(i, n + 1):
                rows[j][k] -= factor * rows[i][k]
    solution = [0.0] * n
    for i in reversed(range(n)):
        solution[i] = (rows[i][n] - sum(rows[i][j] * solution[j] for j in range(i + 1, n))) / rows[i][i]
    return solution
