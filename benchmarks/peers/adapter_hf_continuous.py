"""The continuous batching of transformers: requests join and leave a running batch, with paged keys and values."""

from __future__ import annotations

import math
import os
from time import perf_counter
from typing import Any

from adapter_hf_generate import load_model, versions
from protocol import Ids, Load, Loaded, Ran, Run, serve
from transformers import ContinuousBatchingConfig, GenerationConfig

PAGE_SIZE = 256  # tokens, the library's default
NO_END_OF_TEXT = -1


def load(asked: Load) -> tuple[Loaded, Run]:
    """Memory for a full batch of the longest requests, twice: the library stops admitting when a fifth is left."""
    model = load_model(asked)
    num_blocks = 2 * asked.max_batch_size * math.ceil(asked.max_model_len / PAGE_SIZE)
    config = ContinuousBatchingConfig(page_size=PAGE_SIZE, num_blocks=num_blocks, max_requests_per_batch=asked.max_batch_size)
    greedy = GenerationConfig(do_sample=False, eos_token_id=NO_END_OF_TEXT, max_new_tokens=asked.max_model_len)
    manager = model.init_continuous_batching(generation_config=greedy, continuous_batching_config=config)
    manager.start()
    loaded = Loaded(
        versions(), {"attention": model.config._attn_implementation, "page_size": PAGE_SIZE, "num_blocks": num_blocks}
    )
    return loaded, lambda prompts, output_tokens: run(manager, prompts, output_tokens)


def run(manager: Any, prompts: Ids, output_tokens: list[int]) -> Ran:
    start, waiting, found = perf_counter(), dict[str, int](), dict[int, Any]()
    for number, (prompt, count) in enumerate(zip(prompts, output_tokens, strict=True)):
        name = manager.add_request(prompt, max_new_tokens=count, record_timestamps=True, eos_token_id=NO_END_OF_TEXT)
        waiting[name] = number
    while waiting:
        result = manager.get_result(timeout=1)
        if result is None and not manager.is_running():
            raise RuntimeError("the thread that generates has ended")
        if result is not None and result.is_finished():
            if result.error:
                raise RuntimeError(result.error)
            found[waiting.pop(result.request_id)] = result
    seconds = perf_counter() - start
    results = [found[number] for number in range(len(prompts))]
    times = [[moment - start for moment in result.timestamps] for result in results]
    return Ran(seconds, [list(result.generated_tokens) for result in results], times, [each[-1] for each in times])


if __name__ == "__main__":
    serve(load)
    os._exit(0)  # the thread that generates would keep the process
