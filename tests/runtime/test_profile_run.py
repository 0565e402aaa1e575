"""The iteration that is run to be measured: as large as the limits allow, over a K/V memory of one block."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from orcinus.core.batch import Chunk
from orcinus.core.view import Limits
from orcinus.runtime.attention import ATTENTION
from orcinus.runtime.checkpoint import load_model, open_checkpoint, outline
from orcinus.runtime.device import choose_device
from orcinus.runtime.dummy import fill_at_random
from orcinus.runtime.models import Decoder, Factory
from orcinus.runtime.profile_run import CudaMeter, largest_batches, profile
from tests.examples import examples

Made = Callable[[str], tuple[Any, Path]]


@given(st.integers(1, 40), st.integers(1, 400), st.integers(1, 60), st.sampled_from([1, 4, 16]))
def test_the_largest_batches_are_as_large_as_the_limits_allow(size: int, tokens: int, length: int, block_size: int) -> None:
    batches = largest_batches(Limits(size, tokens, length), block_size)
    tokens = min(tokens, size * length)
    for batch in batches:
        assert batch.num_tokens == tokens
        assert len({chunk.request_id for chunk in batch.chunks}) == len(batch.chunks) <= size
        for chunk, new in zip(batch.chunks, batch.new, strict=True):
            assert chunk.samples
            assert chunk.tokens
            assert chunk.end == length
            assert new.request_id == chunk.request_id
            assert new.blocks == ((0,) * -(-length // block_size),)
    counts = [[len(chunk.tokens) for chunk in batch.chunks] for batch in batches]
    assert min(map(len, counts)) == -(-tokens // length), "as few prompts as can have them"
    assert max(map(len, counts)) == min(size, tokens), "as many requests as can be"
    pieces = max(sum(count > 1 for count in one) for one in counts)
    assert pieces == min(size, tokens // 2) or length == 1, "as many pieces of prompts as can be"


class Watch:
    """A meter that only remembers."""

    def __init__(self, answer: int) -> None:
        self.answer, self.told = answer, list[str]()

    def start(self) -> None:
        self.told.append("start")

    def peak(self) -> int:
        self.told.append("peak")
        return self.answer


@pytest.mark.parametrize("attention", ["reference", "cpu"])
@pytest.mark.parametrize("name", ["qwen3", "gpt2", "mistral-sliding-window"])
def test_a_profile_runs_the_whole_model_and_reads_the_meter(checkpoint: Made, name: str, attention: str) -> None:
    device = choose_device("cpu", "float32", None)
    model = load_model(open_checkpoint(checkpoint(name)[1]), device, ATTENTION[attention]())
    meter, seen = Watch(12345), list[tuple[int, ...]]()

    def choose(logits: Tensor, chunks: Sequence[Chunk]) -> None:
        assert meter.told == ["start"], "sampling counts too"
        assert torch.isfinite(logits).all()
        seen.append((*logits.shape, len(chunks)))

    limits = Limits(max_batch_size=5, max_batch_tokens=150, max_model_len=70)
    assert profile(model, device.dtype, device.device, 8, limits, choose, meter) == 12345
    assert seen == [(3, 97, 3), (5, 97, 5), (5, 97, 5)], "150 tokens of as few requests as can have them, and of as many"
    assert meter.told == ["start", "peak"]


class LiveTensors(TorchDispatchMode):
    """A meter that adds up the tensors there are, wherever they are."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.most = 0

    def start(self) -> None:
        self.__enter__()

    def peak(self) -> int:
        self.__exit__(None, None, None)
        return self.most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for storage in (x.untyped_storage() for x in tree_leaves(made) if isinstance(x, Tensor)):
            if storage._cdata not in given and storage._cdata not in self.sizes:
                self.sizes[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.sizes.pop, storage._cdata, None)
        self.most = max(self.most, sum(self.sizes.values()))
        return made


def test_no_smaller_iteration_works_with_more(checkpoint: Made) -> None:
    spec, device = open_checkpoint(checkpoint("qwen3")[1]).spec, torch.device("cpu")
    model = Decoder(spec, ATTENTION["reference"](), Factory(device, torch.float32))  # whose weights are not packed
    fill_at_random(model, outline(spec))

    def measured(limits: Limits) -> int:
        return profile(model, torch.float32, device, 16, limits, lambda logits, _: logits.sort(), LiveTensors())

    measured(Limits(12, 300, 128))  # a CPU keeps the angles of all positions from now on; GPUs, which are measured, keep none

    @given(st.tuples(*[st.integers(1, 12)] * 2), st.tuples(*[st.integers(1, 300)] * 2), st.tuples(*[st.integers(1, 128)] * 2))
    @examples(25)
    def smaller_is_less(size: tuple[int, int], tokens: tuple[int, int], length: tuple[int, int]) -> None:
        smaller, larger = (measured(Limits(*map(pick, (size, tokens, length)))) for pick in (min, max))
        assert 0 < smaller <= larger * 1.02  # batches of equal tokens differ in a few words

    smaller_is_less()


def test_memory_that_runs_out_is_for_the_caller(checkpoint: Made) -> None:
    device = choose_device("cpu", "float32", None)
    model = load_model(open_checkpoint(checkpoint("qwen3")[1]), device, ATTENTION["reference"]())

    def choose(*_: object) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        profile(model, device.dtype, device.device, 16, Limits(2, 8, 8), choose, Watch(0))


def test_a_gpu_s_meter_asks_for_the_peak_beyond_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def play(name: str, answer: int = 0) -> None:
        def called(device: torch.device | None = None) -> int:
            told.append(name)
            return answer

        monkeypatch.setattr(torch.cuda, name, called)

    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
        play(name)
    play("memory_allocated", 1000)
    play("max_memory_allocated", 1700)
    meter = CudaMeter(torch.device("cuda"))
    meter.start()
    assert told == ["synchronize", "empty_cache", "reset_peak_memory_stats", "memory_allocated"]
    assert meter.peak() == 700
    assert told[-2:] == ["synchronize", "max_memory_allocated"]
