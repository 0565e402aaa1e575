"""How many tokens and K/V blocks an engine has room for.

    a machine's memory    weights | K/V: a full batch, at most half of the rest | working memory of as many tokens as fit
    a GPU's memory        weights | working memory of 8192 tokens, at most half of the rest | K/V: all that is left | margin

A machine has other uses for its memory, a GPU has not. So its keys and values come last, as in vLLM, unless a user says how
much they may take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orcinus.config import EngineConfig
from orcinus.errors import ConfigError, plural
from orcinus.memory.budget import MIB, mib

SHARE = (
    0.5  # of what is beside the weights, for K/V or working memory, the one that is sized first, unless a user gave its size
)
GPU_TOKENS = 8192  # of an iteration, by default: 500 to 600 keep a GPU busy (Sarathi-Serve, figure 5)
ROOM = "what fits into working memory"


@dataclass(frozen=True, slots=True)
class Profiled:
    """The measured largest iteration of a GPU, which corrects later estimates."""

    working: int  # bytes, measured
    estimated: int  # bytes estimated for it
    tokens: int  # in the iteration


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Free memory of an engine, and the bytes of its parts."""

    free: int  # beside the weights; may be below 0
    block_bytes: int  # of one K/V block
    estimate: Callable[[int, int], int]  # bytes of an iteration: number of tokens, longest request -> bytes
    positions: int  # tokens of the longest request that the model was made for
    longest: int  # the longest that a user may ask for: rope scaling stretches some models
    on_gpu: bool
    profiled: Profiled | None = None

    def working(self, tokens: int, model_len: int) -> int:
        """Bytes that an iteration works with."""
        estimate = self.estimate(tokens, model_len)
        return estimate if self.profiled is None else estimate * self.profiled.working // self.profiled.estimated


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The decided sizes."""

    model_len: int  # tokens of the longest request
    tokens: int  # most in one iteration
    tokens_reason: str
    num_blocks: int
    kv_reason: str
    working: int  # bytes of the largest iteration


def decide_sizes(config: EngineConfig, space: Space) -> Sizes:
    """The requested sizes, and the largest that fit for all others.

    Requested sizes may take more than is free: the budget then does not fit. Raises `ConfigError` if options contradict the
    model or each other.
    """
    asked = config.max_model_len
    if asked is not None and asked > space.longest:
        raise ConfigError(f"max_model_len {asked} is more than the {space.longest} positions of this model: lower it")
    if space.on_gpu and config.num_blocks is None and config.kv_memory_mib is None:
        return _tokens_first(config, space, asked or space.positions)
    return _kv_first(config, space, asked or space.positions)


def decide_for_ranks(config: EngineConfig, spaces: Sequence[Space]) -> list[Sizes]:
    """Sizes for devices that share one engine's blocks and limits.

    The device with least room rules. The sizes differ in `working` alone. Raises `ConfigError` as `decide_sizes` does.
    """
    each = [decide_sizes(config, space) for space in spaces]
    if len(each) == 1:
        return each
    blocks = min(each, key=lambda sizes: sizes.num_blocks)
    tokens = min(each, key=lambda sizes: sizes.tokens)
    model_len = min(sizes.model_len for sizes in each)
    most = min(tokens.tokens, config.max_batch_size * model_len, blocks.num_blocks * config.block_size)
    shared = replace(blocks, model_len=model_len, tokens=tokens.tokens, tokens_reason=tokens.tokens_reason)
    return [replace(shared, working=space.working(most, model_len)) for space in spaces]


def largest(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest number from `low` to `high` that holds, by bisection.

    None if none holds.
    """
    if low > high or not holds(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def rounded_down(number: int) -> int:
    """The number, rounded down to four significant binary digits."""
    digits = max(0, number.bit_length() - 4)
    return number >> digits << digits


def _tokens_first(config: EngineConfig, space: Space, model_len: int) -> Sizes:
    """Sizes on a GPU: first tokens of an iteration, then K/V.

    An iteration works with at most half of what is free; keys and values get the rest.
    """
    full, least = config.max_batch_size * model_len, _least_blocks(config, model_len)
    budget = min(int(space.free * SHARE), space.free - least * space.block_bytes)
    tokens, why = _tokens(config, space, model_len, full, budget)
    working = space.working(min(tokens, full), model_len)
    num_blocks, kv_reason = (space.free - working) // space.block_bytes, "all that weights and working memory leave"
    if num_blocks < least:
        num_blocks, kv_reason = least, _least_reason(config)
    room = num_blocks * config.block_size
    if config.max_batch_tokens is None:
        tokens = min(tokens, room)
    return Sizes(
        model_len=min(model_len, room),
        tokens=tokens,
        tokens_reason=why,
        num_blocks=num_blocks,
        kv_reason=kv_reason + _lowered(room, model_len),
        working=working,
    )


def _kv_first(config: EngineConfig, space: Space, model_len: int) -> Sizes:
    """Sizes on a CPU: K/V memory first, then tokens of an iteration.

    K/V memory has the requested size, or at most half of what is free.
    """
    first = max(config.max_batch_size, min(config.max_batch_tokens or 0, config.max_batch_size * model_len))
    num_blocks, kv_reason = _num_blocks(config, space, model_len, space.free - space.working(first, model_len))
    room = num_blocks * config.block_size
    if room < model_len and config.max_model_len is not None:
        raise ConfigError(
            f"the K/V pool holds {room} tokens, not even one request of max_model_len {config.max_model_len}"
            ": lower max_model_len or give the pool more memory"
        )
    kv_reason += _lowered(room, model_len)
    model_len = min(model_len, room)
    full = min(config.max_batch_size * model_len, room)  # every token of an iteration needs its place in the K/V memory
    tokens, why = _tokens(config, space, model_len, full, space.free - num_blocks * space.block_bytes)
    return Sizes(
        model_len=model_len,
        tokens=tokens,
        tokens_reason=why,
        num_blocks=num_blocks,
        kv_reason=kv_reason,
        working=space.working(min(tokens, full), model_len),
    )


def _tokens(config: EngineConfig, space: Space, model_len: int, full: int, budget: int) -> tuple[int, str]:
    """The most tokens of an iteration within `budget` bytes, and why."""
    if config.max_batch_tokens is not None:
        return config.max_batch_tokens, "max_batch_tokens was asked for"
    requests = config.max_batch_size
    ceilings = [(requests * model_len, f"what {plural(requests, 'request')} of {plural(model_len, 'token')} can need")]
    if space.on_gpu:
        busy = f"{GPU_TOKENS} keep a GPU busy: more would only take memory from keys and values"
        ceilings += [(full, "what the K/V memory holds"), (GPU_TOKENS, busy)]
    if space.profiled is not None:
        ceilings.append((space.profiled.tokens, ROOM))
    usual, why = min(ceilings, key=lambda ceiling: ceiling[0])
    if space.working(min(usual, full), model_len) <= budget:
        return usual, why
    least = min(full, requests)  # a token for each request, even if that does not fit
    return largest(lambda tokens: space.working(tokens, model_len) <= budget, least, min(usual, full)) or least, ROOM


def _num_blocks(config: EngineConfig, space: Space, model_len: int, free: int) -> tuple[int, str]:
    """The number of K/V blocks, and its reason.

    Without memory for them it is the least number needed.
    """
    if config.num_blocks is not None:
        return config.num_blocks, "num_blocks was asked for"
    if config.kv_memory_mib is not None:
        if config.kv_memory_mib * MIB < space.block_bytes:
            raise ConfigError(
                f"kv_memory_mib {config.kv_memory_mib} is too little: one block takes {mib(space.block_bytes)} MiB"
            )
        return config.kv_memory_mib * MIB // space.block_bytes, "kv_memory_mib was asked for"
    wanted = config.max_batch_size * -(-model_len // config.block_size)
    room = max(0, int(free * SHARE) // space.block_bytes)
    if wanted <= room:
        return wanted, f"room for {plural(config.max_batch_size, 'request')} of {plural(model_len, 'token')}"
    if room < (least := _least_blocks(config, model_len)):
        return least, _least_reason(config)
    full = f"a full batch would need {mib(wanted * space.block_bytes)} MiB"
    return room, f"half of the {free // MIB} MiB beside the weights ({full})"


def _least_blocks(config: EngineConfig, model_len: int) -> int:
    return -(-model_len // config.block_size) if config.max_model_len else 1


def _least_reason(config: EngineConfig) -> str:
    return "the least there can be: " + ("one request of max_model_len" if config.max_model_len else "one block")


def _lowered(room: int, model_len: int) -> str:
    return f"; the model length is lowered to it from {model_len}" if room < model_len else ""
