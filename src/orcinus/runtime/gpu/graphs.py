"""CUDA graphs: a forward pass's launches, recorded once, replayed as one.

A decode of a small model is some 250 kernels of a few microseconds, and launching each takes the host longer than that. A graph
has fixed shapes, so it is captured for a few sizes, and a batch runs padded in the smallest that holds it. Decodes alone have
many sizes, because padding costs them most; batches that carry chunks of prompts have fewer. Anything larger runs eagerly: it
keeps the device busy for longer than launches take.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orcinus.core.batch import Batch
from orcinus.core.view import Limits
from orcinus.runtime.batch_columns import BatchColumns
from orcinus.runtime.executor import Eager, out_of_memory, received
from orcinus.runtime.input_batch import Before, Ran
from orcinus.runtime.pack import PackedBatch, Shape

CHUNK_ROWS = (32, 64, 128, 256, 512)  # rows of chunks in one batch
MOST_CHUNKS = 8  # requests among these rows
SECONDS = 60.0  # no capture begins later than this after the first
SHARE = 0.25  # of the free memory before the first capture: graphs keep their activations
NO_CHUNKS = BatchColumns.of(Batch(0, ()), {})
log = logging.getLogger(__name__)

Replay = Callable[[], None]
Work = Callable[[], Tensor]


class CudaCapture:
    """Captures launches in CUDA graphs that share their memory.

    Graphs may share it because they run one at a time, and no old result is read. They also share a stream of their own, and
    with it cuBLAS's workspace (32 MiB on Hopper for each stream). torch frees that workspace with the first graph of the stream
    (pytorch issue 193402), so all graphs live equally long.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self._pool = device, torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graphs: list[torch.cuda.CUDAGraph] = []  # including those whose capture failed

    def __call__(self, work: Work) -> tuple[Tensor, Replay]:
        """Run `work` to compile it, then capture it.

        Returns the memory of its result, and the function that fills it again.
        """
        here = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            work()
        here.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        self._graphs.append(graph)
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            result = work()
        return result, graph.replay

    def free(self) -> int:
        """Free bytes of the device, including those cached by torch."""
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(self.device)[0])


def decode_sizes(most: int) -> list[int]:
    """Numbers of decodes to capture graphs for, up to `most`.

    They are so close that padding adds about an eighth to most batches.
    """
    sizes = [1, 2, 4, *range(8, 64, 8), *range(64, 256, 16), *range(256, most + 32, 32)]
    return [*(size for size in sizes if size < most), most]


def mixed_sizes(most: int) -> list[int]:
    """The same for batches that carry chunks: powers of two."""
    return [*(2**power for power in range(3, most.bit_length()) if 2**power < most), most]


@dataclass(frozen=True, slots=True)
class Graph:
    """A captured graph of one size."""

    shape: Shape
    words: Tensor  # [shape.words] input: a batch
    batch: tuple[PackedBatch, ...]  # views of `words`, one per group of layers
    received: Tensor | None  # [shape.rows, hidden_size] further input: hidden states of the stage before
    hidden: Tensor  # [shape.rows, hidden_size] output
    replay: Replay


