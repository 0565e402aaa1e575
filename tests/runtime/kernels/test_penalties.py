"""Penalties and biases equal `runtime.sampling.adjust`."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.sampling_params import SamplingParams
from orcinus.runtime.kernels.penalties import add_biases, penalise
from orcinus.runtime.sampling import adjust
from tests.examples import examples
from tests.seam import row as drawn

VOCAB = 12
HISTORIES = st.tuples(st.lists(st.integers(0, VOCAB - 1), min_size=1), st.lists(st.integers(0, VOCAB - 1)))


def lists(rows: list[dict[int, float]], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and what belongs to each, a row each, padded."""
    most = max(map(len, rows), default=0)
    ids = [[*row, *[-1] * (most - len(row))] for row in rows]
    values = [[*row.values(), *[9] * (most - len(row))] for row in rows]
    return torch.tensor(ids, dtype=torch.int32), torch.tensor(values, dtype=dtype)


@examples(40)
@given(
    st.lists(
        st.tuples(HISTORIES, st.sampled_from([1.0, 1.5, 0.7]), st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, -0.3])),
        min_size=1,
        max_size=4,
    )
)
def test_equals_the_formulas(rows: list[tuple[tuple[list[int], list[int]], float, float, float]]) -> None:
    logits = torch.randn(len(rows), VOCAB)
    wanted, seen = logits.clone(), []
    for row, ((prompt, output), repetition, presence, frequency) in enumerate(rows):
        params = SamplingParams(repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency)
        adjust(wanted[row], drawn((*prompt, *output), len(prompt), params))
        generated = Counter(output)
        seen.append({token: generated[token] for token in sorted({*prompt, *output})})
    penalties = (torch.tensor(column, dtype=torch.float32) for column in list(zip(*rows, strict=True))[1:])
    penalise(logits, *lists(seen, torch.int32), *penalties)  # type: ignore[arg-type]
    torch.testing.assert_close(logits, wanted, atol=1e-6, rtol=1e-6)


def test_biases_are_added_and_forbid() -> None:
    logits = torch.zeros(2, VOCAB)
    add_biases(logits, *lists([{3: 2.5, 0: -1.0}, {5: -torch.inf}], torch.float32))
    assert logits[0, :4].tolist() == [-1.0, 0.0, 0.0, 2.5]
    assert logits[1].isinf().nonzero().tolist() == [[5]]


def test_nothing_to_change() -> None:
    logits = torch.ones(2, VOCAB)
    add_biases(logits, *lists([{}, {}], torch.float32))
    assert (logits == 1).all()
