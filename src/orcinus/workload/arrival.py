"""One request of a workload."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import inf

from orcinus.core.request import NO_CONTEXT, RequestContext
from orcinus.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request `at` seconds after the start; lengths are in tokens.

    Shared prefixes are described in one of two ways. Requests with an equal non-empty `prefix` begin with the same tokens,
    up to the smaller of their `prefix_tokens`. Or `blocks` names the content of the prompt's leading blocks of
    `block_tokens` each, as published traces do: prompts are equal wherever their blocks are, so this can describe any tree
    of shared prefixes. Raises `ConfigError` for an impossible time or length.
    """

    at: float
    prompt_tokens: int
    output_tokens: int  # tokens that it generates before it stops by itself
    max_tokens: int | None = None  # its max_tokens; None: output_tokens
    client: str = ""
    prefix: str = ""
    prefix_tokens: int = 0
    priority: int = 0
    blocks: tuple[int, ...] = ()
    block_tokens: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.at < inf:
            raise ConfigError(f"a request must arrive at a finite number of seconds of at least 0, not {self.at}")
        if self.prompt_tokens < 1 or self.output_tokens < 1:
            raise ConfigError(
                f"a request needs at least one token of prompt and of output, not {self.prompt_tokens} and {self.output_tokens}"
            )
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"max_tokens of a request must be at least 1, not {self.max_tokens}")
        if not 0 <= self.prefix_tokens <= self.prompt_tokens:
            raise ConfigError(f"a prefix of {self.prefix_tokens} tokens does not lie in a prompt of {self.prompt_tokens}")
        if self.blocks and (self.block_tokens < 1 or self.prefix):
            raise ConfigError("blocks of a prompt need block_tokens of at least 1, and no prefix beside them")

    @property
    def context(self) -> RequestContext:
        """The request's context for an engine, beside its tokens."""
        return RequestContext(self.priority, self.client) if self.priority or self.client else NO_CONTEXT

    @property
    def beginning(self) -> Hashable | None:
        """A key, equal for prompts that begin alike; None if none does."""
        return self.blocks[0] if self.blocks else self.prefix or None

    @property
    def total_tokens(self) -> int:
        """Tokens of prompt and output together."""
        return self.prompt_tokens + self.output_tokens

    @property
    def asked_tokens(self) -> int:
        """The `max_tokens` that an engine is given."""
        return self.output_tokens if self.max_tokens is None else self.max_tokens
