"""Traces of prompt blocks as JSON lines: Mooncake, and Qwen at Alibaba."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from orcinus.workload.arrival import Arrival
from orcinus.workload.file_position import FilePosition

MOONCAKE_BLOCK = 512  # tokens; its times are milliseconds
QWEN_BLOCK = 16  # tokens; its times are seconds, and its lines have a chat_id


def objects(place: FilePosition, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The objects of JSON lines; empty lines are skipped. Raises `ConfigError`."""
    for line in place.lines(lines):
        found = place.attempt(parse, place, line)
        if found is not None:
            yield found


def parse(place: FilePosition, line: str) -> dict[str, Any]:
    """A line's JSON object. Raises `ConfigError` if it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise place.wrong("it is no JSON object: was the file cut short?")
    return found


def read_block_line(place: FilePosition, fields: dict[str, Any]) -> list[Arrival]:
    """The request of a line, with its time in seconds. Raises `ConfigError`."""
    seconds = place.seconds(fields, "timestamp")
    size, unit = (QWEN_BLOCK, 1.0) if "chat_id" in fields else (MOONCAKE_BLOCK, 1e-3)
    prompt = place.tokens(fields, "input_length")
    blocks = fields.get("hash_ids", [])
    if not isinstance(blocks, list) or not all(type(block) is int for block in blocks):
        raise place.wrong("hash_ids must be a list of whole numbers")
    output = place.tokens(fields, "output_length")
    return [Arrival(seconds * unit, prompt, output, blocks=tuple(blocks), block_tokens=size if blocks else 0)]
