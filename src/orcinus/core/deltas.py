"""Batches as deltas: what executors do not know yet or may forget."""

from __future__ import annotations

from collections.abc import Mapping

from orcinus.core.batch import Batch, BlockTables, Chunk, NewRequest, chunk_of
from orcinus.core.ports import KVManager
from orcinus.core.request import Flight, Request


def build_batch(batch_id: int, shares: Mapping[Request, Flight], kv: KVManager, removed: tuple[str, ...]) -> Batch:
    """The batch that runs these shares.

    Marks its requests as in flight, and their blocks as known to executors.
    """
    new: list[NewRequest] = []
    chunks: list[Chunk] = []
    new_blocks: BlockTables
    for request, share in shares.items():
        tables, sent, new_blocks = kv.blocks(request), request.sent, ()
        if sent is None:  # a new request brings its tables itself
            output = tuple(request.output)
            new.append(NewRequest(request.id, request.prompt, output, request.params, request.context, tables))
        elif sent is not tables:
            new_blocks = tuple([table[len(known) :] for table, known in zip(tables, sent, strict=True)])
        chunks.append(_chunk(request, share, new_blocks))
        request.sent = tables
        request.flights += (share,)
    return Batch(batch_id, tuple(chunks), tuple(new), removed)


def _chunk(request: Request, share: Flight, new_blocks: BlockTables) -> Chunk:
    start, follows = request.computed, None
    if request.flights:
        start = request.launched
        follows = request.flights[-1].batch if start >= request.known else None
    tokens = request.tokens(start, share.tokens) if follows is None else (0,)  # any token: the executor fills it in
    drafts = len(share.drafts) if share.samples else None
    return chunk_of((request.id, tokens + share.drafts, start, new_blocks, drafts, start < len(request.prompt), follows))
