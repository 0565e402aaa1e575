"""The rows of a batch, written in one call: numpy takes twenty."""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numpy as np

from orcinus.runtime.compiled import exact, keep_compiled

START, COUNT, DRAFTS, TABLE, ORDER = range(5)  # what is said of each chunk


@exact(forceinline=True)
def _write_row(at, row, token, position, known, table, block_size):
    tokens, positions, slot_blocks, slot_offsets = at[:4]
    tokens[row], positions[row], slot_offsets[row] = token, position, position % block_size
    for group in range(len(known)):
        slot_blocks[group, row] = known[group, table, position // block_size]


@exact(forceinline=True)
def _write_table(known, table, tables, place):
    """Copy a block table, for every group of layers."""
    for group in range(len(known)):
        for block in range(min(known.shape[2], tables.shape[2])):
            tables[group, place, block] = known[group, table, block]


@exact(forceinline=True)
def _pad(at, begin, end):
    """Fill rows with padding: token 0 at position 0, no slot."""
    tokens, positions, slot_blocks, slot_offsets = at[:4]
    for row in range(begin, end):
        tokens[row], positions[row], slot_offsets[row] = 0, 0, 0
        for group in range(len(slot_blocks)):
            slot_blocks[group, row] = -1


@exact(forceinline=True)
def _fill(numbers, begin, value):
    for place in range(begin, len(numbers)):
        numbers[place] = value


@exact
def write_rows(chunks, num_decodes, ids, known, block_size, at):
    """Write R chunks into the arrays of a `Layout`; return the first row of each, `[R]`.

    `chunks` `[5, R]` has of each the position of its first token, its number of tokens, its drafts (-1: it samples nothing) and
    its row in `known` `[groups, rows, blocks]`, the block tables; at last the order of the rows, as numbers of chunks: first
    `num_decodes` decodes, each with its drafts, then the others. `ids` are the tokens of all, in the batch's order.
    """
    tokens, _, _, _, sources, sample_rows, decode_firsts, decode_ends, decode_tables = at[:9]
    chunk_firsts, chunk_ends, chunk_tables = at[9:]
    counts, order, row, cut = chunks[COUNT], chunks[ORDER], 0, len(decode_ends)
    begins, firsts = np.empty_like(counts), np.empty_like(counts)
    begin = 0
    for number in range(len(counts)):
        begins[number] = begin
        begin += counts[number]
    _fill(sources, 0, -1)
    for place in range(num_decodes):
        number = order[place]
        firsts[number], table = row, chunks[TABLE, number]
        for each in range(counts[number]):
            position = chunks[START, number] + each
            _write_row(at, row, ids[begins[number] + each], position, known, table, block_size)
            _write_table(known, table, decode_tables, row)
            decode_firsts[row], decode_ends[row] = row, position + 1
            row += 1
    _fill(decode_firsts, row, row)
    _pad(at, row, cut)
    row = cut
    for place in range(len(order) - num_decodes):
        number = order[num_decodes + place]
        firsts[number], table, start = row, chunks[TABLE, number], chunks[START, number]
        _write_table(known, table, chunk_tables, place)
        chunk_firsts[place], chunk_ends[place] = row - cut, start + counts[number]
        for each in range(counts[number]):
            _write_row(at, row, ids[begins[number] + each], start + each, known, table, block_size)
            row += 1
    _fill(chunk_firsts, len(order) - num_decodes, row - cut)
    _pad(at, row, len(tokens))
    wanted = 0
    for number in range(len(counts)):
        end = firsts[number] + counts[number]
        if chunks[DRAFTS, number] >= 0:
            for row in range(end - 1 - chunks[DRAFTS, number], end):
                sample_rows[wanted] = row
                wanted += 1
    _fill(sample_rows, wanted, 0)
    return firsts


write_rows = keep_compiled(write_rows)