class Graphed:
    """Replays the captured graph that holds a batch, or runs eagerly."""

    def __init__(self, eager: Eager, limits: Limits, capture: Callable[[Work], tuple[Tensor, Replay]]) -> None:
        self.eager, self.limits, self._capture = eager, limits, capture
        attend = eager.model.attend
        self.decodes = decode_sizes(limits.max_batch_size) if attend.captures_decodes else []
        self.mixed = mixed_sizes(limits.max_batch_size)
        self.chunk_rows = [rows for rows in CHUNK_ROWS if rows <= limits.max_batch_tokens and attend.captures_chunks]
        self.graphs: dict[tuple[int, int], Graph] = {}  # (decodes, rows of chunks)
        self.captured: dict[int, list[int]] = {}  # rows of chunks -> numbers of decodes, ascending

    def __call__(self, columns: BatchColumns, shape: Shape, before: Before | None) -> Ran:
        graph = self._find(shape)
        if graph is None:
            return self.eager(columns, shape, before)
        packed, firsts = self.eager.inputs.load(columns, graph.shape, before, into=graph.words)
        model = self.eager.model
        states = received(model, shape.rows)
        if graph.received is not None and states is not None:
            graph.received[: shape.decodes] = states[: shape.decodes]
            graph.received[graph.shape.decodes :][: shape.chunk_rows] = states[shape.decodes :]
        graph.replay()
        if not model.place.last:  # without padding: the next stage may have captured other sizes
            chunks = graph.hidden[graph.shape.decodes :][: shape.chunk_rows]
            model.collectives.send(torch.cat((graph.hidden[: shape.decodes], chunks)))
        return Ran(graph.hidden, packed[0].sample_rows, firsts)

    def capture(self, free: Callable[[], int], seconds: float = SECONDS) -> None:
        """Capture all sizes, the largest first.

        Stops after `seconds`, or when a quarter of the free memory is used.
        """
        began, room = time.monotonic(), free()
        sizes = [(decodes, 0) for decodes in reversed(self.decodes)]
        sizes += [(decodes, rows) for rows in reversed(self.chunk_rows) for decodes in reversed(self.mixed)]
        for number, (decodes, rows) in enumerate(sizes):
            if time.monotonic() - began > seconds or free() < room * (1 - SHARE):
                log.warning("%d of %d CUDA graphs were captured: other batches run eagerly", number, len(sizes))
                break
            try:
                self.graphs[decodes, rows] = self._record(self._shape(decodes, rows))
            except Exception as error:
                if not out_of_memory(error):
                    raise
                log.warning("%d of %d CUDA graphs were captured, then memory was short", number, len(sizes))
                break
        for decodes, rows in sorted(self.graphs):
            self.captured.setdefault(rows, []).append(decodes)
        taken = (room - free()) >> 20
        log.info("%d CUDA graphs captured in %.1f s, %d MiB", len(self.graphs), time.monotonic() - began, taken)

    def _shape(self, decodes: int, rows: int) -> Shape:
        length = self.limits.max_model_len
        blocks = -(-length // self.eager.inputs.packer.block_size)
        chunks = min(MOST_CHUNKS, rows // 2)
        groups = self.eager.model.spec.num_kv_groups
        return Shape(decodes, chunks, rows, rows, decodes + chunks, groups, blocks, length, chunks * length)

    @torch.inference_mode()
    def _record(self, shape: Shape) -> Graph:
        words = torch.empty(shape.words, dtype=torch.int32, device=self.eager.inputs.link.device)
        packed, _ = self.eager.inputs.load(NO_CHUNKS, shape, None, into=words)
        model, kv = self.eager.model, self.eager.kv
        if model.place.first:
            hidden, replay = self._capture(lambda: model(packed, kv))
            return Graph(shape, words, packed, None, hidden, replay)
        states = torch.zeros(shape.rows, model.spec.hidden_size, dtype=model.dtype, device=words.device)
        hidden, replay = self._capture(lambda: model(packed, kv, states.clone()))  # which the model overwrites
        return Graph(shape, words, packed, states, hidden, replay)

    def _find(self, shape: Shape) -> Graph | None:
        """The smallest captured size that holds a batch.

        Padding decodes is cheap, padding rows of chunks is not.
        """
        rows = _least(self.chunk_rows, shape.chunk_rows) if shape.chunk_rows else 0
        if rows is None or rows not in self.captured:
            return None
        decodes = _least(self.captured[rows], shape.decodes)
        graph = self.graphs[decodes, rows] if decodes is not None else None
        return graph if graph is not None and graph.shape.holds(shape) else None


def _least(sizes: Sequence[int], wanted: int) -> int | None:
    """The smallest of ascending sizes that is at least `wanted`."""
    place = bisect_left(sizes, wanted)
    return sizes[place] if place < len(sizes) else None
