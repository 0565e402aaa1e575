"""The batches of a profile, and the engine that has room for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orcinus.config import EngineConfig, Resolved
from orcinus.errors import ConfigError
from orcinus.memory.budget import mib
from orcinus.plan import make_plan
from orcinus.runtime.attention import WITH_KERNELS
from orcinus.runtime.transformers_backend import TransformersSpec

WARM_UPS = 3  # iterations that are not measured


@dataclass(frozen=True, slots=True)
class ProfiledBatch:
    """A kind of iteration: decodes at one context, one chunk of a prompt, or both (SARATHI's decode-maximal batch)."""

    decodes: int = 0
    context: int = 0  # tokens that each decode attends to, itself included, in the middle of the measurement
    prompt: int = 0  # tokens of the chunk, the last one of its prompt
    start: int = 0  # tokens of the prompt before it, whose keys and values are in memory

    @property
    def name(self) -> str:
        decodes = f"decode of {self.decodes} at {self.context} tokens"
        if not self.prompt:
            return decodes
        return (
            f"prefill of {self.prompt} tokens"
            + f" after {self.start}" * bool(self.start)
            + f" beside {decodes}" * bool(self.decodes)
        )

    @property
    def tokens(self) -> int:
        """Tokens in an iteration."""
        return self.prompt + self.decodes

    @property
    def prompt_lengths(self) -> tuple[int, int]:
        """Tokens of the chunk's prompt, and of its output."""
        return self.start + self.prompt, 1

    def decode_lengths(self, repeats: int) -> tuple[int, int]:
        """Tokens of each decode's prompt, and most tokens of its output.

        A decode takes part in all iterations: the warm-ups, and `repeats` pairs of one without timers and one with them.
        """
        return self.context - _middle(repeats) - 1, WARM_UPS + 2 * repeats + 2

    def requests(self, repeats: int) -> list[int]:
        """Most tokens of each request."""
        found = [sum(self.decode_lengths(repeats))] * self.decodes
        return [*found, sum(self.prompt_lengths)] if self.prompt else found

    def num_blocks(self, repeats: int, block_size: int) -> int:
        """K/V blocks of all its requests, with one more for each."""
        return sum(-(-tokens // block_size) + 1 for tokens in self.requests(repeats))


def _middle(repeats: int) -> int:
    """Iterations before the timed one in the middle."""
    return WARM_UPS + 2 * (repeats // 2) + 1


def batches_of(
    sizes: Sequence[int],
    contexts: Sequence[int],
    prompts: Sequence[int],
    repeats: int,
    starts: Sequence[int] = (0,),
    *,
    mixed: bool = False,
) -> list[ProfiledBatch]:
    """Decodes of every size at every context, then chunks of every size from every start; `mixed`: then each beside each.

    Raises `ConfigError`.
    """
    bounds = ("batch-size", sizes, 1), ("context", contexts, _middle(repeats) + 2), ("prompt", prompts, 2), ("start", starts, 0)
    for name, values, least in bounds:
        if values and min(values) < least:
            why = f", because each decode goes on for {repeats} repeats" if name == "context" else ""
            raise ConfigError(f"--{name} must be at least {least}, not {min(values)}{why}")
    decodes = [ProfiledBatch(size, context) for context in contexts for size in sizes]
    chunks = [ProfiledBatch(prompt=tokens, start=start) for start in starts for tokens in prompts]
    found = decodes + chunks
    if mixed:
        found += [replace(chunk, decodes=each.decodes, context=each.context) for each in decodes for chunk in chunks]
    if not found:
        raise ConfigError("there is nothing to profile: give --batch-size and --context, or --prompt")
    return found


def profile_config(
    config: EngineConfig, batches: Sequence[ProfiledBatch], repeats: int, *, keep_batch_size: bool = False
) -> EngineConfig:
    """The config with limits and K/V memory for these batches, unless it sets its own.

    `max_batch_size` is raised to the largest batch, unless it is to be kept. Raises `ConfigError` if the engine cannot be
    profiled or has no room for a batch, `ModelError` as plans do. No weight is read.
    """
    if config.tp * config.pp > 1:
        raise ConfigError(
            "profile runs on one device: ranks are processes, which its timers do not reach; leave out --tp and --pp"
        )
    plan = make_plan(config)
    if plan.device.device.type != "cpu" or plan.resolved.attention in WITH_KERNELS:
        raise ConfigError(
            "profile is for CPUs: its timers would see launches of a GPU, not its kernels; leave out --device and --attention"
        )
    if isinstance(plan.model.checkpoint.spec, TransformersSpec):
        raise ConfigError(
            f"profile puts timers on layers of our own, and those of {plan.resolved.architecture} are transformers': "
            "choose a model of `orcinus models`"
        )
    longest, positions = max(max(batch.requests(repeats)) for batch in batches), plan.model.checkpoint.spec.longest_request
    if config.max_model_len is None and longest > positions:
        raise ConfigError(
            f"requests of {longest} tokens are needed, and the model has {positions} positions: "
            "lower --context, --prompt or --start"
        )
    sizes = [] if keep_batch_size else [len(batch.requests(repeats)) for batch in batches]
    most = max([config.max_batch_size, *sizes])
    changes: dict[str, Any] = {"max_batch_size": most}
    if config.max_model_len is None:
        changes["max_model_len"] = longest
    if config.max_batch_tokens is None:
        changes["max_batch_tokens"] = max([most, *(batch.tokens for batch in batches)])
    if config.num_blocks is None and config.kv_memory_mib is None:
        changes["num_blocks"] = max(batch.num_blocks(repeats, config.block_size) for batch in batches)
    made = replace(config, **changes)
    plan = make_plan(made)
    if "num_blocks" in changes and not plan.fits:
        worst = max(batches, key=lambda batch: batch.num_blocks(repeats, config.block_size))
        memory = plan.memory
        raise ConfigError(
            f"a {worst.name} does not fit into memory: its keys and values take {mib(memory.kv)} MiB, and "
            f"{memory.missing_mib} MiB are missing; lower --batch-size, --context, --prompt or --start, or take a smaller model"
        )
    plan.check()
    for batch in batches:
        check_room(batch, plan.resolved, repeats)
    return made


def check_room(batch: ProfiledBatch, resolved: Resolved, repeats: int) -> None:
    """Raise `ConfigError` if a batch exceeds a limit of the engine or its K/V memory."""
    limits, lengths = resolved.limits, batch.requests(repeats)
    if len(lengths) > limits.max_batch_size:
        raise ConfigError(f"a {batch.name} exceeds max_batch_size {limits.max_batch_size}: lower --batch-size, or raise that")
    if batch.tokens > limits.max_batch_tokens:
        raise ConfigError(
            f"a {batch.name} exceeds max_batch_tokens {limits.max_batch_tokens}: lower --batch-size or --prompt, or raise that"
        )
    if max(lengths) > limits.max_model_len:
        raise ConfigError(
            f"a {batch.name} takes requests of {max(lengths)} tokens, more than max_model_len {limits.max_model_len}: "
            "lower --context, --prompt or --start, or raise that"
        )
    if (blocks := batch.num_blocks(repeats, resolved.block_size)) > resolved.num_blocks:
        raise ConfigError(
            f"a {batch.name} needs {blocks} K/V blocks, and there are {resolved.num_blocks}: lower --batch-size or --context, "
            "or raise --num-blocks"
        )
