"""The FlashAttention backend, with a stand-in for torch's kernel that does what its documentation says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from inspect import Signature, signature
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from orcinus.runtime.attention import ATTENTION, ReferenceAttention, flash
from orcinus.runtime.attention.flash import FlashAttention
from orcinus.runtime.attention.port import causal_mask
from orcinus.runtime.attention.reference import fused
from tests.examples import examples
from tests.runtime.gpu.batches import MIXED, SIZES, Case, nothing_else_was_written, run, truth

OF_TORCH_2_11 = {"query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k", "return_aux", "scale", "window_size"}


@cache
def documented() -> Signature:
    """The kernel's parameters, from a module that takes seconds to import."""
    from torch.nn.attention.varlen import varlen_attn

    return signature(varlen_attn)


class Stand:
    """torch's kernel, slowly: it checks what FlashAttention-2 checks, and writes no padding row."""

    def __init__(self) -> None:
        self.__signature__ = documented()
        self.calls: list[dict[str, Any]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        given = documented().bind(*args, **kwargs).arguments
        self.calls.append(given)
        q, k, v = (given[name] for name in ("query", "key", "value"))
        assert q.dtype is k.dtype is v.dtype
        assert q.dtype in (torch.float16, torch.bfloat16)
        assert q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
        assert k.shape == v.shape
        assert q.shape[2] == k.shape[2]
        assert q.shape[2] % 8 == 0
        firsts = [given[name] for name in ("cu_seq_q", "cu_seq_k")]
        assert all(first.dtype is torch.int32 and first.is_contiguous() for first in firsts)
        rows, places = ([*zip(ends[:-1], ends[1:], strict=True)] for ends in (first.tolist() for first in firsts))
        assert len(rows) == len(places)
        left, right = given["window_size"]
        assert right == 0
        out = torch.full_like(q, torch.nan)
        for (begin, end), (first, last) in zip(rows, places, strict=True):
            assert 0 <= end - begin <= given["max_q"]
            assert end - begin <= last - first <= given["max_k"]
            assert last <= len(k)
            if end > begin:
                mask = causal_mask(last - first - (end - begin), end - begin, None if left < 0 else left + 1, q.device)
                parts = q[begin:end], k[first:last].transpose(0, 1), v[first:last].transpose(0, 1)
                out[begin:end] = fused(*parts, given["scale"], mask)
        return out


@pytest.fixture(scope="module", autouse=True)
def stand() -> Iterator[Stand]:
    with pytest.MonkeyPatch.context() as patch:
        standing = Stand()
        patch.setattr(flash, "varlen_attn", lambda: standing)
        yield standing


@pytest.fixture(autouse=True)
def _no_calls_yet(stand: Stand) -> None:
    stand.calls.clear()


def half(sizes: list[tuple[int, int]], window: int | None = None, kv_heads: int = 2, dim: int = 16) -> Case:
    return Case(sizes, window, kv_heads=kv_heads, dim=dim, dtype=torch.float16)


@examples(10)
@given(SIZES, st.sampled_from([None, 1, 5, 16, 33]), st.booleans())
def test_random_ragged_batches(sizes: list[tuple[int, int]], window: int | None, padded: bool) -> None:
    """Equal to the formula in float64 and to the reference, whatever room there is for padding."""
    case = half(sizes, window, kv_heads=1)
    ours = run(FlashAttention(), case, padded=padded)
    assert ours.error(truth(case)) < 3e-3
    assert ours.error(run(ReferenceAttention(), case)) < 3e-3
    assert nothing_else_was_written(case, ours)


def test_bfloat16() -> None:
    case = Case(MIXED, dim=64, dtype=torch.bfloat16)
    assert run(FlashAttention(), case).error(truth(case)) < 1e-2


def test_one_call_takes_the_chunks_and_no_call_the_decodes(stand: Stand) -> None:
    run(FlashAttention(), half(MIXED))
    (given,) = stand.calls
    assert len(given["key"]) == 48
    assert given["cu_seq_q"].tolist() == [0, 4, 13, 15]
    assert given["cu_seq_k"].tolist() == [0, 34, 43, 48]
    assert given["max_q"] == 9
    stand.calls.clear()
    run(FlashAttention(), half([(37, 1), (0, 1)]))
    assert not stand.calls


def test_padding_has_no_context(stand: Stand) -> None:
    run(FlashAttention(), half(MIXED), padded=True)
    (given,) = stand.calls
    assert given["cu_seq_k"].tolist() == [0, 34, 43, 48, 48, 48]


def test_a_window_copies_what_can_be_seen_and_no_more(stand: Stand) -> None:
    run(FlashAttention(), half([(30, 4), (0, 9), (3, 2)], window=5))
    (given,) = stand.calls
    assert given["cu_seq_k"].tolist() == [0, 8, 17, 22]
    assert len(given["key"]) <= 15 + 3 * 4
    assert given["window_size"] == (4, 0)  # torch counts only those before a token


def test_torch_s_function_takes_what_is_passed(stand: Stand) -> None:
    """The one that is installed, against which the stand-in binds; and torch 2.11 had all of it but one name."""
    run(FlashAttention(), half([(0, 3)]))
    (given,) = stand.calls
    assert set(given) <= OF_TORCH_2_11 | {"enable_gqa"} <= set(documented().parameters)
    assert given["enable_gqa"]


def test_torch_2_11_need_not_be_told_of_grouped_heads(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    older = [parameter for name, parameter in documented().parameters.items() if name in OF_TORCH_2_11]
    monkeypatch.setattr(stand, "__signature__", documented().replace(parameters=older))
    run(FlashAttention(), half([(0, 3)]))
    (given,) = stand.calls
    assert set(given) <= OF_TORCH_2_11


def test_it_is_chosen_by_its_name() -> None:
    assert isinstance(ATTENTION["flash"](), FlashAttention)
