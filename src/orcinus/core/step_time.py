"""A model of iteration time, learnt online, without profiling."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import nlargest

from orcinus.core.batch import Batch

MEMORY = 0.99  # weight relative to the next iteration of its kind: about the last hundred count
RIDGE = 1e-3  # keeps coefficients small that no iteration so far determines
WINDOW = 256  # iterations over which errors are measured
RECENT = 128  # iterations that show the machine's present speed
LATE = 0.007  # share of iterations that may exceed prediction + margin: 1 %, less a reserve
SCALES = (1.0, 1e2, 1e5, 1e1)  # brings constant, tokens, pairs and requests to like sizes


class StepTime:
    """A linear model of iteration time, fitted by weighted least squares.

    Seconds = a + b tokens + c pairs + d requests, where older iterations count less. Tokens stand for the linear layers,
    query-key pairs for attention, and requests for the other costs per sequence. Iterations with and without prompts fade
    separately: during a minute of decodes alone tokens and requests are the same number, and that must not erase what is known
    about prompts. The model is trusted only near the sizes it has seen: see `trusted_tokens`.
    """

    def __init__(self) -> None:
        self._num_steps = 0
        self._most_tokens = 0
        self._unlearnt: deque[tuple[Batch, float]] = deque(maxlen=WINDOW)  # learnt from when a prediction is needed
        self._seen = {True: _Moments(), False: _Moments()}  # iterations with and without prompts
        self._weights: tuple[float, ...] | None = None
        self._errors: deque[float] = deque(maxlen=WINDOW)  # relative error of each prediction
        self._late: deque[float | None] = deque(maxlen=WINDOW)  # seconds beyond the prediction; None: no prompt
        self._recent: deque[float] = deque(maxlen=RECENT)  # seconds measured
        self._margin: float | None = 0.0  # None: iterations were judged since it was found

    @property
    def num_steps(self) -> int:
        """Number of iterations learnt from."""
        self._catch_up()
        return self._num_steps

    @property
    def most_tokens(self) -> int:
        """The most tokens in any of these iterations."""
        self._catch_up()
        return self._most_tokens

    @property
    def coefficients(self) -> tuple[float, float, float, float]:
        """Seconds per iteration, token, pair and request; none is negative."""
        self._catch_up()
        return self._coefficients()

    def _coefficients(self) -> tuple[float, float, float, float]:
        if self._weights is None:
            one, two = self._seen.values()
            matrix = [[x + y for x, y in zip(p, q, strict=True)] for p, q in zip(one.matrix, two.matrix, strict=True)]
            solved = _solve_nonnegative(matrix, [x + y for x, y in zip(one.vector, two.vector, strict=True)])
            self._weights = tuple(value / scale for value, scale in zip(solved, SCALES, strict=True))
        a, b, c, d = self._weights
        return a, b, c, d

    @property
    def error(self) -> float:
        """Median relative error of the last predictions.

        Each was made before its iteration was measured.
        """
        self._catch_up()
        errors = sorted(self._errors)
        return errors[len(errors) // 2] if errors else 0.0

    @property
    def margin(self) -> float:
        """Seconds to add to a prediction; 1 % of iterations take longer.

        Only iterations with prompts are planned up to a deadline, so only they can be late. The fewer they are, the larger the
        share of them that may be late. Every iteration ages the late ones, with or without prompts: otherwise an engine that
        admits no prompt after a disturbance would never forget it.
        """
        self._catch_up()
        if self._margin is None:
            late = [seconds for seconds in self._late if seconds is not None]
            allowed = min(int(len(self._late) * LATE), len(late) // 2)
            self._margin = max(0.0, nlargest(allowed + 1, late)[allowed]) if late else 0.0
        return self._margin

    @property
    def measured(self) -> float:
        """99th percentile of the last iterations, in seconds; 0 before the first."""
        self._catch_up()
        return nlargest(1 + len(self._recent) // 100, self._recent)[-1] if self._recent else 0.0

    @property
    def trusted_tokens(self) -> int:
        """The most tokens worth predicting for: twice the largest iteration seen.

        So a cold engine grows its iterations step by step.
        """
        return 2 * self.most_tokens

    def predict(self, tokens: int, pairs: int, requests: int) -> float:
        """Expected seconds of an iteration."""
        self._catch_up()
        return self._predict(tokens, pairs, requests)

    def _predict(self, tokens: int, pairs: int, requests: int) -> float:
        a, b, c, d = self._coefficients()
        return a + b * tokens + c * pairs + d * requests

    def learn(self, batch: Batch, seconds: float) -> None:
        """Learn from a measured iteration.

        One that took more than three times the prediction counts as three times. Iterations are queued until a prediction is
        needed; the queue keeps the last few hundred.
        """
        self._unlearnt.append((batch, seconds))

    def _catch_up(self) -> None:
        while self._unlearnt:
            self._learn(*self._unlearnt.popleft())
            if not self._unlearnt or self._num_steps < WINDOW:  # iterations that come together are predicted together
                self._weights = None

    def _learn(self, batch: Batch, seconds: float) -> None:
        tokens, pairs, requests = batch.num_tokens, batch.num_pairs, len(batch.chunks)
        prompts = tokens > requests
        self._recent.append(seconds)
        if self._num_steps:
            expected = self._predict(tokens, pairs, requests)
            self._judge(seconds, expected, prompts)
            if self._num_steps > 20:  # most likely other programs kept the machine busy
                seconds = min(seconds, 3 * expected)
        row = [value / scale for value, scale in zip((1.0, tokens, pairs, requests), SCALES, strict=True)]
        self._seen[prompts].add(row, seconds)
        self._num_steps += 1
        self._most_tokens = max(self._most_tokens, tokens)

    def _judge(self, seconds: float, expected: float, prompts: bool) -> None:
        """Record the error of a prediction."""
        self._errors.append(abs(seconds - expected) / max(expected, 1e-9))
        self._late.append(seconds - expected if prompts else None)
        self._margin = None


class _Moments:
    """Moments for least squares over one kind of iteration.

    Older iterations fade as new ones of the kind are added.
    """

    def __init__(self) -> None:
        self.matrix = [[RIDGE / 2 if i == j else 0.0 for j in range(4)] for i in range(4)]
        self.vector = [0.0] * 4

    def add(self, row: Sequence[float], value: float) -> None:
        for i in range(4):
            self.vector[i] = MEMORY * self.vector[i] + row[i] * value
            for j in range(4):
                self.matrix[i][j] = MEMORY * self.matrix[i][j] + row[i] * row[j]
            self.matrix[i][i] += (1 - MEMORY) * RIDGE / 2


def _solve_nonnegative(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    """Least squares without negative coefficients.

    The most negative coefficient is removed until none is left.
    """
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
    """Solve a small positive definite system by elimination."""
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
