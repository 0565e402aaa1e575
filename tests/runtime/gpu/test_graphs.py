"""Captured sizes: a batch runs in the smallest that holds it, and padding changes nothing. A recorder plays the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from orcinus import LLM, SamplingParams
from orcinus.core.view import Limits
from orcinus.runtime.gpu import executor as put_together
from orcinus.runtime.gpu import graphs
from orcinus.runtime.gpu.graphs import CudaCapture, Graphed, decode_sizes, mixed_sizes
from orcinus.runtime.parallel.mesh import WHOLE
from tests.product import part

Made = Callable[[str], tuple[Any, Path]]
PARAMS = SamplingParams(max_tokens=4, temperature=0, ignore_eos=True)


class Recorder:
    """Records a function as a graph would: its result keeps its memory, and each replay fills it again."""

    def __init__(self, device: torch.device) -> None:
        self.played = 0

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        result = work().clone()

        def replay() -> None:
            self.played += 1
            result.copy_(work())

        return result, replay

    def free(self) -> int:
        return 1 << 30


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Graphed]:
    """Executors are made with graphs, which are collected here."""
    made: list[Graphed] = []

    class Kept(Graphed):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            made.append(self)

    build = put_together.gpu_executor

    def with_graphs(*parts: Any, graphs: bool) -> Any:
        assert not graphs, "a CPU has none"
        return build(*parts, graphs=True)

    monkeypatch.setattr(graphs, "CHUNK_ROWS", (8,))
    monkeypatch.setattr(put_together, "CudaCapture", Recorder)
    monkeypatch.setattr(put_together, "Graphed", Kept)
    monkeypatch.setattr(put_together, "gpu_executor", with_graphs)
    return made


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "policy"), part(("qwen3", "stall-free:token_budget=8"), full=[("gpt2-scaled-by-layer-untied", "orca")])
)
def test_padding_changes_no_token(checkpoint: Made, recorded: list[Graphed], name: str, policy: str) -> None:
    folder = checkpoint(name)[1]
    sizes = {"policy": policy, "max_batch_size": 2, "max_batch_tokens": 20, "max_model_len": 32, "block_size": 8}
    prompts = [[1], [2, 3, 4], [5] * 8]
    with LLM(folder, attention="reference", **sizes) as llm:
        expected = [output.token_ids for output in llm.generate(prompts, PARAMS)]
    with LLM(folder, attention="triton", **sizes) as llm:
        assert [output.token_ids for output in llm.generate(prompts, PARAMS)] == expected
    (graphed,) = recorded
    assert set(graphed.graphs) == {(1, 0), (2, 0), (2, 8)}
    assert graphed._capture.played >= 5  # type: ignore[attr-defined]


def test_what_is_too_large_for_every_graph_runs_eagerly(checkpoint: Made, recorded: list[Graphed]) -> None:
    with LLM(checkpoint("gpt2-scaled-by-layer-untied")[1], attention="triton", max_batch_size=1, max_model_len=16) as llm:
        (graphed,) = recorded
        played = graphed._capture.played  # type: ignore[attr-defined]
        llm.generate([list(range(9))], SamplingParams(max_tokens=1, temperature=0))
        assert graphed._capture.played == played, "9 tokens do not fit into 8 rows"  # type: ignore[attr-defined]
        llm.generate([list(range(7))], SamplingParams(max_tokens=1, temperature=0))
        assert graphed._capture.played == played + 1  # type: ignore[attr-defined]


class Layers:
    """What is captured, and what it says of itself."""

    captures_decodes = True
    place = WHOLE
    spec = SimpleNamespace(num_kv_groups=1)

    def __init__(self, captures_chunks: bool) -> None:
        self.attend, self.captures_chunks = self, captures_chunks

    def __call__(self, packed: Tensor, kv: object) -> Tensor:
        return torch.zeros(1)


class Runner:
    """What capturing needs of a runner, and nothing else."""

    def __init__(self, captures_chunks: bool) -> None:
        self.inputs = self.packer = self.link = self
        self.block_size, self.kv, self.device = 16, (), torch.device("cpu")
        self.model = Layers(captures_chunks)

    def load(self, columns: object, shape: Any, before: object, into: Tensor) -> tuple[Tensor, list[int]]:
        return into, []


def graphed(capture: Callable[..., Any], *, chunks: bool = True) -> Graphed:
    return Graphed(Runner(chunks), Limits(64, 1024, 2048), capture)  # type: ignore[arg-type]


def test_only_what_the_backend_can_capture_is_captured() -> None:
    one = graphed(Recorder(torch.device("cpu")), chunks=False)
    one.capture(lambda: 1 << 30)
    assert set(one.graphs) == {(decodes, 0) for decodes in one.decodes}


def test_the_largest_are_captured_first_and_decodes_before_all_else() -> None:
    one = graphed(Recorder(torch.device("cpu")))
    one.capture(lambda: 1 << 30)
    sizes = list(one.graphs)
    assert sizes[: len(one.decodes)] == [(decodes, 0) for decodes in reversed(one.decodes)]
    assert sizes[len(one.decodes)] == (64, 512), "then those with most rows of chunks"
    assert len(sizes) == len(one.decodes) + len(one.mixed) * len(one.chunk_rows)


def test_time_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    one = graphed(Recorder(torch.device("cpu")))
    one.capture(lambda: 1 << 30, seconds=-1)
    assert not one.graphs
    assert "other batches run eagerly" in caplog.text


def test_memory_is_bounded() -> None:
    """A quarter of what is free, in steps of a tenth."""
    left = iter(range(100, 0, -10))
    one = graphed(Recorder(torch.device("cpu")))
    one.capture(lambda: next(left))
    assert len(one.graphs) == 2


def test_what_was_captured_before_memory_was_short_is_used(caplog: pytest.LogCaptureFixture) -> None:
    record, calls = Recorder(torch.device("cpu")), []

    def capture(work: Callable[[], Tensor]) -> Any:
        calls.append(work)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return record(work)

    one = graphed(capture)
    one.capture(lambda: 1 << 30)
    assert len(one.graphs) == 3
    assert "then memory was short" in caplog.text


def test_the_end_of_a_capture_may_hide_that_memory_was_short(caplog: pytest.LogCaptureFixture) -> None:
    """torch ends a capture while the error is on its way, and CUDA then says only that there was one."""

    def capture(work: Callable[[], Tensor]) -> Any:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    graphed(capture).capture(lambda: 1 << 30)
    assert "then memory was short" in caplog.text


def test_what_was_left_out_runs_in_the_next_larger_graph_of_as_many_rows_of_chunks() -> None:
    """The largest are captured first, so small batches of decodes lack theirs."""
    left = iter([100, 100, 100, 100, 10, 10])
    one = graphed(Recorder(torch.device("cpu")))
    one.capture(lambda: next(left))
    assert set(one.graphs) == {(64, 0), (56, 0), (48, 0)}
    shape = one._shape(2, 0)
    assert one._find(shape) is one.graphs[48, 0]
    assert one._find(replace(shape, decodes=50)) is one.graphs[56, 0]
    assert one._find(one._shape(2, 32)) is None


def test_a_defect_is_not_taken_for_want_of_memory() -> None:
    def capture(work: Callable[[], Tensor]) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        graphed(capture).capture(lambda: 1 << 30)


def test_all_is_tried_and_captured_on_one_stream_and_no_graph_goes_before_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    current, graphs, told = ["default"], list["Played"](), list[tuple[str, str]]()

    class Played:
        def __init__(self) -> None:
            graphs.append(self)

        def replay(self) -> None: ...

    class Stream:
        def __init__(self, device: torch.device, name: str = "its own") -> None:
            self.name = name

        def wait_stream(self, other: Any) -> None:
            told.append((self.name, f"waits for {other.name}"))

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        current.append(stream.name)
        yield
        current.pop()

    @contextmanager
    def captured(graph: Any, pool: Any, stream: Stream) -> Iterator[None]:
        with on(stream):
            told.append((stream.name, "is captured"))
            yield

    for name, fake in (("Stream", Stream), ("CUDAGraph", Played), ("stream", on), ("graph", captured)):
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(device, current[-1]))

    def work() -> Tensor:
        told.append((current[-1], "works"))
        if len(told) == 10:  # the second capture
            raise torch.OutOfMemoryError
        return torch.zeros(1)

    capture = CudaCapture(torch.device("cuda"))
    capture(work)
    once = [("its own", "waits for default"), ("its own", "works"), ("default", "waits for its own")]
    assert told == [*once, ("its own", "is captured"), ("its own", "works")]
    with pytest.raises(torch.OutOfMemoryError):
        capture(work)
    assert capture._graphs == graphs, "the failed one is kept"


@pytest.mark.parametrize("most", [1, 2, 3, 8, 9, 64, 100, 256, 1000])
def test_every_number_of_decodes_has_a_size_and_padding_is_small(most: int) -> None:
    sizes = decode_sizes(most)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == most
    for wanted in range(1, most + 1):
        size = min(size for size in sizes if size >= wanted)
        assert size - wanted <= max(7, wanted / 4)
    assert mixed_sizes(most)[-1] == most
    assert set(mixed_sizes(most)) <= {most, *(2**power for power in range(12))}
