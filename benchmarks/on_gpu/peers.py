"""The workload's requests through Hugging Face transformers: its continuous batching, and `generate` in static batches.

Random weights, greedy, exact lengths, the same device and dtype; settings are the library's own where it has any. A peer
that does not end in its time is stopped, and counted by the tokens that it had made until then: those asked for, not those
that fill up a static batch.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers

from on_gpu.bench import Bench, first_line
from on_gpu.serve import Asked, uniform_requests
from on_gpu.sizes import Load

NO_END_OF_TEXT = -1
WARM_UP = 4  # requests
PAGE = 16  # tokens, for the toys; on a device the library chooses


@dataclass(frozen=True, slots=True)
class Ran:
    """What a peer did."""

    seconds: float
    tokens: int
    ended: int

    @property
    def rate(self) -> float:
        """Output tokens per second."""
        return self.tokens / self.seconds


def run(bench: Bench) -> None:
    model, load = bench.sizes.models[0], bench.sizes.workload
    requests = uniform_requests(load, model.vocab)
    transformers.utils.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False), torch.no_grad():
        peer = random_model(bench, model.write(Path(folder), load.max_model_len, bench.sizes.dtype))
        for name, serve, left in (("continuous batching", continuous, 0.45), ("generate, static batches", static, 0.95)):
            try:
                ran = serve(bench, peer, requests, bench.left() * left)
            except Exception as error:
                bench.row("peers", peer=name, note=first_line(error))
                continue
            cells = {"seconds": ran.seconds, "tokens": ran.tokens, "tokens_per_s": ran.rate, "requests": ran.ended}
            note = "" if ran.ended == len(requests) else "stopped"
            bench.row("peers", peer=name, **cells, orcinus_times_as_fast=ratio(bench, ran.rate), note=note)
    bench.fact("transformers", transformers.__version__)


def ratio(bench: Bench, rate: float) -> float | None:
    """Our own run of the same requests beside it, if it was measured."""
    ours = [row["tokens_per_s"] for row in bench.results.rows("workload", "runs") if row["run"].startswith("as built, greedy")]
    return min(ours) / rate if ours else None


def random_model(bench: Bench, folder: Path) -> Any:
    """The geometry with whatever weights the library draws."""
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device(bench.device):
        made = transformers.AutoModelForCausalLM.from_config(config, dtype=bench.dtype, attn_implementation="sdpa")
    return made.eval()


def continuous(bench: Bench, model: Any, requests: Sequence[Asked], seconds: float) -> Ran:
    """All at once into the library's running batch."""
    began = perf_counter()
    load = bench.sizes.workload
    greedy = transformers.GenerationConfig(
        do_sample=False, eos_token_id=NO_END_OF_TEXT, pad_token_id=0, max_new_tokens=load.max_model_len
    )
    manager = model.init_continuous_batching(generation_config=greedy, continuous_batching_config=settings(bench, load))
    bench.fact("attention of continuous batching", str(model.config._attn_implementation))
    try:
        if bench.device.type == "cuda" and hasattr(manager, "warmup"):
            manager.warmup()  # its graphs are captured
        manager.start()
        play(manager, [Asked(0.0, asked.prompt, 2) for asked in requests[:WARM_UP]], seconds)
        bench.fact("seconds to start continuous batching", perf_counter() - began)
        return play(manager, requests, seconds - (perf_counter() - began))
    finally:
        stop(manager)


def settings(bench: Bench, load: Load) -> Any:
    """The library's own on a device; on a CPU it has to be told how much memory to take."""
    if bench.device.type == "cuda":
        return transformers.ContinuousBatchingConfig(max_requests_per_batch=load.max_batch_size)
    num_blocks = 2 * load.max_batch_size * -(-load.max_model_len // PAGE)
    return transformers.ContinuousBatchingConfig(
        page_size=PAGE, num_blocks=num_blocks, max_requests_per_batch=load.max_batch_size
    )


def play(manager: Any, requests: Sequence[Asked], seconds: float) -> Ran:
    """The requests until all have ended, or for so many seconds."""
    began, tokens, ended = perf_counter(), 0, 0
    for asked in requests:
        manager.add_request(list(asked.prompt), max_new_tokens=asked.output_tokens, eos_token_id=NO_END_OF_TEXT)
    while ended < len(requests) and perf_counter() - began < seconds:
        result = manager.get_result(timeout=0.2)
        if result is None and not manager.is_running():
            raise RuntimeError("the thread that generates has ended")
        if result is not None and result.is_finished():
            if result.error:
                raise RuntimeError(result.error)
            tokens, ended = tokens + len(result.generated_tokens), ended + 1
    took = perf_counter() - began
    return Ran(took, tokens + (unfinished(manager) if ended < len(requests) else 0), ended)


def unfinished(manager: Any) -> int:
    """Tokens of requests that still run, as far as the library lets us look."""
    try:
        running = list(manager.batch_processor.scheduler.active_requests.values())
        return sum(len(state.generated_tokens) for state in running)
    except (AttributeError, RuntimeError):
        return 0


def stop(manager: Any) -> None:
    """At once, whatever is still running."""
    try:
        manager.stop(block=True, timeout=5, hard_stop=True)
    except TypeError:  # older versions wait for all requests
        manager.stop(block=True, timeout=5)


class Over(transformers.StoppingCriteria):  # type: ignore[misc]
    """Ends a batch when the time is over."""

    def __init__(self, until: float) -> None:
        self._until = until

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
        over = time.perf_counter() > self._until
        return torch.full((len(input_ids),), over, dtype=torch.bool, device=input_ids.device)


def static(bench: Bench, model: Any, requests: Sequence[Asked], seconds: float) -> Ran:
    """Batches in the order of the requests, padded on the left, each until its longest answer is done."""
    size = bench.sizes.static_batch
    generate(bench, model, [Asked(0.0, asked.prompt, 2) for asked in requests[:WARM_UP]], perf_counter() + seconds)
    began, tokens, ended = perf_counter(), 0, 0
    until = began + seconds
    for first in range(0, len(requests), size):
        batch = requests[first : first + size]
        steps = generate(bench, model, batch, until)
        tokens += sum(min(asked.output_tokens, steps) for asked in batch)
        ended += sum(asked.output_tokens <= steps for asked in batch)
        if perf_counter() > until:
            break
    return Ran(perf_counter() - began, tokens, ended)


def generate(bench: Bench, model: Any, batch: Sequence[Asked], until: float) -> int:
    """One batch; returns how many tokens each of its rows was given."""
    width, longest = max(len(asked.prompt) for asked in batch), max(asked.output_tokens for asked in batch)
    pad = [(width - len(asked.prompt)) for asked in batch]
    ids = torch.tensor([[0] * gap + list(asked.prompt) for gap, asked in zip(pad, batch, strict=True)], device=bench.device)
    mask = torch.tensor([[0] * gap + [1] * (width - gap) for gap in pad], device=bench.device)
    ends = {"eos_token_id": None, "pad_token_id": 0, "max_new_tokens": longest, "min_new_tokens": longest}
    over = transformers.StoppingCriteriaList([Over(until)])
    found = model.generate(ids, attention_mask=mask, do_sample=False, stopping_criteria=over, **ends)
    return int(found.shape[1]) - width
