"""How long an iteration takes: a small model that learns from the iterations themselves, so that no profiling is needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import nlargest

from orcinus.core.batch import Batch

MEMORY = 0.99  # weight of an iteration relative to the next one of its kind: about the last hundred of each count
RIDGE = 1e-3  # keeps coefficients small that the iterations so far say nothing about
WINDOW = 256  # iterations over which errors are measured
RECENT = 128  # iterations that say what the machine does now
LATE = 0.007  # share of all iterations that may take longer than predicted and allowed for: one in a hundred, with room
SCALES = (1.0, 1e2, 1e5, 1e1)  # brings constant, tokens, pairs and requests to like sizes


class StepTime:
    """Seconds = a + b tokens + c pairs + d requests, fitted by least squares that forgets slowly.

    Tokens stand for the linear layers, pairs of tokens for attention, requests for what every sequence costs besides.
    Iterations with and without prompts fade apart from each other: a minute of decodes alone, in which tokens and requests
    are the same number, must not wash out what is known about prompts. The model is trusted only near what it has seen:
    see `trusted_tokens`.
    """

    def __init__(self) -> None:
        self._num_steps = 0
        self._most_tokens = 0
        self._unlearnt: deque[tuple[Batch, float]] = deque(maxlen=WINDOW)  # learning waits until somebody wants to know
        self._seen = {True: _Moments(), False: _Moments()}  # iterations with and without prompts
        self._weights: tuple[float, ...] | None = None
        self._errors: deque[float] = deque(maxlen=WINDOW)  # relative, of each prediction
        self._late: deque[float | None] = deque(maxlen=WINDOW)  # seconds beyond it; None: the iteration read no prompt
        self._recent: deque[float] = deque(maxlen=RECENT)  # seconds measured
        self._margin = 0.0

    @property
    def num_steps(self) -> int:
        """Iterations learnt from."""
        self._catch_up()
        return self._num_steps

    @property
    def most_tokens(self) -> int:
        """The most tokens in one of them."""
        self._catch_up()
        return self._most_tokens

    @property
    def coefficients(self) -> tuple[float, float, float, float]:
        """Seconds per iteration, per token, per pair and per request; none is negative."""
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
        """Median relative error of the predictions of the last iterations, each made before it was measured."""
        self._catch_up()
        errors = sorted(self._errors)
        return errors[len(errors) // 2] if errors else 0.0

    @property
    def margin(self) -> float:
        """Seconds to allow for on top of a prediction, so that one iteration in a hundred takes longer.

        Only iterations that read prompts are made as long as a deadline allows, so only they can be late, and the rarer
        they are, the more of them may be. Lateness is forgotten as iterations pass, whether they read prompts or not:
        otherwise a disturbance after which no prompt is admitted would never be over.
        """
        self._catch_up()
        return self._margin

    @property
    def measured(self) -> float:
        """Seconds that all but one in a hundred of the last iterations took at most; 0 before the first."""
        self._catch_up()
        return nlargest(1 + len(self._recent) // 100, self._recent)[-1] if self._recent else 0.0

    @property
    def trusted_tokens(self) -> int:
        """The most tokens worth predicting for: twice of what was seen, so that a cold engine feels its way up."""
        return 2 * self.most_tokens

    def predict(self, tokens: int, pairs: int, requests: int) -> float:
        """Expected seconds of an iteration."""
        self._catch_up()
        return self._predict(tokens, pairs, requests)

    def _predict(self, tokens: int, pairs: int, requests: int) -> float:
        a, b, c, d = self._coefficients()
        return a + b * tokens + c * pairs + d * requests

    def learn(self, batch: Batch, seconds: float) -> None:
        """Take an iteration into account. One that took three times as long as all expectation counts as that.

        Of iterations that nobody asked about in between, the last few hundred count.
        """
        self._unlearnt.append((batch, seconds))

    def _catch_up(self) -> None:
        while self._unlearnt:
            self._learn(*self._unlearnt.popleft())

    def _learn(self, batch: Batch, seconds: float) -> None:
        tokens, pairs, requests = batch.num_tokens, batch.num_pairs, len(batch.chunks)
        prompts = tokens > requests
        self._recent.append(seconds)
        if self._num_steps:
            expected = self._predict(tokens, pairs, requests)
            self._judge(seconds, expected, prompts)
            if self._num_steps > 20:  # somebody else's work on the machine says nothing about ours
                seconds = min(seconds, 3 * expected)
        row = [value / scale for value, scale in zip((1.0, tokens, pairs, requests), SCALES, strict=True)]
        self._seen[prompts].add(row, seconds)
        self._weights = None
        self._num_steps += 1
        self._most_tokens = max(self._most_tokens, tokens)

    def _judge(self, seconds: float, expected: float, prompts: bool) -> None:
        """Note how far a prediction was off."""
        self._errors.append(abs(seconds - expected) / max(expected, 1e-9))
        self._late.append(seconds - expected if prompts else None)
        late = [seconds for seconds in self._late if seconds is not None]
        allowed = min(int(len(self._late) * LATE), len(late) // 2)
        self._margin = max(0.0, *nlargest(allowed + 1, late)[allowed:]) if late else 0.0


class _Moments:
    """What least squares has to know about one kind of iteration; the older ones fade as new ones of that kind come."""

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
